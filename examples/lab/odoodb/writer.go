package odoodb

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// WriterOptions say how shops sell.
type WriterOptions struct {
	DSN       string // a seeded database
	Filestore string
	Tills     int           // that sell at the same time; 0 means 1
	Pause     time.Duration // of a till, after each sale
	Collect   time.Duration // between two collections of attachments; 0: never
}

// Sales counts what a writer has done. Its fields may be read at any time.
type Sales struct {
	Orders      atomic.Int64
	Attachments atomic.Int64 // added
	Deleted     atomic.Int64 // attachments
	Collections atomic.Int64 // that ran
	Skipped     atomic.Int64 // collections that did not run because somebody held their job
	Removed     atomic.Int64 // files that the collections removed
}

// Write sells until the context ends, which is no error. A sale that is then under way leaves its file without a row.
func Write(ctx context.Context, o WriterOptions, sales *Sales) error {
	group, groupCtx := errgroup.WithContext(ctx)
	for number := range max(1, o.Tills) {
		group.Go(func() error {
			return with(groupCtx, o.DSN, func(conn *pgx.Conn) error {
				t := &till{conn: conn, files: filestore(o.Filestore), sales: sales, random: rand.New(rand.NewPCG(uint64(number), uint64(time.Now().UnixNano())))}
				return repeat(groupCtx, o.Pause, t.sell)
			})
		})
	}
	if o.Collect > 0 {
		group.Go(func() error {
			return repeat(groupCtx, o.Collect, func(ctx context.Context) error { return collect(ctx, o, sales) })
		})
	}
	if err := group.Wait(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("write orders: %w", err)
	}
	return nil
}

// repeat calls do with pauses until the context ends or do fails.
func repeat(ctx context.Context, pause time.Duration, do func(context.Context) error) error {
	for {
		if err := do(ctx); err != nil {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}
