package evidence

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
)

// A running agent stalls without reading what is there now; one that starts says what a start from it would forget. Both
// say how to bring the branch back, and the running one then goes on.
func TestRewoundBranchSaysWhatItForgets(t *testing.T) {
	f := newFixture(t)
	f.run()
	f.wait(f.add(1).Index)
	back := git(t, f.bare, "rev-parse", "audit/2026")
	for _, kind := range []string{TypeStatement, TypeVeto} {
		d := applyDraft(7)
		d.Type, d.Environment, d.Deployment, d.Keep = kind, "prod-eu", 0, nil
		r, err := f.log.record(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		f.wait(r.Index)
	}
	tip := git(t, f.bare, "rev-parse", "audit/2026")
	git(t, f.bare, "update-ref", "refs/heads/audit/2026", back)
	command := "git push '" + f.bare + "' '" + tip + ":refs/heads/audit/2026'"
	r := f.add(1)
	wantStalled(t, f.log.Published(t.Context(), r.Index), "is at "+back, "rewound, replaced or written by another", command, "says more when it is started again")
	f.abandon()
	f.refused("rewound, to the first 1 of 3 records", command,
		"forgets the 3 records since 2026-03-04T05:06:07Z, from record 1 on", "1: statement about prod-eu, 2: veto about prod-eu")
	git(t, f.bare, "update-ref", "refs/heads/audit/2026", tip)
	f.run()
	f.wait(r.Index)
	tip = git(t, f.bare, "rev-parse", "audit/2026")
	git(t, f.bare, "update-ref", "refs/heads/audit/2026", back)
	r = f.add(1)
	wantStalled(t, f.log.Published(t.Context(), r.Index))
	git(t, f.bare, "update-ref", "refs/heads/audit/2026", tip)
	eventually(t, "it goes on by itself", func() bool { return f.log.Status().Published > r.Index })
	f.close()
}

// A branch that was written anew is no ancestor of what was there: Git takes it back only by the second command of the hint.
func TestRewrittenBranchIsBroughtBack(t *testing.T) {
	f := newFixture(t)
	f.run()
	f.wait(f.add(2).Index)
	clone, tip := t.TempDir(), git(t, f.bare, "rev-parse", "audit/2026")
	git(t, clone, "clone", "--quiet", "--mirror", f.bare, ".")
	anew := git(t, f.bare, "-c", "user.name=n", "-c", "user.email=n@n", "commit-tree", "-m", "anew", tip+"^{tree}")
	git(t, f.bare, "update-ref", "refs/heads/audit/2026", anew)
	r := f.add(1)
	lease, branch := "--force-with-lease=refs/heads/audit/2026:"+anew, tip+":refs/heads/audit/2026"
	wantStalled(t, f.log.Published(t.Context(), r.Index), "git push '"+f.bare+"' '"+branch+"', or if Git rejects that because the branch was written anew, with "+lease+" before the address")
	if out, err := exec.CommandContext(t.Context(), "git", "-C", clone, "push", f.bare, branch).CombinedOutput(); err == nil || !strings.Contains(string(out), "[rejected]") {
		t.Errorf("without force: %v: %s", err, out)
	}
	git(t, f.bare, "config", "receive.denyNonFastForwards", "false")
	git(t, clone, "push", "--quiet", lease, f.bare, branch)
	eventually(t, "it goes on by itself", func() bool { return f.log.Status().Published > r.Index })
	f.close()
}

// What is read of a branch that moved is bounded in size, and the time for it, too.
func TestReadingAMovedBranchIsBounded(t *testing.T) {
	f := newFixture(t)
	f.run()
	f.wait(f.add(1).Index)
	back := plumbing.NewHash(git(t, f.bare, "rev-parse", "audit/2026"))
	f.wait(f.add(1).Index)
	f.stop()
	git(t, f.bare, "update-ref", "refs/heads/audit/2026", back.String())
	have := refs{"refs/heads/audit/2026": back}
	if _, err := f.log.fetchTemporary(t.Context(), have, 100); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a pack of more than 100 bytes: %v", err)
	}
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer silent.Close()
	var err error
	if f.log.remote, err = newRemote(Remote{URL: silent.URL + "/audit.git"}, time.Millisecond); err != nil {
		t.Fatal(err)
	}
	f.log.o.Timeout = time.Millisecond
	wantStalled(t, f.log.missing(t.Context(), have), context.DeadlineExceeded.Error())
}

// The command of the hint is for a shell. It forces only where the branch holds other records, not where nobody could look;
// an emptied remote has lost the earlier years as well.
func TestHintsForMovedBranches(t *testing.T) {
	f := twoYears(t)
	f.stop()
	f.log.o.Remote.URL = "/srv/the auditor's.git"
	branch := "refs/heads/audit/2027"
	tip := f.log.state.Published.Tip.String()
	other := plumbing.NewHash(git(t, f.bare, "rev-parse", "audit/2026"))
	push := ` '/srv/the auditor'\''s.git' '` + tip + ":" + branch + "'"
	for name, c := range map[string]struct {
		have    refs
		unknown error
		words   []string
	}{
		"out of reach":  {refs{branch: other}, errors.New("no route to host"), []string{": git push" + push + ", or if Git rejects that because the branch was written anew, with --force-with-lease=" + branch + ":" + other.String() + " before the address;", "an unknown part of what was recorded here (no route to host)"}},
		"other records": {refs{branch: other}, errOtherRecords, []string{": git push '--force-with-lease=" + branch + ":" + other.String() + "'" + push + ";"}},
		"gone":          {refs{"refs/heads/audit/2026": other}, nil, []string{": git push" + push + ";", "the 2 records since ", "from record 1 on"}},
		"emptied":       {refs{}, nil, []string{": git push" + push + " 'refs/purser/*:refs/purser/*';", "the 3 records since ", "from record 0 on"}},
	} {
		err := f.log.strayed(c.have, 0, c.unknown)
		for _, words := range c.words {
			if !strings.Contains(err.Error(), words) {
				t.Errorf("%s: %v does not say %q", name, err, words)
			}
		}
	}
}
