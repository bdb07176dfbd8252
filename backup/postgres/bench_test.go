package postgres

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
	"github.com/purser-gitops/purser/examples/lab/odoodb"
)

// How large the database of the benchmarks is.
const (
	benchBytes       = 1 << 30
	benchAttachments = 20_000
)

func large(b *testing.B) (*lab.Database, Connection) {
	e := labtest.Shared(b, lab.PostgreSQL)
	d := labtest.Database(b, e)
	err := odoodb.Seed(b.Context(), odoodb.Options{
		DSN: d.DSN, Filestore: d.Filestore, Bytes: benchBytes, Attachments: benchAttachments, AttachmentBytes: 1024, Now: time.Now(),
	})
	if err != nil {
		b.Fatal(err)
	}
	return d, connection(b, e, lab.PostgresOdoo, d.Name)
}

// compress starts zstd as the floor has it.
func compress(ctx context.Context) (*exec.Cmd, io.WriteCloser, error) {
	cmd := exec.CommandContext(ctx, "zstd", "-3", "-T2", "-q", "-c")
	in, err := cmd.StdinPipe()
	return cmd, in, errors.Join(err, cmd.Start())
}

// BenchmarkDump compares a snapshot with all that is asked of it with pg_dump alone, both through zstd: floor-s and ratio.
func BenchmarkDump(b *testing.B) {
	d, c := large(b)
	tool, err := lab.PostgresTool("pg_dump")
	if err != nil {
		b.Fatal(err)
	}
	floor := func() {
		cmd := exec.CommandContext(b.Context(), "bash", "-c", `set -o pipefail; "$0" -Fc -Z0 "$1" | zstd -3 -T2 -q -c >/dev/null`, tool, d.DSN)
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
	}
	var floors, all, prints, lists time.Duration
	took := func(sum *time.Duration, do func()) {
		start := time.Now()
		do()
		*sum += time.Since(start)
	}
	for b.Loop() {
		took(&floors, floor)
		took(&all, func() {
			s, err := Begin(b.Context(), c, Tools{}, Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			group, ctx := errgroup.WithContext(b.Context())
			group.Go(func() error {
				cmd, in, err := compress(ctx)
				if err != nil {
					return err
				}
				return errors.Join(s.Dump(ctx, in), in.Close(), cmd.Wait())
			})
			group.Go(func() error {
				_, err := s.Facts(ctx)
				took(&lists, func() {
					for _, failed := range s.Attachments(ctx) {
						err = errors.Join(err, failed)
					}
				})
				took(&prints, func() {
					_, failed := s.Fingerprints(ctx)
					err = errors.Join(err, failed)
				})
				return err
			})
			if err := errors.Join(group.Wait(), s.End(), s.Release(b.Context())); err != nil {
				b.Fatal(err)
			}
		})
	}
	n := float64(b.N)
	b.ReportMetric(floors.Seconds()/n, "floor-s")
	b.ReportMetric(all.Seconds()/n, "snapshot-s")
	b.ReportMetric(prints.Seconds()/n, "fingerprints-s")
	b.ReportMetric(lists.Seconds()/n, "attachments-s")
	b.ReportMetric(all.Seconds()/floors.Seconds(), "ratio")
}

// BenchmarkRestore compares a restore from a stream with pg_restore of the same dump in a file, on the same server.
func BenchmarkRestore(b *testing.B) {
	_, c := large(b)
	s := begin(b, c, Options{})
	facts, err := s.Facts(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	name := filepath.Join(folder(b), "dump")
	dump, err := os.Create(name)
	if err != nil {
		b.Fatal(err)
	}
	if err := errors.Join(s.Dump(b.Context(), dump), dump.Close()); err != nil {
		b.Fatal(err)
	}
	s.Close()
	server := scratch(b)
	path, err := lab.PostgresTool("pg_restore")
	if err != nil {
		b.Fatal(err)
	}
	sums := map[string]time.Duration{}
	restore := func(what string, do func(Database) error) {
		d := facts.Database
		d.Name = what
		drop := func() {
			conn, err := server.Connection("postgres").connect(b.Context(), "bench")
			if err == nil {
				_, err = conn.Exec(b.Context(), `DROP DATABASE IF EXISTS "`+what+`"`)
				closeConn(conn)
			}
			if err != nil {
				b.Fatal(err)
			}
		}
		defer drop()
		start := time.Now()
		if err := do(d); err != nil {
			b.Fatal(err)
		}
		sums[what] += time.Since(start)
	}
	stock := func(jobs int) func(Database) error {
		return func(d Database) error {
			if err := create(b.Context(), server.Connection("postgres"), d, server.major); err != nil {
				return err
			}
			_, err := program{tool: tool{path: path}, on: server.Connection(d.Name), args: []string{"--dbname=" + d.Name, "--no-owner", "--no-acl",
				"--jobs=" + strconv.Itoa(jobs), name}}.run(b.Context())
			return err
		}
	}
	for b.Loop() {
		restore("stock-j1", stock(1))
		restore("stock-j2", stock(2))
		restore("stream", func(d Database) error {
			in, err := os.Open(name)
			if err != nil {
				return err
			}
			defer in.Close()
			return server.Restore(b.Context(), d, in, 2)
		})
	}
	for what, sum := range sums {
		b.ReportMetric(sum.Seconds()/float64(b.N), what+"-s")
	}
	b.ReportMetric(sums["stream"].Seconds()/min(sums["stock-j1"], sums["stock-j2"]).Seconds(), "ratio")
}

// BenchmarkScratch starts and ends servers.
func BenchmarkScratch(b *testing.B) {
	dir := folder(b)
	major, err := strconv.Atoi(installed(b))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s, err := Scratch(b.Context(), dir, Tools{}, major)
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
