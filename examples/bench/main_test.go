package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/purser-gitops/purser/examples/lab/labtest"
)

// TestMain is also the process that only watches, which the bench of an idle agent starts, and the one that makes a backup.
func TestMain(m *testing.M) {
	if kubeconfig := os.Getenv(watchVariable); kubeconfig != "" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		if err := onlyWatch(ctx, kubeconfig); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if os.Getenv(backupVariable) != "" {
		if err := onlyBackUp(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	labtest.Main(m)
}

// TestRender measures few environments, and checks the form of what is printed.
func TestRender(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := run(t.Context(), &out, options{samples: 2, environments: 20, progress: io.Discard}, []string{"render"}); err != nil {
		t.Fatal(err)
	}
	figures := map[string]figure{}
	for decoder := json.NewDecoder(&out); ; {
		var f figure
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&f); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		figures[f.Name] = f
	}
	for _, name := range []string{"render_cold_per_second", "render_cached_per_second"} {
		f := figures[name]
		if f.check() != nil || f.Unit != "1/s" || f.Samples != 2 || f.Note == "" || math.Abs(f.Ratio*f.Value/f.Floor-1) > 0.01 {
			t.Errorf("%s: %+v", name, f)
		}
	}
	if len(figures) != 2 {
		t.Errorf("%d figures, not 2", len(figures))
	}
	if figures["render_cached_per_second"].Value < figures["render_cold_per_second"].Value {
		t.Errorf("the cache does not help: %+v", figures)
	}
}

func TestUnknownNameListsNames(t *testing.T) {
	t.Parallel()
	err := run(t.Context(), io.Discard, options{progress: io.Discard}, []string{"render", "speed"})
	if err == nil || !strings.Contains(err.Error(), `no bench "speed"; there are: render`) {
		t.Errorf("got %v", err)
	}
	if err := run(t.Context(), io.Discard, options{samples: -1, progress: io.Discard}, nil); err == nil {
		t.Error("negative samples are accepted")
	}
}

// TestNotMeasuredIsAnError covers a bench that fails, one that measures nothing, and one that is interrupted.
func TestNotMeasuredIsAnError(t *testing.T) {
	t.Parallel()
	broken := errors.New("the servers do not start")
	for what, b := range map[string]bench{
		"fails":            {"b", time.Minute, func(context.Context, *session) ([]figure, error) { return nil, broken }},
		"measures nothing": {"b", time.Minute, func(context.Context, *session) ([]figure, error) { return []figure{rate("x", nil, nil, "")}, nil }},
		"takes no time": {"b", time.Minute, func(context.Context, *session) ([]figure, error) {
			return []figure{rate("x", []float64{math.Inf(1)}, []float64{1}, "")}, nil
		}},
	} {
		var out bytes.Buffer
		if err := b.measure(t.Context(), &out, nil); err == nil {
			t.Errorf("a bench that %s is no error; it printed %q", what, &out)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := run(ctx, io.Discard, options{progress: io.Discard}, []string{"render"}); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

func TestFigure(t *testing.T) {
	t.Parallel()
	f := rate("x", []float64{30, 10, 20}, []float64{80, 40}, "")
	if f.Value != 20 || f.Floor != 60 || f.Ratio != 3 || f.Samples != 3 {
		t.Errorf("got %+v", f)
	}
	for n, want := range map[float64]float64{123456: 123500, 0.00123456: 0.001235, 1: 1, 0: 0} {
		if got := round(n); math.Abs(got-want) > 1e-12 {
			t.Errorf("round(%g) is %g, not %g", n, got, want)
		}
	}
}
