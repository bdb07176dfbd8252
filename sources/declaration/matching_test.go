package declaration

import (
	"fmt"
	"reflect"
	"testing"
)

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		counts   []int
		eligible [][]string
		want     []shortage
	}{
		{[]int{1}, [][]string{{"a"}}, nil},
		{[]int{1}, [][]string{{}}, []shortage{{rules: []int{0}}}},
		{[]int{2}, [][]string{{"a", "b"}}, nil},
		{[]int{2}, [][]string{{"a"}}, []shortage{{rules: []int{0}, people: []string{"a"}}}},
		{[]int{1, 1}, [][]string{{"a", "b"}, {"a"}}, nil}, // the first gives way
		{[]int{1, 1, 1}, [][]string{{"a", "b"}, {"b", "c"}, {"a"}}, nil},
		{[]int{1, 1}, [][]string{{"a"}, {"a"}}, []shortage{{rules: []int{0, 1}, people: []string{"a"}}}},
		{[]int{1, 2}, [][]string{{"a", "b", "c"}, {"b", "c"}}, nil},
		{[]int{1, 1, 1}, [][]string{{"a"}, {}, {"b"}}, []shortage{{rules: []int{1}}}},
		{[]int{2, 1, 1}, [][]string{{"a", "b"}, {"b", "c"}, {"c"}}, []shortage{{rules: []int{0, 1, 2}, people: []string{"a", "b", "c"}}}},
	} {
		rules := make([]Approval, len(c.counts))
		for i, n := range c.counts {
			rules[i].Count = n
		}
		if got := match(rules, c.eligible).shortages; !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v of %v: %v, want %v", c.counts, c.eligible, got, c.want)
		}
	}
}

// Whether there are enough people is what trying every choice says.
func TestMatchAgainstEveryChoice(t *testing.T) {
	people := []string{"a", "b", "c"}
	subset := func(bits int) (list []string) {
		for i, p := range people {
			if bits>>i&1 == 1 {
				list = append(list, p)
			}
		}
		return list
	}
	for n := range 8 * 8 * 8 * 2 {
		eligible := [][]string{subset(n & 7), subset(n >> 3 & 7), subset(n >> 6 & 7)}
		rules := []Approval{{Count: 1}, {Count: 1}, {Count: 1 + n>>9}}
		possible := false
		for _, a := range eligible[0] {
			for _, b := range eligible[1] {
				rest := 0
				for _, p := range eligible[2] {
					if p != a && p != b {
						rest++
					}
				}
				possible = possible || a != b && rest >= rules[2].Count
			}
		}
		if m := match(rules, eligible); possible != (len(m.shortages) == 0) {
			t.Fatalf("%v of %v: possible is %v, shortages are %v", rules, eligible, possible, m.shortages)
		}
	}
}

// A shortage names rules that need more people than all who could fulfil any of them.
func TestShortageIsOne(t *testing.T) {
	var rules []Approval
	var eligible [][]string
	for i := range 6 {
		rules = append(rules, Approval{Count: 2})
		eligible = append(eligible, []string{fmt.Sprint("p", i), fmt.Sprint("p", (i+1)%6), fmt.Sprint("p", (i+3)%6)})
	}
	m := match(rules, eligible)
	if len(m.shortages) == 0 {
		t.Fatal("six people are enough for twelve places")
	}
	for _, s := range m.shortages {
		need := 0
		for _, i := range s.rules {
			need += rules[i].Count
		}
		if need <= len(s.people) {
			t.Errorf("%v need %d of %v", s.rules, need, s.people)
		}
	}
}
