package reconciler

import (
	"context"
	"encoding/json"
	"log/slog"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/purser-gitops/purser/reconciler/apply"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/sources/statement"
)

// auditLog gives the options of a log with an audit remote of its own.
func auditLog(t *testing.T, now *time.Time) evidence.Options {
	t.Helper()
	remote, keyFile := filepath.Join(t.TempDir(), "audit.git"), filepath.Join(t.TempDir(), "key")
	if out, err := exec.CommandContext(t.Context(), "git", "init", "-q", "--bare", remote).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := evidence.GenerateKey(keyFile, "hq"); err != nil {
		t.Fatal(err)
	}
	key, err := evidence.LoadKey(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	return evidence.Options{
		Remote: evidence.Remote{URL: remote}, Writer: "hq", Key: key, Trusted: evidence.Trust(key.Public()),
		Now: func() time.Time { return *now }, Logger: slog.New(slog.DiscardHandler), Init: true,
	}
}

// keeping opens a journal in a new directory, has it keep something, publishes that and closes it.
func keeping(t *testing.T, o evidence.Options, keep func(*journal)) {
	t.Helper()
	o.Dir = filepath.Join(t.TempDir(), "audit")
	j, err := openJournal(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- j.log.Run(context.Background()) }()
	keep(j)
	if err := j.log.Published(t.Context(), j.log.Status().Records-1); err != nil {
		t.Error(err)
	}
	if err := j.log.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func mustRecord(t *testing.T, j *journal, d evidence.Draft) {
	t.Helper()
	if _, err := j.record(d); err != nil {
		t.Fatal(err)
	}
}

// TestNewEpochAtAYearsTurn rebuilds a data directory when the newest branch is of an earlier year. The log itself writes the
// first record of the new epoch then, and the state must show the epoch all the same, now and when it is folded again.
func TestNewEpochAtAYearsTurn(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 12, 30, 9, 0, 0, 0, time.UTC)
	o := auditLog(t, &now)
	start := evidence.Draft{Type: evidence.TypeStart, Predicate: evidence.Start{Version: "test"}}
	keeping(t, o, func(j *journal) {
		mustRecord(t, j, start)
		mustRecord(t, j, ofRelease(evidence.TypePlan, "dev", "sha256:"+strings.Repeat("a", 64), evidence.Plan{Purpose: evidence.PurposeRelease}))
		if !j.state.sure(j.environment("dev")) {
			t.Error("a log that never began anew is doubted")
		}
	})
	now = now.AddDate(0, 0, 5)
	keeping(t, o, func(j *journal) {
		mustRecord(t, j, start)
		if j.state.sure(j.environment("dev")) || j.state.Epoch != 2 || !j.state.EpochAt.Equal(now) {
			t.Errorf("epoch %d began at %s, and nobody has to look", j.state.Epoch, j.state.EpochAt)
		}
		again := NewState()
		if err := j.log.Replay(again.Fold); err != nil {
			t.Fatal(err)
		}
		was, _ := json.Marshal(j.state)
		if is, _ := json.Marshal(again); string(is) != string(was) {
			t.Errorf("the state is not what the records say:\n%s\n%s", was, is)
		}
	})
}

// TestOnlyAReleaseMakesSure has a new epoch: a repair may have looked at one object alone, a release looks at all.
func TestOnlyAReleaseMakesSure(t *testing.T) {
	t.Parallel()
	h := &history{t: t}
	h.plan(1, "a")
	h.add(evidence.TypeStart, "", 0, evidence.Start{})
	repair := evidence.Plan{Release: "a", Purpose: evidence.PurposeRepair, Cluster: "lab", ClusterUID: "u1"}
	h.add(evidence.TypePlan, "dev", 1, repair)
	for i := range h.records[1:] {
		h.records[1+i].Epoch = 2
	}
	if s := h.fold(); s.sure(*s.environment("dev")) {
		t.Error("a repair of some objects made sure")
	}
	h.plan(2, "b")
	h.records[len(h.records)-1].Epoch = 2
	if s := h.fold(); !s.sure(*s.environment("dev")) {
		t.Error("a release did not make sure")
	}
}

// TestInterruptedRolloutIsKnown interrupts two rollouts: what either of them may have applied is in the inventory until
// something is known to be applied.
func TestInterruptedRolloutIsKnown(t *testing.T) {
	t.Parallel()
	h := &history{t: t}
	of := func(action, digest, problem string) evidence.Item {
		i := item("x", action, problem)
		i.Digest = digest
		return i
	}
	tried := func() string {
		t.Helper()
		inventory := h.fold().environment("dev").Inventory
		if len(inventory) != 1 {
			t.Fatalf("it owns %v", inventory)
		}
		return inventory[0].Digest + " " + strings.Join(inventory[0].Tried, ",")
	}
	h.outcome(1, h.plan(1, "a", of(apply.Created, "1", "")), "a", evidence.OutcomeApplied, of(apply.Created, "1", ""))
	h.outcome(2, h.plan(2, "b", of(apply.Configured, "2", "")), "b", evidence.OutcomeInterrupted)
	h.outcome(3, h.plan(3, "c", of(apply.Configured, "3", "")), "c", evidence.OutcomeFailed, of(apply.Configured, "3", "timeout"))
	if got := tried(); got != "1 2,3" {
		t.Errorf("after two rollouts of unknown outcome it knows %s", got)
	}
	h.outcome(4, h.plan(4, "a", of(apply.Configured, "1", "")), "a", evidence.OutcomeApplied, of(apply.Configured, "1", ""))
	if got := tried(); got != "1 " {
		t.Errorf("after the way back it knows %s", got)
	}
}

// TestResumeFromBeforeANewStart says resume by a clock that is slow: it is refused as a whole, and says why.
func TestResumeFromBeforeANewStart(t *testing.T) {
	t.Parallel()
	s := waiting(t)
	s.says("release-manager-1", statement.Statement{Verb: statement.Pause, Environment: "dev", Reason: "stock count"})
	state := s.agent.journal.state
	state.Epoch, state.EpochAt = 2, s.clock.Add(time.Minute+time.Millisecond)
	refused := s.says("release-manager-1", statement.Statement{Verb: statement.Resume, Environment: "dev", Reason: "counted"})
	if !strings.Contains(refused, "the data directory began anew at 2026-11-23T09:01:00Z: say it again") || state.Environments["dev"].Hold == nil {
		t.Errorf("refused: %q, hold %+v", refused, state.Environments["dev"].Hold)
	}
	s.clock = s.clock.Add(time.Minute) // in the second in which it began; statements have no fractions
	if refused := s.says("release-manager-1", statement.Statement{Verb: statement.Resume, Environment: "dev", Reason: "counted"}); refused != "" {
		t.Errorf("refused: %q", refused)
	}
	if e := state.Environments["dev"]; e.Hold != nil {
		t.Errorf("hold %+v", e.Hold)
	}
}
