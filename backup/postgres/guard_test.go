package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
	"github.com/purser-gitops/purser/examples/lab/odoodb"
)

const guardSessions = `SELECT coalesce(string_agg(backend_xid::text, ' ' ORDER BY backend_xid::text), '') FROM pg_stat_activity
	WHERE datname = current_database() AND application_name = 'purser backup: guard'`

// skipped waits until Odoo's collection did not run some more times.
func skipped(t *testing.T, sales *odoodb.Sales, more int64) {
	t.Helper()
	want := sales.Skipped.Load() + more
	labtest.Eventually(t, "collections that do not run", func(context.Context) error {
		if n := sales.Skipped.Load(); n < want {
			return fmt.Errorf("%d of %d", n, want)
		}
		return nil
	})
}

// Odoo collects no attachments until the guard is released, though it passes from session to session.
func TestGuard(t *testing.T) {
	t.Parallel()
	e := labtest.Shared(t, lab.PostgreSQL)
	d, c := seeded(t, e)
	sales, _ := selling(t, d, 5*time.Millisecond)
	orders(t, sales, 5)
	s := begin(t, c, Options{guardTurn: 20 * time.Millisecond})
	before := sales.Collections.Load()
	xids := map[string]bool{}
	labtest.Eventually(t, "ten turns of the guard", func(context.Context) error {
		skipped(t, sales, 1)
		if xids[value[string](t, d.DSN, guardSessions)] = true; len(xids) < 10 {
			return fmt.Errorf("%d turns", len(xids))
		}
		return nil
	})
	if err := s.End(); err != nil {
		t.Error(err)
	}
	skipped(t, sales, 10)
	if ran := sales.Collections.Load() - before; ran != 0 {
		t.Errorf("%d collections ran though they were guarded against", ran)
	}
	if err := s.Release(t.Context()); err != nil {
		t.Error(err)
	}
	labtest.Eventually(t, "a collection", func(context.Context) error {
		if sales.Collections.Load() == before {
			return errors.New("none has run")
		}
		return nil
	})
	if err := s.Release(t.Context()); !errors.Is(err, ErrGuard) {
		t.Errorf("released for the second time: %v", err)
	}
}

// A collection that runs is waited for, with an end.
func TestGuardWaits(t *testing.T) {
	t.Parallel()
	e := labtest.Shared(t, lab.PostgreSQL)
	d, c := seeded(t, e)
	job := session(t, d.DSN)
	defer closeConn(job)
	// As Odoo does: https://github.com/odoo/odoo/blob/17.0/odoo/addons/base/models/ir_cron.py, _acquire_one_job
	if _, err := job.Exec(t.Context(), "BEGIN; SELECT FROM ir_cron WHERE id = 1 FOR NO KEY UPDATE SKIP LOCKED"); err != nil {
		t.Fatal(err)
	}
	_, err := Begin(t.Context(), c, Tools{}, Options{GuardWait: time.Millisecond})
	var h *HintError
	if !errors.As(err, &h) || !strings.Contains(err.Error(), "the collection still runs") {
		t.Errorf("during a collection: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Begin(ctx, c, Tools{}, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("after a cancellation: %v", err)
	}
	began := make(chan error)
	go func() {
		s, err := Begin(t.Context(), c, Tools{}, Options{GuardWait: labtest.Patience})
		if err == nil {
			s.Close()
		}
		began <- err
	}()
	labtest.Eventually(t, "an attempt to guard", func(context.Context) error {
		if value[int](t, d.DSN, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'purser backup: guard'") < 2 {
			return errors.New("not yet")
		}
		return nil
	})
	if _, err := job.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	if err := <-began; err != nil {
		t.Errorf("after the collection: %v", err)
	}
}

// A lost guard fails the backup: at once if a turn notices, at the latest at its end.
func TestGuardLost(t *testing.T) {
	t.Parallel()
	e := labtest.Shared(t, lab.PostgreSQL)
	d, c := seeded(t, e)
	kill := func() {
		execute(t, d.AdminDSN, `SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = 'purser backup: guard'`)
	}
	t.Run("noticed at the end", func(t *testing.T) {
		s := begin(t, c, Options{})
		if err := s.Dump(t.Context(), io.Discard); err != nil {
			t.Fatal(err)
		}
		kill()
		if err := s.End(); err != nil {
			t.Error(err)
		}
		if err := s.Release(t.Context()); !errors.Is(err, ErrGuard) {
			t.Errorf("released: %v", err)
		}
	})
	t.Run("ends a dump", func(t *testing.T) {
		s := begin(t, c, Options{guardTurn: 10 * time.Millisecond})
		err := s.Dump(t.Context(), &atFirst{do: func() {
			kill()
			<-s.life.Done()
		}})
		if !errors.Is(err, ErrGuard) {
			t.Errorf("the dump: %v", err)
		}
		if _, err := s.Fingerprints(t.Context()); !errors.Is(err, ErrGuard) {
			t.Errorf("fingerprints: %v", err)
		}
		if err := s.End(); !errors.Is(err, ErrGuard) {
			t.Errorf("the end: %v", err)
		}
		if err := s.Release(t.Context()); !errors.Is(err, ErrGuard) {
			t.Errorf("the release: %v", err)
		}
	})
}

// A snapshot is held for a bounded time, and its session is gone then.
func TestSnapshotIsNotHeldForLong(t *testing.T) {
	t.Parallel()
	e := labtest.Shared(t, lab.PostgreSQL)
	d, c := seeded(t, e)
	const holds = `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name IN ('purser backup: snapshot', 'pg_dump')
		AND backend_xmin IS NOT NULL`
	s := begin(t, c, Options{MaxHold: 400 * time.Millisecond})
	err := s.Dump(t.Context(), &atFirst{do: func() { <-s.life.Done() }})
	if !errors.Is(err, ErrHeld) {
		t.Errorf("the dump: %v", err)
	}
	labtest.Eventually(t, "the end of the snapshot", func(context.Context) error {
		if n := value[int](t, d.DSN, holds); n > 0 {
			return fmt.Errorf("%d sessions hold back vacuum", n)
		}
		return nil
	})
	if err := s.End(); !errors.Is(err, ErrHeld) {
		t.Errorf("the end: %v", err)
	}
	if err := s.Release(t.Context()); err != nil {
		t.Errorf("the guard went with it: %v", err)
	}
	if err := s.Dump(t.Context(), io.Discard); !errors.Is(err, ErrHeld) {
		t.Errorf("a dump after the end: %v", err)
	}
}

// A change that rewrites a table while the snapshot is taken is wholly in it or not at all: rows are never missing.
func TestSnapshotWaitsForChangesOfTables(t *testing.T) {
	t.Parallel()
	e := labtest.Shared(t, lab.PostgreSQL)
	d, c := seeded(t, e)
	change := session(t, d.DSN)
	defer closeConn(change)
	if _, err := change.Exec(t.Context(), "BEGIN; ALTER TABLE pos_order ALTER user_id TYPE bigint; CREATE TABLE late (id int)"); err != nil {
		t.Fatal(err)
	}
	var h *HintError
	if _, err := Begin(t.Context(), c, Tools{}, Options{LockWait: time.Millisecond}); !errors.As(err, &h) || !strings.Contains(err.Error(), "lock tables") {
		t.Errorf("during a change that lasts: %v", err)
	}
	began := make(chan *Snapshot)
	go func() {
		s, err := Begin(t.Context(), c, Tools{}, Options{LockWait: labtest.Patience})
		if err != nil {
			t.Error(err)
		}
		began <- s
	}()
	labtest.Eventually(t, "somebody who waits for the table", func(context.Context) error {
		if value[int](t, d.DSN, "SELECT count(*) FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())") == 0 {
			return errors.New("nobody yet")
		}
		return nil
	})
	if _, err := change.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	s := <-began
	if s == nil {
		t.FailNow()
	}
	defer s.Close()
	rows, err := query(t.Context(), s.Reader, "", scanText, "SELECT count(*)::text || ' ' || (SELECT count(*) FROM late) FROM pos_order")
	if err != nil || rows[0] != "100 0" {
		t.Errorf("the snapshot has %s orders and rows of the new table, %v", rows, err)
	}
}

// atFirst does something when the first bytes are written.
type atFirst struct {
	do   func()
	done bool
	n    int
}

func (w *atFirst) Write(p []byte) (int, error) {
	if !w.done {
		w.done = true
		w.do()
	}
	w.n += len(p)
	return len(p), nil
}
