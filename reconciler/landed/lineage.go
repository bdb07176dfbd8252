package landed

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"sync"

	"github.com/purser-gitops/purser/sources"
)

// lineage is a stretch of the first-parent history of a branch, and what each landed change alters. All environments
// that follow the branch ask it what landed for them, so that a change is compared with its first parent once, and looked
// at by those it concerns.
type lineage struct {
	repo ancestry

	mu        sync.Mutex
	positions map[string]int   // of the commits known, and of the one before the first of them
	commits   map[int]string   // those known, without a hole
	files     map[string][]int // path → positions of the commits that alter what is there
	folders   map[string][]int // folder → positions of the commits that alter something below it
	unread    []int            // positions of the commits that are too large to be compared: they may alter anything
	unrelated map[[2]string]error
}

// ancestry is what a lineage asks a repository.
type ancestry interface {
	Landed(from, to string, limit int) ([]string, error)
	Parents(commit string) ([]string, error)
	Changed(from, to string, limit int) ([]string, error)
}

// Bounds on what lies between two commits, and on what is remembered of a branch.
const (
	landedMax    = 10_000
	lineageMax   = 2 * landedMax
	unrelatedMax = 1000 // pairs of commits
)

// lineage of a branch.
func (r *Repository) lineage(branch string) *lineage {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.lineages[branch]
	if l == nil {
		l = &lineage{repo: r.Git}
		l.forget()
		r.lineages[branch] = l
	}
	return l
}

// landed lists the landed changes after one commit up to another that alter what somebody reads, and those of some
// others that are among them, oldest first.
func (l *lineage) landed(from, to string, read Reads, others []string) ([]string, error) {
	if from == to {
		return nil, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.reach(from, to); err != nil {
		return nil, err
	}
	first, last := l.positions[from], l.positions[to]
	var found []int
	consider := func(positions ...int) {
		for _, p := range positions {
			if first < p && p <= last {
				found = append(found, p)
			}
		}
	}
	for p := range read.paths {
		consider(l.files[p]...)
		consider(l.folders[p]...)
	}
	for p := range read.above {
		consider(l.files[p]...)
	}
	consider(l.unread...)
	for _, commit := range others {
		if p, known := l.positions[commit]; known {
			consider(p)
		}
	}
	slices.Sort(found)
	var list []string
	for _, p := range slices.Compact(found) {
		list = append(list, l.commits[p])
	}
	return list, nil
}

// reach makes everything known between two commits. The mutex is held.
func (l *lineage) reach(from, to string) error {
	first, known := l.positions[from]
	last, knownTo := l.positions[to]
	if known && knownTo && first <= last {
		return nil
	}
	if err := l.unrelated[[2]string{from, to}]; err != nil {
		return err
	}
	commits, err := l.repo.Landed(from, to, landedMax)
	if errors.Is(err, sources.ErrNotAncestor) || errors.Is(err, sources.ErrTooMany) {
		if len(l.unrelated) == unrelatedMax {
			clear(l.unrelated)
		}
		l.unrelated[[2]string{from, to}] = err // commits do not change
	}
	if err != nil {
		return err
	}
	first, joins := l.join(from, commits)
	if !joins {
		l.forget()
		first = 0
	}
	return l.add(from, first, commits)
}

// join gives the position that a commit has where it and those after it are one history with what is known.
func (l *lineage) join(from string, commits []string) (first int, joins bool) {
	first, joins = l.positions[from]
	for i := 0; i < len(commits) && !joins; i++ {
		first, joins = l.positions[commits[i]]
		first -= i + 1
	}
	for i, commit := range commits {
		if other, taken := l.commits[first+1+i]; taken && other != commit {
			return 0, false
		}
	}
	return first, joins && len(l.commits)+len(commits) <= lineageMax
}

// add reads what some commits alter that follow another one. On an error nothing of them is known.
func (l *lineage) add(from string, first int, commits []string) error {
	altered, unread := make([][]string, len(commits)), make([]bool, len(commits))
	for i, commit := range commits {
		if l.commits[first+1+i] != "" {
			continue
		}
		parents, err := l.repo.Parents(commit)
		if err != nil {
			return err
		}
		var parent string
		if len(parents) > 0 {
			parent = parents[0]
		}
		altered[i], err = l.repo.Changed(parent, commit, AlteredMax)
		if unread[i] = tooLarge(err); err != nil && !unread[i] {
			return fmt.Errorf("read landed change %s: %w", commit, err)
		}
	}
	l.positions[from] = first
	for i, commit := range commits {
		at := first + 1 + i
		l.positions[commit], l.commits[at] = at, commit
		if unread[i] {
			l.unread = append(l.unread, at)
			continue
		}
		seen := map[string]bool{}
		for _, p := range altered[i] {
			l.files[p] = append(l.files[p], at)
			for p = path.Dir(p); p != "." && !seen[p]; p = path.Dir(p) {
				seen[p] = true
				l.folders[p] = append(l.folders[p], at)
			}
		}
		if len(altered[i]) > 0 {
			l.folders[""] = append(l.folders[""], at)
		}
	}
	return nil
}

// forget begins anew.
func (l *lineage) forget() {
	l.positions, l.commits, l.unrelated = map[string]int{}, map[int]string{}, map[[2]string]error{}
	l.files, l.folders, l.unread = map[string][]int{}, map[string][]int{}, nil
}
