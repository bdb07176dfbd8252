package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Reader asks one point of a database: a read-only transaction. Its methods may be called from several goroutines and
// take turns, so nothing may be asked inside of a loop over [Reader.Attachments]. It ends with Close.
type Reader struct {
	mu   sync.Mutex // one question at a time
	conn *pgx.Conn

	// life ends with the transaction; its cause says why. Questions that are under way end with it.
	life context.Context
	end  context.CancelCauseFunc
	gone chan struct{} // closed once the session is

	silence silence // of the question under way
}

// Read begins to read a database as it is now.
func Read(ctx context.Context, c Connection) (*Reader, error) {
	conn, err := c.connect(ctx, "purser backup: check")
	if err != nil {
		return nil, err
	}
	r := newReader(ctx, conn, defaultStall)
	if err := r.begin(ctx, 0); err != nil {
		r.Close()
		return nil, fmt.Errorf("read %s: %w", c, err)
	}
	return r, nil
}

func newReader(ctx context.Context, conn *pgx.Conn, stall time.Duration) *Reader {
	r := &Reader{conn: conn, gone: make(chan struct{}), silence: silence{limit: stall}}
	r.life, r.end = context.WithCancelCause(context.WithoutCancel(ctx))
	context.AfterFunc(r.life, func() {
		defer close(r.gone)
		r.mu.Lock() // the question under way ends first
		defer r.mu.Unlock()
		closeConn(conn)
	})
	return r
}

// Some of these settings are younger than the oldest servers.
const settleSQL = `SELECT set_config(name, CASE name WHEN 'idle_in_transaction_session_timeout' THEN $1
	WHEN 'search_path' THEN 'public' ELSE '0' END, false) FROM pg_catalog.pg_settings WHERE name IN ('statement_timeout',
	'lock_timeout', 'idle_session_timeout', 'transaction_timeout', 'idle_in_transaction_session_timeout', 'search_path')`

// settle makes a session one that nothing ends but idling in a transaction for longer than idle; 0 for no limit. Statements
// are bounded by their contexts.
func settle(ctx context.Context, conn *pgx.Conn, idle time.Duration) error {
	err := answered(ctx, func(ctx context.Context) error {
		_, err := conn.Exec(ctx, settleSQL, strconv.FormatInt(idle.Milliseconds(), 10))
		return err
	})
	if err != nil {
		return fmt.Errorf("prepare session: %w", err)
	}
	return nil
}

// textSettings are all that the text of a row depends on, besides the server's major version; and that no row is hidden.
const textSettings = `SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO, YMD'; SET LOCAL IntervalStyle = 'postgres';
	SET LOCAL bytea_output = 'hex'; SET LOCAL extra_float_digits = 1; SET LOCAL lc_monetary = 'C'; SET LOCAL xmlbinary = 'base64';
	SET LOCAL xmloption = 'content'; SET LOCAL row_security = off; SET LOCAL quote_all_identifiers = off;
	SET LOCAL work_mem = '32MB'; SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL jit = off`

// begin begins the transaction. Its snapshot is taken by the first question.
func (r *Reader) begin(ctx context.Context, idle time.Duration) error {
	if err := settle(ctx, r.conn, idle); err != nil {
		return err
	}
	if _, err := r.conn.Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"); err != nil {
		return err
	}
	_, err := r.conn.Exec(ctx, textSettings, pgx.QueryExecModeSimpleProtocol)
	return err
}

// ask runs a question, alone.
func (r *Reader) ask(ctx context.Context, question func(context.Context, *pgx.Conn) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.life.Err() != nil {
		return context.Cause(r.life)
	}
	ctx, unbind := r.bind(ctx)
	defer unbind()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.silence.begin(func() { cancel(stalled(r.silence.limit)) })
	defer r.silence.pause()
	err := question(ctx, r.conn)
	if err = because(ctx, err); err != nil && ctx.Err() != nil && !errors.Is(err, ErrStalled) {
		return errors.Join(context.Cause(ctx), err)
	}
	return err
}

// bind returns a context that also ends with the transaction.
func (r *Reader) bind(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(r.life, func() { cancel(context.Cause(r.life)) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// Close ends the transaction and the session. It may be called again.
func (r *Reader) Close() {
	r.end(ErrEnded)
	<-r.gone
}

// query collects the rows of a short question.
func query[T any](ctx context.Context, r *Reader, what string, to pgx.RowToFunc[T], sql string, args ...any) ([]T, error) {
	var list []T
	err := r.ask(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, to)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return list, nil
}
