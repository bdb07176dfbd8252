// Command odoodb makes a database of Odoo's shape with a filestore on the lab's PostgreSQL server, writes to it, and
// checks it; "odoodb help" tells how.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/odoodb"
)

const usage = `Usage:
  odoodb seed  [-lab DIR] [-database NAME] [-bytes N] [-attachments N] [-attachment-bytes N]   create and fill a database
  odoodb write [-lab DIR] [-database NAME] [-tills N] [-pause TIME] [-collect TIME]            sell until interrupted
  odoodb check [-lab DIR] [-database NAME]                                                     compare rows with files

DIR defaults to $PURSER_LAB, as "make lab" and "lab exec" set it. NAME defaults to odoo.

Exit codes: 0 done, and for check: nothing is wrong; 1 failed; 2 wrong usage.
`

// errUsage asks for the usage text.
var errUsage = errors.New("wrong usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:])
	if errors.Is(err, errUsage) {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "odoodb:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errUsage
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.Usage = func() {}
	dir := flags.String("lab", os.Getenv(lab.EnvDir), "")
	name := flags.String("database", "odoo", "")
	seed := odoodb.Options{Now: time.Now()}
	var write odoodb.WriterOptions
	switch args[0] {
	case "seed":
		flags.Int64Var(&seed.Bytes, "bytes", 1<<30, "")
		flags.IntVar(&seed.Attachments, "attachments", 20_000, "")
		flags.IntVar(&seed.AttachmentBytes, "attachment-bytes", 0, "")
	case "write":
		flags.IntVar(&write.Tills, "tills", 2, "")
		flags.DurationVar(&write.Pause, "pause", 10*time.Millisecond, "")
		flags.DurationVar(&write.Collect, "collect", 5*time.Second, "")
	case "check":
	default:
		return errUsage
	}
	if err := flags.Parse(args[1:]); err != nil || flags.NArg() > 0 {
		return errUsage
	}
	if *dir == "" {
		return errors.New("no lab: give -lab, or run this with \"bin/lab exec\"")
	}
	l, err := lab.Join(*dir)
	if err != nil {
		return err
	}
	d := l.Database(*name)
	switch args[0] {
	case "seed":
		return doSeed(ctx, l, d, seed)
	case "write":
		write.DSN, write.Filestore = d.DSN, d.Filestore
		return doWrite(ctx, write)
	default:
		return doCheck(ctx, d)
	}
}

func doSeed(ctx context.Context, l *lab.Endpoints, d *lab.Database, o odoodb.Options) error {
	if _, err := l.CreateDatabase(ctx, d.Name); err != nil {
		return err
	}
	o.DSN, o.Filestore = d.DSN, d.Filestore
	begin := time.Now()
	if err := odoodb.Seed(ctx, o); err != nil {
		return err
	}
	fmt.Printf("seeded %s in %.1f s; filestore %s\n", d.Name, time.Since(begin).Seconds(), d.Filestore)
	return nil
}

func doWrite(ctx context.Context, o odoodb.WriterOptions) error {
	var sales odoodb.Sales
	err := odoodb.Write(ctx, o, &sales)
	fmt.Printf("%d orders, %d attachments added, %d deleted, %d collections that removed %d files, %d skipped\n", sales.Orders.Load(),
		sales.Attachments.Load(), sales.Deleted.Load(), sales.Collections.Load(), sales.Removed.Load(), sales.Skipped.Load())
	return err
}

func doCheck(ctx context.Context, d *lab.Database) error {
	report, err := odoodb.Check(ctx, d.DSN, d.Filestore)
	if err != nil {
		return err
	}
	fmt.Printf("%d orders, %d attachments with a file, %d files in no row\n", report.Orders, report.Attachments, report.Unreferenced)
	return report.Err()
}
