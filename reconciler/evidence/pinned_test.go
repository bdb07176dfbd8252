package evidence

import (
	"encoding/json"
	"os"
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
		f.o.Since = since
		l, err := Open(t.Context(), f.o)
		if err == nil {
			_ = l.Close(t.Context())
			t.Fatalf("%s: it opens", name)
		}
		wantStalled(t, err, words...)
	}
	opens := func(name string, since []byte, vouched bool) {
		t.Helper()
		f.o.Since = since
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
	f.o.Since = since
	f.open()
	f.wiped()
	f.o.Since = []byte(strings.Replace(string(since), strings.Split(string(since), "\n")[2], strings.Split(string(other), "\n")[2], 1))
	_, err := Open(t.Context(), f.o)
	wantStalled(t, err, "on audit/2026: these are other records")
}
