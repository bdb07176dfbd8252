package forge

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// maxPages is the error for a list that goes on after the last page that is read.
func (l Limits) maxPages() error {
	return hint(fmt.Errorf("%w: the list has more than %d pages", ErrUnknown, l.Pages), "what is so far back needs statements instead of reviews")
}

// allPages reads a list to its end. fetch returns one page, counted from 1, and whether the forge says that there is a
// next one; a full page is never believed to be the last, in case something between stripped the forge's word.
func allPages[T any](l Limits, size int, fetch func(page int) ([]T, bool, error)) ([]T, error) {
	var all []T
	for page := 1; page <= l.Pages; page++ {
		items, more, err := fetch(page)
		if err != nil {
			return nil, err
		}
		all = append(all, items...)
		if len(items) == 0 || !more && len(items) < size {
			return all, nil
		}
	}
	return nil, l.maxPages()
}

// line follows first parents from the tip down to the commit, which is the last of the result. more returns the next
// older page of the branch's commits; none at the end. nil when the commit is not on the line.
func line(l Limits, commit string, more func(page int) ([]Commit, error)) ([]Commit, error) {
	known := map[string]Commit{}
	var path []Commit
	next := ""
	for page := 1; page <= l.Pages; page++ {
		commits, err := more(page)
		if err != nil {
			return nil, err
		}
		if len(commits) == 0 {
			return nil, nil
		}
		for _, c := range commits {
			known[c.SHA] = c
		}
		if page == 1 {
			next = commits[0].SHA
		}
		for c, ok := known[next]; ok; c, ok = known[next] {
			path = append(path, c)
			if c.SHA == commit {
				return path, nil
			}
			if len(c.parents) == 0 {
				return nil, nil
			}
			next = c.parents[0]
		}
	}
	return nil, l.maxPages()
}

// rebasedInto returns the pull request of which the last commit of path is an earlier part of a rebase; nil when there is
// none. The path leads from the branch's tip down to the commit. ask returns the pull request, with its commits, whose
// merge ended with a newer commit; nil when there is none. The nearest newer commit that ends a merge decides: a rebase
// puts its commits next to each other.
func rebasedInto(l Limits, path []Commit, ask func(newer string) (*PullRequest, error)) (*PullRequest, error) {
	last := len(path) - 1
	for i := last - 1; i >= 0; i-- {
		if last-i > l.Line {
			return nil, fmt.Errorf("%w: none of the %d commits after it ends a pull request", ErrUnknown, l.Line)
		}
		if len(path[last].parents) != 1 || len(path[i].parents) != 1 {
			return nil, nil // a merge is not part of a rebase, and none leads across it
		}
		pr, err := ask(path[i].SHA)
		if err != nil {
			return nil, err
		}
		if pr == nil {
			continue
		}
		if i+rebased(path[i:], pr.Commits) > last {
			return pr, nil
		}
		return nil, nil
	}
	return nil, nil
}

// rebased returns how many commits of the line, which starts with the newest one that a merge brought, are the pull
// request's commits put onto the branch one by one: the same commit, or one with the same author, time of writing and
// message. A rebase leaves out merges and what the branch has already.
func rebased(line, commits []Commit) int {
	n := 0
	for _, c := range slices.Backward(commits) {
		if n < len(line) && sameChange(line[n], c) {
			n++
		}
	}
	return n
}

func sameChange(a, b Commit) bool {
	if a.SHA == b.SHA {
		return true
	}
	return len(a.parents) == 1 && len(b.parents) <= 1 && a.author == b.author && a.email == b.email && a.date.Equal(b.date) &&
		strings.TrimSpace(a.message) == strings.TrimSpace(b.message)
}

var coAuthor = regexp.MustCompile(`(?im)^co-authored-by:[^\n<]*<([^<>\n]+)>\s*$`)

// claims fills Emails from what the commit says of itself.
func (c *Commit) claims() {
	add := func(email string) {
		email = strings.ToLower(strings.TrimSpace(email))
		if email != "" && !slices.Contains(c.Emails, email) {
			c.Emails = append(c.Emails, email)
		}
	}
	add(c.email)
	add(c.committerEmail)
	for _, m := range coAuthor.FindAllStringSubmatch(c.message, -1) {
		add(m[1])
	}
}

// A push moved a branch.
type push struct {
	before, after string // before is "" or all zeros when the push created the branch
	by            User
}

// pushersOf returns who pushed what became head, following the pushes of its branch backwards, and whether each of them
// is known back to the branch's creation or to where the commits, which are all of the pull request's, branched off.
func pushersOf(head string, commits []Commit, pushes []push) (users []User, known bool) {
	known = true
	base, seen := branchedOff(commits), map[string]bool{}
	for todo := []string{head}; len(todo) > 0; {
		at := todo[0]
		todo = todo[1:]
		if seen[at] {
			continue
		}
		seen[at] = true
		found := false
		for _, p := range pushes {
			if p.after != at {
				continue
			}
			found = true
			if !p.by.Known() {
				known = false
			} else if !slices.ContainsFunc(users, p.by.Same) {
				users = append(users, p.by)
			}
			if strings.Trim(p.before, "0") != "" && !base[p.before] {
				todo = append(todo, p.before)
			}
		}
		if !found {
			known = false
		}
	}
	return users, known
}

// branchedOff are the parents of the commits that are not among them.
func branchedOff(commits []Commit) map[string]bool {
	base := map[string]bool{}
	for _, c := range commits {
		for _, parent := range c.parents {
			base[parent] = true
		}
	}
	for _, c := range commits {
		delete(base, c.SHA)
	}
	return base
}
