package landed

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/purser-gitops/purser/sources"
)

// fakeAncestry has commits of one parent each, and counts what it is asked.
type fakeAncestry struct {
	parents map[string]string // "" for the first
	alters  map[string][]string
	walked  int
	read    map[string]int
}

func (f *fakeAncestry) Landed(from, to string, _ int) ([]string, error) {
	f.walked++
	var list []string
	for at := to; at != from; at = f.parents[at] {
		if at == "" {
			return nil, sources.ErrNotAncestor
		}
		list = append(list, at)
	}
	slices.Reverse(list)
	return list, nil
}

func (f *fakeAncestry) Parents(commit string) ([]string, error) {
	if f.parents[commit] == "" {
		return nil, nil
	}
	return []string{f.parents[commit]}, nil
}

func (f *fakeAncestry) Changed(_, to string, _ int) ([]string, error) {
	f.read[to]++
	if f.alters[to] == nil {
		return nil, sources.ErrTooMany
	}
	return f.alters[to], nil
}

// grow adds commits to a branch, each of which alters some of a few files.
func (f *fakeAncestry) grow(random *rand.Rand, name, tip string, count int) (commits []string) {
	files := []string{"apps/a/x.yaml", "apps/a/y.yaml", "apps/b/x.yaml", "apps/base/deep/er.yaml", "README.md"}
	for i := range count {
		commit := fmt.Sprintf("%s%d", name, i)
		f.parents[commit], tip = tip, commit
		if random.IntN(20) == 0 {
			commits = append(commits, commit) // is too large
			continue
		}
		f.alters[commit] = []string{}
		for _, file := range files {
			if random.IntN(3) == 0 {
				f.alters[commit] = append(f.alters[commit], file)
			}
		}
		commits = append(commits, commit)
	}
	return commits
}

func newFakeAncestry() *fakeAncestry {
	return &fakeAncestry{parents: map[string]string{}, alters: map[string][]string{}, read: map[string]int{}}
}

func newLineage(f *fakeAncestry) *lineage {
	l := &lineage{repo: f}
	l.forget()
	return l
}

// TestLineageAnswersLikeAWalk asks for many stretches of a history that was rewritten once, in any order.
func TestLineageAnswersLikeAWalk(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		f := newFakeAncestry()
		main := f.grow(random, "m", "", 30)
		forced := slices.Concat(main[:15], f.grow(random, "f", main[14], 15))
		l := newLineage(f)
		for range 60 {
			history := main
			if random.IntN(4) == 0 {
				history = forced
			}
			first, last := random.IntN(len(history)), random.IntN(len(history))
			var paths []string
			for _, p := range []string{"apps/a/x.yaml", "apps/b", "apps/base", "README.md", "README.md/was/a/folder", "apps", ""} {
				if random.IntN(6) == 0 {
					paths = append(paths, p)
				}
			}
			read := NewReads(paths...)
			other := history[random.IntN(len(history))]
			got, err := l.landed(history[first], history[last], read, []string{other, "unheard of"})
			if first > last {
				if !errors.Is(err, sources.ErrNotAncestor) {
					t.Fatalf("%s to %s: %v", history[first], history[last], err)
				}
				continue
			}
			var want []string
			for _, commit := range history[first+1 : last+1] {
				if commit == other || f.alters[commit] == nil || slices.ContainsFunc(f.alters[commit], read.Has) {
					want = append(want, commit)
				}
			}
			if err != nil || !slices.Equal(got, want) {
				t.Fatalf("%s to %s, reading %v and %s: got %v, %v, not %v", history[first], history[last], paths, other, got, err, want)
			}
		}
	}
}

// TestLineageComparesEachCommitOnce asks as the environments of a branch do, each of which was approved at another commit.
func TestLineageComparesEachCommitOnce(t *testing.T) {
	t.Parallel()
	f := newFakeAncestry()
	main := f.grow(rand.New(rand.NewPCG(3, 4)), "m", "", 100)
	l := newLineage(f)
	for i := range 50 {
		if _, err := l.landed(main[49-i], main[50+i], NewReads("apps"), nil); err != nil {
			t.Fatal(err)
		}
	}
	if most := slices.Max(slices.Collect(maps.Values(f.read))); most != 1 || f.walked != 50 {
		t.Errorf("a commit was compared %d times; %d walks for 50 different stretches", most, f.walked)
	}
	for range 3 {
		if _, err := l.landed("elsewhere", main[99], NewReads(), nil); !errors.Is(err, sources.ErrNotAncestor) {
			t.Errorf("a commit of another history: %v", err)
		}
	}
	if f.walked != 51 {
		t.Errorf("%d walks to find out that a commit is of another history", f.walked-50)
	}
}
