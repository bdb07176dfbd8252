package reconciler_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/sources/declaration"
)

var soak = flag.Int("soak", 6, "how often TestSoakKills kills the agent")

// childConfig is the environment variable that makes this test binary an agent with that configuration.
const childConfig = "PURSER_TEST_AGENT_CONFIG"

// beAgent runs an agent until SIGTERM, as "purser run" does.
func beAgent(file string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	config, err := declaration.LoadAgent(file)
	if err != nil {
		return err
	}
	agent, err := reconciler.New(ctx, config, reconciler.Options{
		Version: "test", Init: true, Now: time.Now,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		return err
	}
	defer agent.Close()
	return agent.Run(ctx)
}

// spawn starts an agent as a process of its own; the command line must end up executing this test binary.
func (w *world) spawn(command ...string) *exec.Cmd {
	w.t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), childConfig+"="+filepath.Join(w.dir, "purser.yaml"))
	cmd.Stderr = w.logs
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	return cmd
}

// TestSoakKills pushes releases without a pause and kills the agent at random moments. At the end the cluster
// runs the last push, every intent has one outcome, no record is repeated, and the log verifies.
func TestSoakKills(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.configure()
	agent := w.spawn(os.Args[0])
	t.Cleanup(func() {
		_ = agent.Process.Kill()
		if t.Failed() {
			t.Logf("the agents' log:\n%s", w.logs)
		}
	})
	w.waitFor("the first release runs", func(ctx context.Context) error { return w.runs(ctx, "one") })
	for round := range *soak {
		value := fmt.Sprintf("round %d", round)
		w.write("apps/dev/objects.yaml", configMaps(5+round%2, value))
		w.push(value)
		time.Sleep(rand.N(1500 * time.Millisecond))
		_ = agent.Process.Signal(syscall.SIGKILL)
		_ = agent.Wait() // it was killed
		agent = w.spawn(os.Args[0])
	}
	// Only an agent that is up runs this one: it is there to be told to end.
	w.write("apps/dev/objects.yaml", configMaps(5, "the end"))
	w.push("the end")
	eventually(t, time.Minute, "the last push runs", func(ctx context.Context) error { return w.runs(ctx, "the end") })
	if err := agent.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := agent.Wait(); err != nil {
		t.Errorf("the agent ended: %v", err)
	}
	records := w.records()
	everyIntentHasOneOutcome(t, records)
	interrupted := 0
	for _, r := range records {
		if r.Type == evidence.TypeApply {
			var p evidence.Apply
			decode(t, r, &p)
			if p.Outcome == evidence.OutcomeInterrupted {
				interrupted++
			}
		}
	}
	t.Logf("%d kills, %d of them between intent and outcome, %d records", *soak, interrupted, len(records))
}
