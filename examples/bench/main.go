// Command bench measures the figures of docs/performance.md and prints each as one line of JSON:
//
//	{"name":"render_cold_per_second","value":207.1,"unit":"1/s","floor":230.4,"ratio":1.11,"samples":50,"note":"…"}
//
// The floor is what the same work costs at least on this machine, measured in the same run; the ratio says how many
// times worse the value is than the floor. Progress goes to standard error. It exits non-zero if anything could not be
// measured.
//
//	go run ./examples/bench [-samples N] [NAME…]
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

// A bench measures some figures that belong together. It takes each of them samples times, or so often as it sees fit if
// that is 0.
type bench struct {
	name string
	run  func(ctx context.Context, samples int) ([]figure, error)
}

// benches in the order in which they run.
var benches = []bench{
	{"render", benchRender},
}

// patience bounds one bench.
const patience = 10 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	samples := flag.Int("samples", 0, "how often to measure each figure; 0: often enough for a steady one")
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), "usage: bench [-samples N] [NAME…]\nnames: %s\n", strings.Join(names(), ", "))
		flag.PrintDefaults()
	}
	flag.Parse()
	if err := run(ctx, os.Stdout, os.Stderr, *samples, flag.Args()); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		stop()
		os.Exit(1)
	}
}

// run runs the named benches, or all, and prints what they measure. One that fails does not stop the others.
func run(ctx context.Context, out, progress io.Writer, samples int, wanted []string) error {
	if samples < 0 {
		return fmt.Errorf("-samples %d is negative", samples)
	}
	for _, name := range wanted {
		if !slices.Contains(names(), name) {
			return fmt.Errorf("no bench %q; there are: %s", name, strings.Join(names(), ", "))
		}
	}
	var failed []error
	for _, b := range benches {
		if len(wanted) > 0 && !slices.Contains(wanted, b.name) {
			continue
		}
		start := time.Now()
		if err := b.measure(ctx, out, samples); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", b.name, err))
		}
		fmt.Fprintf(progress, "%s took %.1f s\n", b.name, time.Since(start).Seconds())
	}
	return errors.Join(failed...)
}

// measure runs one bench and prints its figures.
func (b bench) measure(ctx context.Context, out io.Writer, samples int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	figures, err := b.run(ctx, samples)
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
