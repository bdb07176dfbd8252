// Command bench measures the figures of docs/performance.md and prints each as one line of JSON:
//
//	{"name":"render_cold_per_second","value":207.1,"unit":"1/s","floor":230.4,"ratio":1.11,"samples":50,"note":"…"}
//
// The floor is what the same work costs at least on this machine, measured in the same run; the ratio says how many
// times worse the value is than the floor. Progress goes to standard error. It exits non-zero if anything could not be
// measured.
//
//	go run ./examples/bench [-samples N] [-environments N] [-tenants N] [-purser FILE] [NAME…]
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A bench measures some figures that belong together.
type bench struct {
	name     string
	patience time.Duration
	run      func(context.Context, *session) ([]figure, error)
}

// benches in the order in which they run.
var benches = []bench{
	{"render", 10 * time.Minute, benchRender},
	{"cold", 15 * time.Minute, benchCold},
	{"one-change", 15 * time.Minute, benchOneChange},
	{"drift", 15 * time.Minute, benchDrift},
	{"idle", 15 * time.Minute, benchIdle},
	{"memory", 25 * time.Minute, benchMemory},
	{"gates", 20 * time.Minute, benchGates},
	{"backup", 25 * time.Minute, benchBackup},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if kubeconfig := os.Getenv(watchVariable); kubeconfig != "" {
		if err := onlyWatch(ctx, kubeconfig); err != nil {
			fmt.Fprintf(os.Stderr, "bench: %v\n", err)
			os.Exit(1)
		}
		return
	}
	if os.Getenv(backupVariable) != "" {
		if err := onlyBackUp(ctx); err != nil {
			fmt.Fprintf(os.Stderr, "bench: %v\n", err)
			os.Exit(1)
		}
		return
	}
	o := options{progress: os.Stderr}
	flag.IntVar(&o.samples, "samples", 0, "how often to measure each figure; 0: often enough for a steady one")
	flag.IntVar(&o.environments, "environments", defaultEnvironments, "environments of the generated estate")
	flag.IntVar(&o.tenants, "tenants", defaultTenants, "tenants that they belong to")
	flag.Int64Var(&o.database, "database", defaultDatabase, "bytes of the database that is backed up")
	flag.StringVar(&o.purser, "purser", "", "the agent's binary; default: built from this source")
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), "usage: bench [FLAGS] [NAME…]\nnames: %s\n", strings.Join(names(), ", "))
		flag.PrintDefaults()
	}
	flag.Parse()
	if err := run(ctx, os.Stdout, o, flag.Args()); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		stop()
		os.Exit(1)
	}
}

// run runs the named benches, or all, and prints what they measure. One that fails does not stop the others.
func run(ctx context.Context, out io.Writer, o options, wanted []string) (err error) {
	for _, name := range wanted {
		if !slices.Contains(names(), name) {
			return fmt.Errorf("no bench %q; there are: %s", name, strings.Join(names(), ", "))
		}
	}
	s, err := newSession(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	var failed []error
	for _, b := range benches {
		if len(wanted) > 0 && !slices.Contains(wanted, b.name) {
			continue
		}
		start := time.Now()
		if err := b.measure(ctx, out, s); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", b.name, err), s.discard()) // the next one begins with a world in order
		}
		s.say("%s took %.1f s", b.name, time.Since(start).Seconds())
	}
	return errors.Join(failed...)
}

// measure runs one bench and prints its figures.
func (b bench) measure(ctx context.Context, out io.Writer, s *session) error {
	ctx, cancel := context.WithTimeout(ctx, b.patience)
	defer cancel()
	figures, err := b.run(ctx, s)
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(out)
	for _, f := range figures {
		if err := errors.Join(f.check(), encoder.Encode(f)); err != nil {
			return err
		}
	}
	return nil
}

func names() []string {
	var names []string
	for _, b := range benches {
		names = append(names, b.name)
	}
	return names
}
