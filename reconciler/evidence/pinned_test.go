package evidence

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// checkpointOf reads what an operator pins.
func (f *fixture) checkpointOf(branch string) []byte {
	f.t.Helper()
	return []byte(git(f.t, f.bare, "show", branch+":checkpoint") + "\n")
}

// wiped takes the evidence directory away.
func (f *fixture) wiped() {
	f.t.Helper()
	f.close()
	f.log = nil
	if err := os.RemoveAll(f.o.Dir); err != nil {
		f.t.Fatal(err)
	}
}

// With a pinned checkpoint neither a directory that is there nor an empty one goes on from a log that lacks it.
func TestPinnedCheckpoint(t *testing.T) {
	f := newFixture(t)
	f.run()
	f.wait(f.add(1).Index)
	back, early := git(t, f.bare, "rev-parse", "audit/2026"), f.checkpointOf("audit/2026")
	f.wait(f.add(1).Index)
	tip, late := git(t, f.bare, "rev-parse", "audit/2026"), f.checkpointOf("audit/2026")
	refuses := func(name string, since []byte, words ...string) {
		t.Helper()
		f.o.Pinned = since
		l, err := Open(t.Context(), f.o)
		if err == nil {
			_ = l.Close(t.Context())
			t.Fatalf("%s: it opens", name)
		}
		wantStalled(t, err, words...)
	}
	opens := func(name string, since []byte, vouched bool) {
		t.Helper()
		f.o.Pinned = since
		f.open()
		if f.log.Vouched() != vouched {
			t.Errorf("%s: vouched: %t", name, !vouched)
		}
		f.close()
		f.log = nil
	}
	f.close()
	f.log = nil
	opens("its own directory", late, true)
	refuses("not a checkpoint", []byte("x"), "cannot be read")
	refuses("of another log", []byte(strings.Replace(string(late), "/hq/", "/south/", 1)), `not of writer "hq"`)
	refuses("other records", []byte(strings.Replace(string(late), strings.Split(string(late), "\n")[2], strings.Split(string(early), "\n")[2], 1)), "these are other records")
	refuses("more than there are", []byte(strings.Replace(string(late), "\n2\n", "\n3\n", 1)), "it ends after 2")

	f.wiped()
	opens("a new directory", early, false)
	f.wiped()
	opens("a new directory, all vouched for", late, true)

	f.wiped()
	git(t, f.bare, "update-ref", "refs/heads/audit/2026", back)
	for _, ref := range strings.Fields(git(t, f.bare, "for-each-ref", "--format=%(refname)", "refs/purser")) {
		git(t, f.bare, "update-ref", "-d", ref) // else they show by themselves that the branch was cut back
	}
	refuses("rewound", late, "does not contain the pinned checkpoint of 2 records on audit/2026: the branch ends after 1", "bring its branches back")
	git(t, f.bare, "update-ref", "-d", "refs/heads/audit/2026")
	refuses("gone", late, "the audit remote has no such branch")
	git(t, f.bare, "update-ref", "refs/heads/audit/2026", tip)
	opens("brought back", late, true)
}

// A checkpoint of an earlier year holds for the years after it.
func TestPinnedCheckpointOfAnEarlierYear(t *testing.T) {
	f := newFixture(t)
	now := day
	f.o.Now = func() time.Time { return now }
	f.o.State = func() (json.RawMessage, error) { return json.RawMessage("{}"), nil }
	f.run()
	f.wait(f.add(1).Index)
	since := f.checkpointOf("audit/2026")
	f.wait(f.add(1).Index)
	now = day.AddDate(1, 0, 0)
	f.wait(f.add(1).Index)
	other := f.checkpointOf("audit/2026")
	f.wiped()
	f.o.Pinned = since
	f.open()
	f.wiped()
	f.o.Pinned = []byte(strings.Replace(string(since), strings.Split(string(since), "\n")[2], strings.Split(string(other), "\n")[2], 1))
	_, err := Open(t.Context(), f.o)
	wantStalled(t, err, "on audit/2026: these are other records")
}

// pinFixture is a log of two records in 2026 and two in 2027, closed, with the checkpoints of 2026.
func pinFixture(t *testing.T) (f *fixture, early, end []byte) {
	t.Helper()
	f = newFixture(t)
	now := day
	f.o.Now = func() time.Time { return now }
	f.o.State = func() (json.RawMessage, error) { return json.RawMessage("{}"), nil }
	f.run()
	f.wait(f.add(1).Index)
	early = f.checkpointOf("audit/2026")
	f.wait(f.add(1).Index)
	end = f.checkpointOf("audit/2026")
	now = day.AddDate(1, 0, 0)
	f.wait(f.add(1).Index)
	f.close()
	return f, early, end
}

// reopened opens the log, which must go well, and closes it.
func (f *fixture) reopened(since []byte) {
	f.t.Helper()
	f.o.Pinned = since
	f.open()
	f.close()
}

// endChecks are what the end of a branch alone tells of a pin, whoever knows that end.
func endChecks(f *fixture, early, end []byte) {
	f.t.Helper()
	root := func(c []byte) string { return strings.Split(string(c), "\n")[2] }
	f.o.Pinned = early
	f.refused("the pinned checkpoint of 1 records on audit/2026 cannot be compared", "purser evidence verify --since")
	f.o.Pinned = []byte(strings.Replace(string(end), root(end), root(early), 1))
	f.refused("these are other records")
	f.o.Pinned = []byte(strings.Replace(string(end), "\n2\n", "\n3\n", 1))
	f.refused("it ends after 2")
	f.reopened(end)
}

// A pin of a year that a new directory did not fetch is compared with how that year ended, or refused in words. One that
// was compared when the directory was new holds.
func TestPinAddedLater(t *testing.T) {
	f, early, end := pinFixture(t)
	f.wiped()
	f.reopened(nil)
	endChecks(f, early, end)
	f.wiped()
	f.reopened(early)
	f.reopened(early)
}

// A pin of a year whose records were deleted here to save room does not stop the agent.
func TestPinOfADeletedArchive(t *testing.T) {
	f, early, end := pinFixture(t)
	f.reopened(early) // compared, and remembered
	if err := os.RemoveAll(filepath.Join(f.o.Dir, "records", "audit", "2026")); err != nil {
		t.Fatal(err)
	}
	f.reopened(early)
	f.reopened(nil)
	f.reopened(early)
	f.reopened(end)
	state, err := loadState(f.o.Dir)
	if err != nil {
		t.Fatal(err)
	}
	state.Pinned = nil
	if err := state.save(f.o.Dir); err != nil {
		t.Fatal(err)
	}
	endChecks(f, early, end)
}
