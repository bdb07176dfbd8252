package declaration

import "slices"

// matching gives people to rules, each person to one rule and as many as the rules count.
type matching struct {
	rule      map[string]int // person → rule
	shortages []shortage
}

// shortage is a set of rules that, together, need more people than there are for any of them.
type shortage struct {
	rules  []int    // ascending
	people []string // all who could fulfil one of them, sorted
}

func (m *matching) uses(person string) bool {
	_, ok := m.rule[person]
	return ok
}

// match finds people for as many approvals as possible; eligible has the people for each rule. It follows augmenting
// paths (Kuhn's algorithm): where there is none, the rules that were reached are a shortage, by Hall's theorem.
func match(rules []Approval, eligible [][]string) *matching {
	m := &matching{rule: map[string]int{}}
	for i, rule := range rules {
		for range rule.Count {
			visited := map[string]bool{}
			if m.augment(i, eligible, visited) {
				continue
			}
			s := shortage{rules: []int{i}}
			for person := range visited {
				s.people = append(s.people, person)
				s.rules = append(s.rules, m.rule[person])
			}
			slices.Sort(s.people)
			slices.Sort(s.rules)
			s.rules = slices.Compact(s.rules)
			m.shortages = append(m.shortages, s)
			break
		}
	}
	return m
}

// augment finds one more person for the rule, moving others to further rules where that helps.
func (m *matching) augment(rule int, eligible [][]string, visited map[string]bool) bool {
	for _, person := range eligible[rule] {
		if visited[person] {
			continue
		}
		visited[person] = true
		if other, taken := m.rule[person]; !taken || m.augment(other, eligible, visited) {
			m.rule[person] = rule
			return true
		}
	}
	return false
}
