package evidence

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func httpFixture(t *testing.T) (*fixture, *gitServer) {
	f := newFixture(t)
	s := serve(t, filepath.Dir(f.bare))
	f.o.Remote.URL = s.URL + "/audit.git"
	return f, s
}

// failing waits until publishing reports an error with these words.
func (f *fixture) failing(words ...string) error {
	f.t.Helper()
	var err error
	eventually(f.t, "publishing fails with "+strings.Join(words, ", "), func() bool {
		if err = f.log.Status().Err; err == nil {
			return false
		}
		for _, w := range words {
			if !strings.Contains(err.Error(), w) {
				return false
			}
		}
		return true
	})
	return err
}

func TestRemoteDownThenUp(t *testing.T) {
	f, s := httpFixture(t)
	f.o.SpoolRecords = 5
	f.run()
	f.wait(f.add(1).Index)
	s.down.Store(true)
	r := f.add(5)
	f.failing("503")
	if _, err := f.log.record(t.Context(), applyDraft(100)); !errors.Is(err, ErrSpoolFull) {
		t.Errorf("append beyond the limit: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := f.log.Published(ctx, r.Index); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("published during the outage: %v", err)
	}
	f.stop()
	f.close()
	f.open() // starts without the remote
	f.run()
	s.down.Store(false)
	f.wait(r.Index)
	f.wait(f.add(1).Index)
	if err := f.log.Status().Err; err != nil {
		t.Errorf("status after recovery: %v", err)
	}
	f.close()
	f.verified(7)
}

func TestSpoolBytesLimit(t *testing.T) {
	f := newFixture(t)
	f.o.SpoolBytes = 1 << 20
	f.open()
	d := applyDraft(0)
	d.Blobs = []Blob{{Name: "b", Data: make([]byte, 1<<20)}}
	if _, err := f.log.record(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if _, err := f.log.record(t.Context(), applyDraft(1)); !errors.Is(err, ErrSpoolFull) {
		t.Errorf("append: %v", err)
	}
}

func TestUnreachableAtTheVeryBeginning(t *testing.T) {
	f := newFixture(t)
	f.o.Remote.URL = "http://" + freePort(t) + "/audit.git"
	if l, err := Open(t.Context(), f.o); err == nil {
		_ = l.Close(t.Context())
		t.Error("a new directory was opened without the remote")
	}
}

func TestRejectedPush(t *testing.T) {
	f, _ := httpFixture(t)
	hook := filepath.Join(f.bare, "hooks", "pre-receive")
	if err := os.WriteFile(hook, []byte("#!/bin/sh\necho quota exceeded >&2\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	f.run()
	r := f.add(3)
	f.failing("pre-receive hook declined", "quota exceeded")
	r = f.add(2)
	if err := os.Remove(hook); err != nil {
		t.Fatal(err)
	}
	f.wait(r.Index)
	f.close()
	f.verified(5)
}

func TestLostAcknowledgements(t *testing.T) {
	f, s := httpFixture(t)
	s.loseAcks.Store(1)
	f.run()
	f.wait(f.add(2).Index)
	s.loseAcks.Store(3)
	for range 5 {
		f.wait(f.add(1).Index)
	}
	f.close()
	f.verified(7)
}

func TestCrashAfterPush(t *testing.T) {
	f, s := httpFixture(t)
	f.run()
	f.wait(f.add(1).Index)
	s.loseAcks.Store(1)
	tip := git(t, f.bare, "rev-parse", "audit/2026")
	f.o.RetryMin, f.o.RetryMax = time.Hour, time.Hour
	f.close()
	f.run() // with a long pause: the first answer is lost, nothing is tried again
	d := applyDraft(50)
	d.Keep = []Keep{{Ref: "refs/purser/keep/north-dev/live", Files: map[string][]byte{"a": []byte("a")}}}
	d.Blobs = []Blob{{Name: "b", Data: []byte("b")}}
	r, err := f.log.record(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	f.failing("EOF")
	f.stop()
	if now := git(t, f.bare, "rev-parse", "audit/2026"); now == tip {
		t.Fatal("the push did not arrive")
	}
	// What a kill would leave: the pending commit in the state, the record in
	// the spool, the remote one ahead.
	f.close()
	f.open()
	if s := f.log.Status(); s.Spooled != 1 || s.Published != 1 {
		t.Fatalf("status %+v", s)
	}
	f.run()
	f.wait(r.Index)
	f.wait(f.add(1).Index)
	f.close()
	f.verified(3)
	if n := git(t, f.bare, "rev-list", "--count", "audit/2026"); n != "3" {
		t.Errorf("%s commits for three pushes", n)
	}
}

// The pending commit is written down, then the process dies before or after
// sending it, and more records arrive: the same commit must be sent first.
func TestPendingCommitIsSentUnchanged(t *testing.T) {
	f, s := httpFixture(t)
	f.run()
	f.wait(f.add(1).Index)
	s.down.Store(true)
	f.close()
	s.down.Store(false)
	f.open()
	r := f.add(2)
	if err := f.log.setPendingOnly(); err != nil {
		t.Fatal(err)
	}
	pending := f.log.state.Pending.hash()
	f.close()
	f.o.Now = func() time.Time { return day.Add(time.Hour) }
	f.open()
	f.add(3)
	f.run()
	f.wait(r.Index + 3)
	f.close()
	if got := git(t, f.bare, "rev-parse", "audit/2026~1"); got != pending.String() {
		t.Errorf("commit %s was pushed, %s was written down", got, pending)
	}
	f.verified(6)
}

func (l *Log) setPendingOnly() error {
	b, err := l.makeBatch()
	if err != nil {
		return err
	}
	return l.setPending(b.pending)
}

func TestForeignHistoryStalls(t *testing.T) {
	for name, c := range map[string]struct {
		change func(t *testing.T, f *fixture)
		words  []string
	}{
		"rewound": {func(t *testing.T, f *fixture) { git(t, f.bare, "update-ref", "refs/heads/audit/2026", "audit/2026~1") }, []string{"rewound"}},
		"replaced": {func(t *testing.T, f *fixture) {
			tree := git(t, f.bare, "rev-parse", "audit/2026^{tree}")
			git(t, f.bare, "update-ref", "refs/heads/audit/2026", git(t, f.bare, "commit-tree", "-m", "replaced", tree))
		}, nil},
		"second writer": {func(t *testing.T, f *fixture) {
			other := *f
			other.log = nil
			other.o.Dir += "-other"
			other.run()
			r, err := other.log.record(t.Context(), applyDraft(1000))
			if err != nil {
				t.Fatal(err)
			}
			other.wait(r.Index)
			other.close()
		}, nil},
		"branch gone": {func(t *testing.T, f *fixture) {
			git(t, f.bare, "branch", "keep", "audit/2026")
			git(t, f.bare, "update-ref", "-d", "refs/heads/audit/2026")
		}, []string{"gone"}},
		"emptied": {func(t *testing.T, f *fixture) { git(t, f.bare, "update-ref", "-d", "refs/heads/audit/2026") }, []string{"empty"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.run()
			f.wait(f.add(1).Index)
			f.wait(f.add(1).Index)
			tip := git(t, f.bare, "rev-parse", "audit/2026")
			c.change(t, f)
			r := f.add(1)
			err := f.log.Published(t.Context(), r.Index)
			wantStalled(t, err, append(c.words, tip)...)
			now, _ := gitOutput(f.bare, nil, "rev-parse", "--verify", "-q", "audit/2026")
			if now = strings.TrimSpace(now); now != "" && !strings.Contains(err.Error(), now) {
				t.Errorf("%v does not name the remote's commit %s", err, now)
			}
			f.add(1) // still spools
			f.abandon()
			l, err := Open(t.Context(), f.o)
			if err == nil {
				_ = l.Close(t.Context())
			}
			wantStalled(t, err, append(c.words, tip)...)
			if name == "second writer" {
				return
			}
			git(t, f.bare, "update-ref", "refs/heads/audit/2026", tip) // the operator's repair
			f.run()
			f.wait(r.Index + 1)
			f.close()
			f.verified(4)
		})
	}
}

// A batch takes two requests: the push and the look at what became of it.
func TestTwoRequestsPerBatch(t *testing.T) {
	f, s := httpFixture(t)
	f.run()
	f.wait(f.add(1).Index)
	before := s.requests.Load()
	const batches = 5
	for range batches {
		f.wait(f.add(1).Index)
	}
	if n := s.requests.Load() - before; n != 2*batches {
		t.Errorf("%d requests for %d batches", n, batches)
	}
	f.close()
	f.verified(1 + batches)
}

// A server that does not know protocol version 2 is asked for all its refs.
func TestServerWithoutProtocolV2(t *testing.T) {
	for name, refuse := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"ignores it": func(_ http.ResponseWriter, r *http.Request) bool { r.Header.Del("Git-Protocol"); return false },
		"refuses it": func(w http.ResponseWriter, r *http.Request) bool {
			asked := r.Header.Get("Git-Protocol") != ""
			if asked {
				http.Error(w, "no", http.StatusBadRequest)
			}
			return asked
		},
		"redirects": func(w http.ResponseWriter, r *http.Request) bool {
			asked := r.Header.Get("Git-Protocol") != ""
			if asked {
				http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
			}
			return asked
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, s := httpFixture(t)
			front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !refuse(w, r) {
					s.Config.Handler.ServeHTTP(w, r)
				}
			}))
			defer front.Close()
			f.o.Remote.URL = front.URL + "/audit.git"
			f.run()
			for range 3 {
				f.wait(f.add(1).Index)
			}
			f.close()
			f.verified(3)
		})
	}
}

// The refs that the last batch left are taken for granted, and asked for again
// when the server says otherwise.
func TestRefsMoveBetweenBatches(t *testing.T) {
	f, s := httpFixture(t)
	f.run()
	month, live := "refs/purser/blobs/2026-03", "refs/purser/keep/north-dev/live"
	put := func(n int) {
		t.Helper()
		d := applyDraft(n)
		d.Blobs = []Blob{{Name: "b", Data: []byte{byte(n)}}}
		d.Keep = []Keep{{Ref: live, Files: map[string][]byte{"n": {byte(n)}}}}
		r, err := f.log.record(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		f.wait(r.Index)
	}
	put(0)
	git(t, f.bare, "update-ref", "-d", month) // erased
	put(1)
	git(t, f.bare, "update-ref", "-d", live) // somebody's mistake
	put(2)
	git(t, f.bare, "update-ref", "refs/heads/main", "audit/2026")
	put(3)
	if err := f.log.Status().Err; err != nil {
		t.Error(err)
	}
	s.loseAcks.Store(1)
	put(4)
	f.close()
	f.verified(5)
	if refs := git(t, f.bare, "for-each-ref", "--format=%(refname)", "refs/purser"); refs != month+"\n"+live {
		t.Errorf("refs %q", refs)
	}
}

// abandon closes a stalled log.
func (f *fixture) abandon() {
	f.stop()
	if err := f.log.Close(context.Background()); err != nil {
		f.t.Error(err)
	}
	f.log = nil
}

func TestSecondWriterFromTheBeginning(t *testing.T) {
	f := newFixture(t)
	other := *f
	other.o.Dir += "-other"
	f.open()
	other.open()
	other.run()
	other.wait(other.add(1).Index)
	other.close()
	f.run()
	wantStalled(t, f.log.Published(t.Context(), f.add(1).Index), "never pushed")
}

func TestNewEpochDeclaresGap(t *testing.T) {
	f := newFixture(t)
	f.run()
	f.wait(f.add(150).Index)
	f.stop()
	f.add(2) // lost with the disk
	f.close()
	f.o.Dir += "-new"
	f.o.Init = false
	f.run()
	if epoch, gap := f.log.Epoch(); epoch != 2 || !gap {
		t.Errorf("epoch %d, gap %t", epoch, gap)
	}
	if got := f.records(); len(got) != 150 || got[149].Index != 149 {
		t.Fatalf("%d records", len(got))
	}
	r := f.add(1)
	if !r.Gap || r.Epoch != 2 || r.Index != 150 {
		t.Errorf("record %+v", r)
	}
	f.close()
	f.run()
	if r = f.add(1); r.Gap || r.Epoch != 2 {
		t.Errorf("record %+v", r)
	}
	f.wait(r.Index)
	f.close()
	report := f.verified(152)
	epochs := report.Branches[0].Epochs
	if len(epochs) != 2 || epochs[1].First != 150 || !epochs[1].Gap || epochs[0].Gap {
		t.Errorf("epochs %+v", epochs)
	}
}

// TestPushCost: a push brings the record, one directory per level as a
// difference, the checkpoint and the commit, however long the log is.
func TestPushCost(t *testing.T) {
	f, s := httpFixture(t)
	f.open()
	f.log.spool.disk.sync = func(*os.File) error { return nil } // durability takes long here
	cost := func(upTo int) (bytes, objects int64) {
		t.Helper()
		f.stop() // a push of each would take long
		last := f.add(upTo - int(f.log.Status().Records))
		f.run()
		f.wait(last.Index)
		packs := countObjects(t, f.bare)
		f.wait(f.add(1).Index)
		return s.pushed.Load(), countObjects(t, f.bare) - packs
	}
	small, few := cost(12)
	large, many := cost(5_050)
	t.Logf("a push of one record: %d bytes, %d objects at 12; %d bytes, %d objects at 5,050", small, few, large, many)
	if large > small*12/10 || many > few+2 {
		t.Errorf("a push grew from %d bytes, %d objects to %d bytes, %d objects", small, few, large, many)
	}
	f.close()
	f.verified(5_051)
}

// countObjects counts a repository's objects, loose and packed.
func countObjects(t *testing.T, bare string) int64 {
	t.Helper()
	return int64(len(strings.Fields(git(t, bare, "cat-file", "--batch-all-objects", "--batch-check=x"))))
}

// After a crash nobody is told that a record was never on the remote which may have been seen there.
func TestUnshown(t *testing.T) {
	f, s := httpFixture(t)
	f.open()
	f.add(2)
	f.publish()
	check := func(when string, from uint64) { // the first record that was certainly not seen
		t.Helper()
		for i := range f.log.Status().Records {
			if got := f.log.Unshown(i); got != (i >= from) {
				t.Errorf("%s: record %d unshown is %v", when, i, got)
			}
		}
	}
	reopen := func() {
		t.Helper()
		f.close()
		f.open()
	}
	hook := filepath.Join(f.bare, "hooks", "pre-receive")
	if err := os.WriteFile(hook, []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	f.add(2)
	if err := f.log.publish(t.Context()); err == nil {
		t.Fatal("a rejected push went well")
	}
	f.add(1)
	reopen()
	check("the push was rejected", 2)
	s.down.Store(true)
	reopen()
	check("it was sent, and the remote is away now", 4)
	s.down.Store(false)
	if err := os.Remove(hook); err != nil {
		t.Fatal(err)
	}
	s.loseAcks.Store(1)
	if err := f.log.publish(t.Context()); err == nil {
		t.Fatal("a push whose answer was lost went well")
	}
	reopen()
	check("it arrived", 4)
	f.publish()
	check("published since", 4)
	reopen()
	check("published", 5)
}
