package evidence

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// refused opens the log, which must stall with these words.
func (f *fixture) refused(words ...string) {
	f.t.Helper()
	l, err := Open(f.t.Context(), f.o)
	if err == nil {
		_ = l.Close(f.t.Context())
	}
	wantStalled(f.t, err, words...)
}

// twoYears is a log of a record in 2026 and two in 2027, which keeps a file in each year.
func twoYears(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t)
	now := day
	f.o.Now = func() time.Time { return now }
	f.o.State = func() (json.RawMessage, error) { return json.RawMessage("{}"), nil }
	f.run()
	for i, environment := range []string{"north-dev", "north-qa"} {
		now = day.AddDate(i, 0, 0)
		d := applyDraft(i)
		d.Keep = []Keep{{Ref: "refs/purser/keep/" + environment + "/approved", Files: map[string][]byte{"n": {1}}}}
		r, err := f.log.record(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		f.wait(r.Index)
	}
	return f
}

// A new directory does not go on from the year before where something shows that this year's branch was there.
func TestRebuildNoticesTheLossOfTheNewestBranch(t *testing.T) {
	f := twoYears(t)
	tip := git(t, f.bare, "rev-parse", "audit/2027")
	f.wiped()
	f.open() // what 2026 kept is no finding, although that branch is not fetched
	f.wiped()
	git(t, f.bare, "update-ref", "-d", "refs/heads/audit/2027")
	f.refused("does not verify", "refs/purser/keep/north-qa/approved", "it belongs to audit/2027, which is not in this repository")
	git(t, f.bare, "update-ref", "refs/heads/audit/2027", tip)
	f.open()
}

// What is wrong with a branch is said of that branch, also when an earlier one was fetched for the pinned checkpoint.
func TestRebuildNamesTheBranchThatDoesNotVerify(t *testing.T) {
	f := twoYears(t)
	f.o.Pinned = f.checkpointOf("audit/2026")
	f.wiped()
	git(t, f.bare, "update-ref", "refs/heads/audit/2026", git(t, f.bare, "commit-tree", "-m", "replaced", git(t, f.bare, "rev-parse", "audit/2026^{tree}")))
	_, err := Open(t.Context(), f.o)
	wantStalled(t, err, "does not verify", ": audit/2026 ")
	if strings.Contains(err.Error(), "audit/2027") {
		t.Errorf("%v blames a branch that is whole", err)
	}
}
