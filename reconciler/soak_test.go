package reconciler_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/policy"
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
		Version: "test", Init: true, Now: childNow(), At: dieAt(os.Getenv(childCrash)),
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		return err
	}
	defer agent.Close()
	return agent.Run(ctx)
}

// childClock is the environment variable that says how far ahead the clock of an agent of its own process is.
const childClock = "PURSER_TEST_CLOCK"

func childNow() func() time.Time {
	ahead, err := time.ParseDuration(os.Getenv(childClock))
	if err != nil {
		return time.Now
	}
	return func() time.Time { return time.Now().Add(ahead) }
}

// spawn starts an agent as a process of its own, which kills itself at a point ("" for none); the command line must end
// up executing this test binary.
func (w *world) spawn(crash string, command ...string) *exec.Cmd {
	w.t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), childConfig+"="+filepath.Join(w.dir, "purser.yaml"), childCrash+"="+crash,
		childClock+"="+time.Until(w.settings.now()).String())
	cmd.Stderr = w.logs
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	return cmd
}

// childCrash is the environment variable that names a point, and how often it is passed before the process kills
// itself there: "intended:2".
const childCrash = "PURSER_TEST_CRASH"

// dieAt ends the process at a point as kill -9 does; nil for "".
func dieAt(where string) func(string) {
	point, times, found := strings.Cut(where, ":")
	left, err := strconv.Atoi(times)
	if !found || err != nil {
		return nil
	}
	var mu sync.Mutex
	return func(reached string) {
		mu.Lock()
		defer mu.Unlock()
		if reached != point {
			return
		}
		if left--; left == 0 {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // it takes a moment
		}
	}
}

// crashPoints are where an agent is killed: by stage, in the order of the pipeline.
var crashPoints = []string{
	"fetched:1", "rendered:1", "proposed:1", "decided:1", "planned:1", "intended:1", "applied:1", "recorded:1", "drifted:1", "live:1",
	"added:1", "added:4", "durable:2", "before-push:1", "before-push:2", "pushed:1", "pushed:2", "acknowledged:1", "acknowledged:2",
}

// TestCrashAtEveryPoint pushes a release and edits an object, and kills the agent at each point of the way. The next
// agent brings both to their end, and the log says so.
func TestCrashAtEveryPoint(t *testing.T) {
	t.Parallel()
	for _, point := range crashPoints {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			w.configure()
			agent := w.agentProcess("")
			w.waitFor("the first release runs", func(ctx context.Context) error { return w.runs(ctx, "one") })
			agent.end(syscall.SIGTERM)
			agent = w.agentProcess(point)
			if strings.HasPrefix(point, "drifted") {
				w.setByHand("c1", "by hand")
			} else {
				w.write("apps/dev/objects.yaml", configMaps(6, "two"))
				w.push("Release two")
			}
			if err := agent.wait(); err == nil || !strings.Contains(err.Error(), "killed") {
				t.Fatalf("the agent did not come to %s: %v", point, err)
			}
			agent = w.agentProcess("")
			w.setValue("three")
			w.untilProcessLive("three")
			agent.end(syscall.SIGTERM)
			records := w.records()
			everyIntentHasOneOutcome(t, records)
			everyChangeIsAccountedFor(t, records)
		})
	}
}

// agentProcess is an agent of its own process.
type agentProcess struct {
	t   *testing.T
	cmd *exec.Cmd
}

// agentProcess starts an agent that kills itself at a point, "" for one that does not.
func (w *world) agentProcess(crash string) agentProcess {
	w.t.Helper()
	a := agentProcess{w.t, w.spawn(crash, os.Args[0])}
	w.t.Cleanup(func() {
		_ = a.cmd.Process.Kill() // most have ended
		if w.t.Failed() {
			w.t.Logf("the agents' log:\n%s", w.logs)
		}
	})
	return a
}

// wait waits until the agent ends by itself.
func (a agentProcess) wait() error {
	timer := time.AfterFunc(40*time.Second, func() { _ = a.cmd.Process.Signal(syscall.SIGABRT) })
	defer timer.Stop()
	return a.cmd.Wait()
}

// end sends a signal and waits; SIGTERM must end the agent in order.
func (a agentProcess) end(signal syscall.Signal) {
	a.t.Helper()
	if err := a.cmd.Process.Signal(signal); err != nil {
		a.t.Fatal(err)
	}
	if err := a.wait(); err != nil && signal != syscall.SIGKILL {
		a.t.Errorf("the agent ended: %v", err)
	}
}

// untilProcessLive waits until an agent of its own process says that the newest proposed release is live.
func (w *world) untilProcessLive(value string) {
	w.t.Helper()
	newest := regexp.MustCompile(`msg="release proposed" environment=dev release=(\S+)`)
	labtest.Eventually(w.t, value+" is live", func(ctx context.Context) error {
		if err := w.runs(ctx, value); err != nil {
			return err
		}
		proposed := newest.FindAllStringSubmatch(w.logs.String(), -1)
		return w.logged("msg=live environment=dev release=" + proposed[len(proposed)-1][1])
	})
}

// everyChangeIsAccountedFor checks that each proposed release was decided upon or replaced by another proposal, and
// that each approved one was applied, or superseded.
func everyChangeIsAccountedFor(t *testing.T, records []evidence.Record) {
	t.Helper()
	proposed, approved, lastProposed := map[string]bool{}, map[string]bool{}, ""
	for _, r := range records {
		if r.Environment == "" {
			continue
		}
		switch r.Type {
		case evidence.TypeChange:
			var p evidence.Change
			decode(t, r, &p)
			delete(proposed, lastProposed) // replaced before it was decided
			proposed[p.To], lastProposed = true, p.To
		case evidence.TypeDecision:
			var p evidence.Decision
			decode(t, r, &p)
			delete(proposed, p.To)
			if p.Verdict.Answer == policy.Allow {
				approved[p.To] = true
			}
		case evidence.TypeSuperseded:
			var p evidence.Superseded
			decode(t, r, &p)
			delete(approved, p.Release)
		case evidence.TypeApply:
			var p evidence.Apply
			decode(t, r, &p)
			if p.Outcome == evidence.OutcomeApplied {
				delete(approved, p.Release)
			}
		}
	}
	for release := range proposed {
		t.Errorf("release %s was proposed and never decided upon", release)
	}
	for release := range approved {
		t.Errorf("release %s was approved and neither applied nor superseded", release)
	}
}

// outages are what else fails while agents are killed: what stands between the agent and a server, and how it fails.
var outages = []lab.Fault{
	{Mode: lab.Refuse}, {Mode: lab.Hang}, {Mode: lab.Answer, Status: http.StatusServiceUnavailable},
	{Mode: lab.Answer, Status: http.StatusTooManyRequests, RetryAfter: time.Second}, {Mode: lab.CutBefore}, {Mode: lab.CutAfter},
}

// TestSoakKills pushes releases without a pause, edits, deletes and unlabels objects by hand, lets the API server, the
// Git server and the audit remote fail, and kills the agent at random moments. At the end the cluster runs the last
// push, every intent has one outcome, every change is accounted for, no record is repeated, and the log verifies.
func TestSoakKills(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	servers := []*lab.Proxy{w.proxied(), w.gitProxy(&w.settings.estateURL), w.gitProxy(&w.settings.auditURL)}
	w.configure()
	agent := w.agentProcess("")
	w.waitFor("the first release runs", func(ctx context.Context) error { return w.runs(ctx, "one") })
	for round := range *soak {
		value := fmt.Sprintf("round %d", round)
		faulty := servers[rand.N(len(servers))]
		if rand.N(3) > 0 {
			if err := faulty.Set(outages[rand.N(len(outages))]); err != nil {
				t.Fatal(err)
			}
		}
		if rand.N(4) > 0 {
			w.write("apps/dev/objects.yaml", configMaps(5+round%2, value))
			w.push(value)
		}
		w.meddle(round)
		time.Sleep(rand.N(1500 * time.Millisecond))
		agent.end(syscall.SIGKILL)
		if err := faulty.Clear(); err != nil {
			t.Fatal(err)
		}
		agent = w.agentProcess("")
		time.Sleep(rand.N(700 * time.Millisecond))
	}
	// Only an agent that is up runs this one: it is there to be told to end.
	w.setValue("the end")
	w.untilProcessLive("the end")
	w.setByHand("c4", "after the end") // the only one that does not look fought over
	w.waitFor("a last edit is healed", func(ctx context.Context) error { return w.runs(ctx, "the end") })
	agent.end(syscall.SIGTERM)
	records := w.records()
	everyIntentHasOneOutcome(t, records)
	everyChangeIsAccountedFor(t, records)
	interrupted, counts := 0, map[string]int{}
	for _, r := range records {
		counts[r.Type]++
		if r.Type == evidence.TypeApply {
			var p evidence.Apply
			decode(t, r, &p)
			if p.Outcome == evidence.OutcomeInterrupted {
				interrupted++
			}
		}
	}
	t.Logf("%d kills, %d of them between intent and outcome, %d records: %v", *soak, interrupted, len(records), counts)
}

// gitProxy puts a proxy between the agent and a repository.
func (w *world) gitProxy(url *string) *lab.Proxy {
	w.t.Helper()
	proxy, err := lab.NewProxy(lab.ProxyOptions{Upstream: w.lab.GitURL})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { proxy.Close() })
	*url = strings.Replace(*url, w.lab.GitURL, proxy.URL, 1)
	return proxy
}

// meddle changes an object by hand, in one way or another. The object may be missing just then.
func (w *world) meddle(round int) {
	w.t.Helper()
	name := fmt.Sprintf("c%d", rand.N(4))
	maps, ctx := w.kube.CoreV1().ConfigMaps(w.namespace), w.t.Context()
	patch := func(text string) error {
		_, err := maps.Patch(ctx, name, types.MergePatchType, []byte(text), metav1.PatchOptions{FieldManager: "kubectl-edit"})
		return err
	}
	var err error
	switch rand.N(5) {
	case 0:
		err = patch(fmt.Sprintf(`{"data":{"value":"by hand in round %d"}}`, round))
	case 1:
		err = maps.Delete(ctx, name, metav1.DeleteOptions{})
	case 2:
		err = patch(`{"metadata":{"labels":{"purser.dev/environment":null}}}`)
	case 3:
		err = patch(`{"data":{"more":"by hand"}}`)
	}
	if err != nil && !apierrors.IsNotFound(err) {
		w.t.Fatal(err)
	}
}
