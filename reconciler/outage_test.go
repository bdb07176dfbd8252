package reconciler_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/reconciler/evidence"
)

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestAPIServerOutage lets the API server be away, too busy or broken while a release is pushed. It goes on by
// itself afterwards, and every intent has its outcome.
func TestAPIServerOutage(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault lab.Fault
		lasts time.Duration
	}{
		"down for 30 s":      {lab.Fault{Mode: lab.Refuse}, 30 * time.Second},
		"429":                {lab.Fault{Mode: lab.Answer, Status: http.StatusTooManyRequests, RetryAfter: time.Second}, 4 * time.Second},
		"500":                {lab.Fault{Mode: lab.Answer, Status: http.StatusInternalServerError}, 4 * time.Second},
		"503":                {lab.Fault{Mode: lab.Answer, Status: http.StatusServiceUnavailable}, 4 * time.Second},
		"hanging":            {lab.Fault{Mode: lab.Hang}, 4 * time.Second},
		"writes are cut off": {lab.Fault{Mode: lab.CutAfter, Match: func(r *http.Request) bool { return r.Method == http.MethodPatch && r.URL.Query().Get("dryRun") == "" }}, 4 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			proxy, kubeconfig, err := w.lab.APIProxy(lab.Identity{User: "admin", Groups: []string{"system:masters"}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { proxy.Close() })
			w.settings.kubeconfig = kubeconfig
			w.run()
			w.untilLive("dev", "one")
			if err := proxy.Set(test.fault); err != nil {
				t.Fatal(err)
			}
			w.setValue("two")
			ends := time.Now().Add(test.lasts)
			for time.Now().Before(ends) {
				if dev := find(w.agent.Status(), "dev"); dev.Live == nil {
					t.Fatal("the live pointer is lost during the outage")
				}
				time.Sleep(100 * time.Millisecond)
			}
			if err := proxy.Clear(); err != nil {
				t.Fatal(err)
			}
			w.untilLive("dev", "two")
			everyIntentHasOneOutcome(t, w.records())
		})
	}
}

// everyIntentHasOneOutcome checks the plan and apply records of a log against each other.
func everyIntentHasOneOutcome(t *testing.T, records []evidence.Record) {
	t.Helper()
	outcomes := map[string]int{}
	intents := 0
	ids := map[string]bool{}
	for _, r := range records {
		if ids[r.ID] {
			t.Errorf("record %d repeats the ID %s", r.Index, r.ID)
		}
		ids[r.ID] = true
		switch r.Type {
		case evidence.TypePlan:
			intents++
			outcomes[fmt.Sprint(r.Index)]--
		case evidence.TypeApply:
			var p evidence.Apply
			decode(t, r, &p)
			outcomes[fmt.Sprint(p.Plan)]++
		}
	}
	for plan, balance := range outcomes {
		if balance != 0 {
			t.Errorf("the plan in record %s has %d outcomes", plan, balance+1)
		}
	}
	if intents == 0 {
		t.Error("no intent is recorded")
	}
}

// TestClusterThatHangsDelaysNoOther runs two environments on two clusters; one of them stops answering.
func TestClusterThatHangsDelaysNoOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	proxy, kubeconfig, err := w.lab.APIProxy(lab.Identity{User: "admin", Groups: []string{"system:masters"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { proxy.Close() })
	w.settings.clusters = fmt.Sprintf("    - name: far\n      kubeconfig: %s\n", kubeconfig)
	for i := range 8 { // more than a queue has workers
		name := fmt.Sprintf("far%d", i)
		w.write("purser/"+name+".yaml", strings.Replace(w.environment(name, "apps/"+name, ""), "cluster: lab", "cluster: far", 1))
		w.write("apps/"+name+"/kustomization.yaml", "namePrefix: "+name+"-\nresources: [../dev]\n")
	}
	w.push("Declare more environments, on another cluster")
	if err := proxy.Set(lab.Fault{Mode: lab.Hang}); err != nil {
		t.Fatal(err)
	}
	w.run()
	w.untilLive("dev", "one")
	start := time.Now()
	w.setValue("two")
	w.untilLive("dev", "two")
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("a hanging cluster delayed another one's release to %s", took)
	}
	if far := find(w.agent.Status(), "far0"); far.Live != nil {
		t.Error("the hanging cluster did not hang")
	}
	if err := proxy.Clear(); err != nil {
		t.Fatal(err)
	}
	labtest.Eventually(t, "the other cluster catches up", func(context.Context) error {
		for i := range 8 {
			if e := find(w.agent.Status(), fmt.Sprintf("far%d", i)); e.Live == nil {
				return fmt.Errorf("%s is %s: %s", e.Name, e.Outcome, e.Reason)
			}
		}
		return nil
	})
}

// TestExpiredCredentials are named, and new ones in the same place are used without a restart.
func TestExpiredCredentials(t *testing.T) {
	t.Parallel()
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, nil)
		expired, err := w.lab.KubeconfigFor(lab.Identity{User: "late-" + w.namespace, NotAfter: time.Now().Add(-time.Minute)})
		if err != nil {
			t.Fatal(err)
		}
		w.settings.kubeconfig = expired
		w.run()
		w.until("the credentials are named", func(s reconciler.Status, dev reconciler.EnvironmentStatus) error {
			if said := strings.ToLower(everythingSaid(s, dev)); !strings.Contains(said, "unauthorized") && !strings.Contains(said, "credentials") && !strings.Contains(said, "certificate") {
				return errors.New(said)
			}
			return nil
		})
	})
	t.Run("source", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, nil)
		user, password := filepath.Join(w.dir, "user"), filepath.Join(w.dir, "password")
		for file, text := range map[string]string{user: "agent", password: "old"} {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		w.settings.estateAuth = fmt.Sprintf("      auth: {usernameFile: %s, passwordFile: %s}\n", user, password)
		users := func(password string) {
			if err := w.estate.SetUsers(map[string]string{"agent": password}); err != nil {
				t.Fatal(err)
			}
		}
		users("old")
		w.run()
		w.untilLive("dev", "one")
		users("new-password")
		w.until("the refused credentials are named", func(s reconciler.Status, dev reconciler.EnvironmentStatus) error {
			if len(s.Sources) != 1 || s.Sources[0].Problem == "" {
				return errors.New("the source reports no problem")
			}
			return nil
		})
		if err := os.WriteFile(password, []byte("new-password"), 0o600); err != nil {
			t.Fatal(err)
		}
		w.until("the new password is used", func(s reconciler.Status, dev reconciler.EnvironmentStatus) error {
			if problem := s.Sources[0].Problem; problem != "" {
				return errors.New(problem)
			}
			return nil
		})
		if strings.Contains(w.logs.String(), "new-password") {
			t.Error("the password is in the log")
		}
	})
}

// TestGitServerDown keeps everything as it is while the estate cannot be read, repair included.
func TestGitServerDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) {
		w.write("purser/dev.yaml", w.environment("dev", "apps/dev", "reconcile: {interval: 1s}"))
	})
	proxy := w.gitProxy(&w.settings.estateURL)
	w.run()
	w.untilLive("dev", "one")
	if err := proxy.Set(lab.Fault{Mode: lab.Refuse}); err != nil {
		t.Fatal(err)
	}
	w.until("the outage is reported", func(s reconciler.Status, _ reconciler.EnvironmentStatus) error {
		if s.Sources[0].Problem == "" {
			return errors.New("the source reports no problem")
		}
		return nil
	})
	w.setByHand("c3", "by hand")
	w.waitFor("repair goes on without the Git server", func(ctx context.Context) error { return w.runs(ctx, "one") })
	w.setValue("two")
	if err := proxy.Clear(); err != nil {
		t.Fatal(err)
	}
	w.untilLive("dev", "two")
}

// TestAuditRemoteTrouble: while the audit remote takes no push nothing new is deployed, repair goes on, and
// everything is published afterwards.
func TestAuditRemoteTrouble(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) {
		w.write("purser/dev.yaml", w.environment("dev", "apps/dev", "reconcile: {interval: 1s}"))
	})
	w.run()
	w.untilLive("dev", "one")
	if err := w.audit.RejectPushes("closed for the audit"); err != nil {
		t.Fatal(err)
	}
	w.setByHand("c3", "by hand")
	w.waitFor("repair goes on", func(ctx context.Context) error { return w.runs(ctx, "one") })
	w.setValue("two")
	w.until("the trouble is reported", func(s reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if !strings.Contains(s.Evidence.Problem, "closed for the audit") {
			return fmt.Errorf("evidence says %q; dev is %s: %s", s.Evidence.Problem, dev.Outcome, dev.Reason)
		}
		return nil
	})
	if err := w.runs(t.Context(), "one"); err != nil {
		t.Errorf("a release was applied without its intent on the audit remote: %v", err)
	}
	if err := w.audit.AcceptPushes(); err != nil {
		t.Fatal(err)
	}
	w.untilLive("dev", "two")
	everyIntentHasOneOutcome(t, w.records())
}

// TestClockMovedBack sets the clock back by a day under a running agent.
func TestClockMovedBack(t *testing.T) {
	t.Parallel()
	var back atomic.Int64
	w := newWorld(t, func(w *world) {
		w.write("purser/dev.yaml", w.environment("dev", "apps/dev", "reconcile: {interval: 1s}"))
	})
	w.settings.now = func() time.Time { return time.Now().Add(-time.Duration(back.Load())) }
	w.run()
	w.untilLive("dev", "one")
	back.Store(int64(24 * time.Hour))
	w.setByHand("c3", "by hand")
	w.waitFor("repair goes on", func(ctx context.Context) error { return w.runs(ctx, "one") })
	w.setValue("two")
	w.untilLive("dev", "two")
	everyIntentHasOneOutcome(t, w.records())
}

// TestAuditBranchEmptied deletes the audit branch on its remote: nothing new is deployed, nothing is rewritten,
// and a restart is refused until a person has looked.
func TestAuditBranchEmptied(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.run()
	w.untilLive("dev", "one")
	branch := w.auditBranch()
	tip := w.auditGit("rev-parse", branch)
	w.auditGit("update-ref", "-d", branch)
	w.setValue("two")
	w.until("the loss is reported", func(s reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if !strings.Contains(s.Evidence.Problem, "is gone") || dev.Outcome != "waiting" {
			return fmt.Errorf("evidence says %q; dev is %s: %s", s.Evidence.Problem, dev.Outcome, dev.Reason)
		}
		return nil
	})
	if err := w.runs(t.Context(), "one"); err != nil {
		t.Errorf("a release was applied without its intent on the audit remote: %v", err)
	}
	w.stop()
	if _, err := w.newAgent(); err == nil || !strings.Contains(err.Error(), "is gone") {
		t.Errorf("a start on an emptied audit remote gives %v", err)
	}
	if refs := w.auditGit("for-each-ref", "refs/heads"); refs != "" {
		t.Errorf("the log was begun anew: %s", refs)
	}
	w.auditGit("update-ref", branch, tip)
	w.run()
	w.untilLive("dev", "two")
	everyIntentHasOneOutcome(t, w.records())
}

// TestDiskFull fills the agent's disk: it says so, changes nothing, and goes on when there is room.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.configure()
	data := filepath.Join(w.dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	agent := w.spawn("", "unshare", "-Urm", "sh", "-c", `mount -t tmpfs -o size=8m none "$0" && exec "$1"`, data, os.Args[0])
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the agent's log:\n%s", w.logs)
		}
	})
	w.waitFor("the first release runs", func(ctx context.Context) error { return w.runs(ctx, "one") })
	w.waitFor("it is recorded as live", func(context.Context) error { return w.logged("msg=live") })
	filler := fmt.Sprintf("/proc/%d/root%s/filler", agent.Process.Pid, data)
	if err := fill(filler); err != nil {
		t.Fatal(err)
	}
	w.setValue("two")
	w.waitFor("the full disk is named", func(context.Context) error { return w.logged("no space left on device") })
	if err := w.runs(t.Context(), "one"); err != nil {
		t.Errorf("a release was applied that could not be recorded: %v", err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	w.waitFor("the release goes on", func(ctx context.Context) error { return w.runs(ctx, "two") })
	if err := agent.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := agent.Wait(); err != nil {
		t.Errorf("the agent ended: %v", err)
	}
	everyIntentHasOneOutcome(t, w.records())
}

// fill writes a file until the disk is full.
func fill(name string) error {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	defer file.Close()
	for {
		if _, err := file.Write(make([]byte, 4096)); errors.Is(err, syscall.ENOSPC) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// logged says whether the agent logged some text.
func (w *world) logged(text string) error {
	if !strings.Contains(w.logs.String(), text) {
		return fmt.Errorf("%q is not in the agent's log", text)
	}
	return nil
}

// auditGit runs git in the audit repository itself.
func (w *world) auditGit(args ...string) string {
	w.t.Helper()
	return w.git(append([]string{"--git-dir", w.audit.Dir}, args...)...)
}

// auditBranch is the full name of the audit branch.
func (w *world) auditBranch() string {
	w.t.Helper()
	return w.auditGit("for-each-ref", "--format", "%(refname)", "refs/heads")
}

// TestTenantThatHangsDelaysNoOther gives another tenant of the same cluster more environments than it has workers, and
// lets each of their requests hang.
func TestTenantThatHangsDelaysNoOther(t *testing.T) {
	t.Parallel()
	var north string
	w := newWorld(t, func(w *world) {
		north = labtest.Namespace(t, w.lab)
		w.allow("north", north)
		w.write("purser/north.yaml", fmt.Sprintf("apiVersion: purser.dev/v1alpha1\nkind: Tenant\nmetadata: {name: north}\nspec:\n  namespaces: [%s]\n", north))
		w.write("apps/north/base/kustomization.yaml", "resources: [objects.yaml]\n")
		w.write("apps/north/base/objects.yaml", configMaps(2, "one"))
		for i := range 40 {
			name := fmt.Sprintf("n%d", i)
			declared := w.environment(name, "apps/north/"+name, "tenant: north")
			w.write("purser/"+name+".yaml", strings.Replace(declared, "namespace: "+w.namespace, "namespace: "+north, 1))
			w.write("apps/north/"+name+"/kustomization.yaml", "namePrefix: "+name+"-\nresources: [../base]\n")
		}
	})
	proxy := w.proxied()
	if err := proxy.Set(lab.Fault{Mode: lab.Hang, Match: func(r *http.Request) bool {
		return strings.Contains(r.URL.Path, "/namespaces/"+north+"/")
	}}); err != nil {
		t.Fatal(err)
	}
	w.run()
	w.untilLive("dev", "one")
	w.write("apps/dev/objects.yaml", configMaps(5, "two"))
	start := time.Now()
	w.push("Release two")
	w.untilLive("dev", "two")
	t.Logf("live %s after the push", time.Since(start))
	for _, e := range w.agent.Status().Environments {
		if e.Tenant == "north" && e.Live != nil {
			t.Errorf("%s is live although its requests hang", e.Name)
		}
	}
	if err := proxy.Clear(); err != nil {
		t.Fatal(err)
	}
	w.until("the other tenant is live, too", func(s reconciler.Status, _ reconciler.EnvironmentStatus) error {
		for _, e := range s.Environments {
			if e.Live == nil {
				return fmt.Errorf("%s is %s: %s", e.Name, e.Outcome, e.Reason)
			}
		}
		return nil
	})
}
