package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// A lock needs a transaction, whose age holds back vacuum as a snapshot's does. So the guard is held in turns by two
	// sessions, each taking it before the other lets go.
	guardTurn = 20 * time.Second
	// The server ends a guard that nobody holds any more, such as one of an agent that is stopped.
	guardIdle  = 6 * guardTurn
	guardRetry = 250 * time.Millisecond
)

// The job's row is locked FOR SHARE: that keeps out Odoo, which takes it FOR NO KEY UPDATE SKIP LOCKED (before 15.0 FOR
// UPDATE NOWAIT), and lets two sessions hold it at once.
// https://github.com/odoo/odoo/blob/17.0/odoo/addons/base/models/ir_cron.py
const guardSQL = `SELECT id FROM ir_cron WHERE id = (SELECT res_id FROM ir_model_data
	WHERE module = 'base' AND name = 'autovacuum_job' AND model = 'ir.cron') FOR SHARE NOWAIT`

// A guard keeps Odoo from collecting attachments.
type guard struct {
	turn time.Duration

	mu         sync.Mutex
	held, next *pgx.Conn // held has the lock
	err        error     // why it is lost
	ended      bool

	stop context.CancelFunc
	done chan struct{}
}

// takeGuard waits for a collection that runs, for as long as patience.
func takeGuard(ctx context.Context, c Connection, patience, turn time.Duration, lost func(error)) (*guard, error) {
	g := &guard{turn: turn, done: make(chan struct{})}
	for _, conn := range []**pgx.Conn{&g.held, &g.next} {
		var err error
		if *conn, err = c.connect(ctx, "purser backup: guard"); err == nil {
			err = settle(ctx, *conn, guardIdle)
		}
		if err != nil {
			g.closeConns()
			return nil, err
		}
	}
	if err := g.wait(ctx, patience); err != nil {
		g.closeConns()
		return nil, fmt.Errorf("guard attachments against their collection: %w", err)
	}
	ctx, g.stop = context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer close(g.done)
		g.hold(ctx, lost)
	}()
	return g, nil
}

func (g *guard) wait(ctx context.Context, patience time.Duration) error {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		err := lock(ctx, g.held)
		if code(err) != codeLockNotAvailable {
			return err
		}
		retry := time.NewTimer(guardRetry)
		select {
		case <-retry.C:
		case <-deadline.C:
			retry.Stop()
			return hint(fmt.Errorf("the collection still runs after %s: %w", patience, err),
				"see in pg_locks who holds the row of base.autovacuum_job in ir_cron")
		case <-ctx.Done():
			retry.Stop()
			return context.Cause(ctx)
		}
	}
}

// lock begins a transaction that holds the job's row. After an error there is none.
func lock(ctx context.Context, conn *pgx.Conn) error {
	return answered(ctx, func(ctx context.Context) error { return lockJob(ctx, conn) })
}

func lockJob(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, "BEGIN"); err != nil {
		return err
	}
	var job int64
	err := conn.QueryRow(ctx, guardSQL).Scan(&job)
	if err == nil {
		return nil
	}
	if _, failed := conn.Exec(ctx, "ROLLBACK"); failed != nil {
		return errors.Join(err, failed)
	}
	switch {
	case errors.Is(err, pgx.ErrNoRows), code(err) == codeNoTable:
		return ErrNotOdoo
	case code(err) == codeNoPrivilege:
		return hint(err, "GRANT SELECT, UPDATE ON ir_cron to the user of backups")
	case code(err) == codeReadOnly:
		return hint(err, "a standby cannot be guarded: back up the primary")
	}
	return err
}

// hold passes the lock from one session to the other until the guard is released or lost.
func (g *guard) hold(ctx context.Context, lost func(error)) {
	ticker := time.NewTicker(g.turn)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := g.pass(ctx); err != nil {
			lost(err)
			return
		}
	}
}

func (g *guard) pass(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended || ctx.Err() != nil {
		return nil
	}
	err := lock(ctx, g.next)
	if err == nil {
		err = letGo(ctx, g.held)
		g.held, g.next = g.next, g.held
	}
	if err != nil && ctx.Err() == nil {
		g.err = fmt.Errorf("%w: %w", ErrGuard, err)
		return g.err
	}
	return nil
}

// letGo ends the transaction with the lock. If that succeeds, the lock was there until then.
func letGo(ctx context.Context, conn *pgx.Conn) error {
	return answered(ctx, func(ctx context.Context) error {
		tag, err := conn.Exec(ctx, "COMMIT")
		if err == nil && tag.String() != "COMMIT" {
			err = fmt.Errorf("the server answers %q to COMMIT", tag)
		}
		return err
	})
}

// release gives the lock back. An error says that it was lost.
func (g *guard) release(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.err != nil:
		return g.err
	case g.ended:
		return fmt.Errorf("%w: it was released before", ErrGuard)
	}
	g.ended = true
	if err := letGo(ctx, g.held); err != nil {
		g.err = fmt.Errorf("%w: %w", ErrGuard, err)
	}
	return g.err
}

// close ends both sessions, and with them the lock. It may be called again.
func (g *guard) close() {
	g.stop()
	<-g.done
	g.closeConns()
}

func (g *guard) closeConns() {
	for _, conn := range []*pgx.Conn{g.held, g.next} {
		if conn != nil {
			closeConn(conn)
		}
	}
}
