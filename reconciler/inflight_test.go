package reconciler_test

// What becomes of a release that is under way when a freeze begins.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/policy"
)

// A freeze of twenty minutes.
var (
	freezeBegins = time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)
	freezeEnds   = freezeBegins.Add(20 * time.Minute)
)

// clock is the world's clock, which tests set.
type clock struct {
	ahead   atomic.Int64
	stopped atomic.Pointer[time.Time]
}

func (c *clock) now() time.Time {
	if at := c.stopped.Load(); at != nil {
		return *at
	}
	return time.Now().Add(time.Duration(c.ahead.Load()))
}

func (c *clock) set(moment time.Time) { c.ahead.Store(int64(time.Until(moment))) }

// stop lets no more time pass: what happens from now on did not wait for any, however long it takes.
func (c *clock) stop() {
	at := c.now()
	c.stopped.Store(&at)
}

// resume lets time pass again.
func (c *clock) resume() { c.stopped.Store(nil) }

// clock gives the world one.
func (w *world) clock() *clock {
	c := &clock{}
	w.settings.now = c.now
	return c
}

// freezes gives dev a calendar with one freeze that has a rule for what is under way, and the world a clock.
func (w *world) freezes(rule string) *clock {
	w.t.Helper()
	c := w.clock()
	c.set(freezeBegins.Add(-30 * time.Minute))
	w.write("purser/calendar.yaml", fmt.Sprintf(`apiVersion: purser.dev/v1alpha1
kind: Calendar
metadata: {name: retail}
spec:
  timeZone: UTC
  freezes: [{name: black-friday, reason: peak trade, start: "2026-11-26T00:00", end: "2026-11-26T00:20", inFlight: %s}]
`, rule))
	return c
}

// nudge has the agent look at everything, so that it knows what its clock shows.
func (w *world) nudge() {
	w.t.Helper()
	w.push("Nothing")
}

// unready is a release of dev that is applied and never healthy.
func (w *world) unready(value string) {
	w.t.Helper()
	w.write("apps/dev/web.yaml", `apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata:
      labels: {app: web}
      annotations: {lab.purser.dev/pod: not-ready}
    spec: {containers: [{name: web, image: "registry.example/odoo:18"}]}
`)
	w.write(kustomization, "resources: [objects.yaml, web.yaml]\n")
	w.setValue(value)
}

func (w *world) untilApplied(value string) {
	w.t.Helper()
	w.until(value+" is applied and not healthy", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if dev.Deployment.Phase != reconciler.PhaseApplied || dev.Deployment.Release != dev.Proposed.Release {
			return fmt.Errorf("%s: %s", dev.Deployment.Phase, dev.Reason)
		}
		return w.runs(w.t.Context(), value)
	})
}

// What is approved and cannot be applied yet when the freeze begins is held until the freeze ends.
func TestFreezePausesWhatIsNotApplied(t *testing.T) {
	t.Parallel()
	var c *clock
	w := newWorld(t, func(w *world) {
		c = w.freezes("pause")
		w.write("purser/dev.yaml", w.environment("dev", "apps/dev", "calendar: retail"))
	})
	w.run()
	first := w.untilLive("dev", "one")
	w.write("apps/dev/quota.yaml", "apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: quota}\nspec: {hard: {pods: \"9\"}}\n") // not the tenant's to make
	w.write(kustomization, "resources: [objects.yaml, quota.yaml]\n")
	w.setValue("two")
	w.until("two is approved", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if dev.Approved.Release == first {
			return fmt.Errorf("%s: %s", dev.Outcome, dev.Reason)
		}
		return nil
	})
	c.set(freezeBegins)
	w.nudge()
	w.until("two is held", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if dev.Approved.Release == first || dev.Outcome != "waiting" ||
			!strings.Contains(dev.Reason, `freeze "black-friday" is in force: peak trade; it goes on at 2026-11-26T00:20:00Z`) {
			return fmt.Errorf("%s: %s", dev.Outcome, dev.Reason)
		}
		return nil
	})
	w.allowQuotas()
	w.setByHand("c1", "drifted")
	w.untilRuns("one") // what is live is repaired
	c.set(freezeEnds.Add(-2 * time.Second))
	w.nudge()
	w.untilLive("dev", "two")
	caught := 0
	for _, r := range w.records() {
		var p evidence.Plan
		if r.Type == evidence.TypePlan {
			decode(t, r, &p)
		}
		if p.Purpose == evidence.PurposeRelease && !r.Time.Before(freezeBegins) && r.Time.Before(freezeEnds) {
			t.Errorf("record %d plans a release at %s, in the freeze", r.Index, r.Time)
		}
		if r.Type == evidence.TypeFreeze {
			var f evidence.Freeze
			decode(t, r, &f)
			if caught++; f.Rule != "pause" || f.To != "" || !f.Until.Equal(freezeEnds) || r.Time.Before(freezeBegins) {
				t.Errorf("record %d at %s: %+v", r.Index, r.Time, f)
			}
		}
	}
	if caught != 1 {
		t.Errorf("the freeze is recorded %d times, want once", caught)
	}
}

// allowQuotas lets the tenant make ResourceQuotas.
func (w *world) allowQuotas() {
	w.t.Helper()
	ctx := w.t.Context()
	if _, err := w.kube.RbacV1().Roles(w.namespace).Create(ctx, &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: "quotas"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"resourcequotas"}, Verbs: []string{"*"}}},
	}, metav1.CreateOptions{}); err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.kube.RbacV1().RoleBindings(w.namespace).Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "quotas"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "quotas"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "purser:tenant:default"}},
	}, metav1.CreateOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

// What is applied and not healthy when the freeze begins goes back to what was live, by itself, and comes again when the
// freeze ends, with the approval that it had.
func TestFreezeTakesBackWhatIsNotHealthy(t *testing.T) {
	t.Parallel()
	var c *clock
	w := governed(t, func(w *world) {
		c = w.freezes("rollBack")
		w.write("purser/dev.yaml", w.environment("dev", "apps/dev", "class: standard\ncalendar: retail"))
	})
	w.run()
	w.firstRelease()
	first := w.untilLive("dev", "one")
	w.signedBy("developer-1")
	w.unready("two")
	w.untilGate("approvals", policy.Wait, "")
	w.approves("release-manager-1")
	w.untilApplied("two")
	second := find(w.agent.Status(), "dev").Deployment.Release
	c.set(freezeBegins.Add(-4 * time.Second))
	w.nudge()
	w.until("what was live is live again", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if dev.Approved.Release != first || dev.Deployment.Release != first || dev.Deployment.Phase != reconciler.PhaseLive || len(dev.Vetoes) > 0 {
			return fmt.Errorf("%s %s: %s", dev.Deployment.Release, dev.Deployment.Phase, dev.Reason)
		}
		return w.runs(t.Context(), "one")
	})
	if _, err := w.kube.AppsV1().Deployments(w.namespace).Get(t.Context(), "web", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("what the release brought is still there: %v", err)
	}
	w.untilGate("calendar", policy.Wait, `took the release back`)
	c.set(freezeBegins.Add(-20 * time.Minute)) // a clock that goes back lets nothing in
	w.nudge()
	w.until("the clock's going back lets nothing in", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if dev.Approved.Release != first || !strings.Contains(dev.Reason, "the clock went back") {
			return errors.New(dev.Reason)
		}
		return nil
	})
	c.set(freezeEnds.Add(-2 * time.Second))
	w.nudge()
	w.untilApplied("two") // nobody approved it again
	if again := find(w.agent.Status(), "dev").Deployment; again.Release != second || again.Number != 4 {
		t.Errorf("deployment %+v, want the 4th, of the same release", again)
	}
	var story []string
	for _, r := range w.records() {
		if r.Type == evidence.TypeFreeze || r.Type == evidence.TypeLive || r.Type == evidence.TypeVeto {
			story = append(story, r.Type)
		}
		if r.Type == evidence.TypeFreeze {
			var f evidence.Freeze
			decode(t, r, &f)
			if f.Rule != "rollBack" || f.Name != "black-friday" || f.Release != second || f.To != first || r.Time.Before(freezeBegins) {
				t.Errorf("record %d at %s: %+v", r.Index, r.Time, f)
			}
		}
	}
	if want := []string{"live", "freeze", "live"}; !slices.Equal(story, want) {
		t.Errorf("recorded %v, want %v", story, want)
	}
}

// inFlightPoints are where an agent is killed while a freeze takes a release back.
var inFlightPoints = []string{"caught:1", "planned:1", "intended:1", "applied:1", "recorded:1", "live:1"}

func TestCrashWhileAFreezeTakesBack(t *testing.T) {
	t.Parallel()
	for _, point := range inFlightPoints {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			var c *clock
			w := newWorld(t, func(w *world) {
				c = w.freezes("rollBack")
				w.write("purser/dev.yaml", w.environment("dev", "apps/dev", "calendar: retail"))
			})
			w.configure()
			agent := w.agentProcess("")
			w.waitFor("the first release runs", func(ctx context.Context) error { return w.runs(ctx, "one") })
			w.unready("two")
			w.waitFor("the second release runs", func(ctx context.Context) error { return w.runs(ctx, "two") })
			w.waitFor("that is recorded", func(context.Context) error {
				if n := strings.Count(w.logs.String(), "purpose=release outcome=applied"); n < 2 {
					return fmt.Errorf("%d applies", n)
				}
				return nil
			})
			agent.end(syscall.SIGTERM)
			c.set(freezeBegins.Add(-3 * time.Second))
			agent = w.agentProcess(point)
			if err := agent.wait(); err == nil || !strings.Contains(err.Error(), "killed") {
				t.Fatalf("the agent did not come to %s: %v", point, err)
			}
			c.set(freezeBegins.Add(time.Minute))
			agent = w.agentProcess("")
			w.waitFor("what was live is back", func(ctx context.Context) error {
				if err := w.runs(ctx, "one"); err != nil {
					return err
				}
				if _, err := w.kube.AppsV1().Deployments(w.namespace).Get(ctx, "web", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
					return fmt.Errorf("the web server is still there (%v)", err)
				}
				return nil
			})
			w.waitFor("that is live", func(context.Context) error {
				if r := w.records(); !slices.ContainsFunc(r[slices.IndexFunc(r, isFreeze):], isLive) {
					return errors.New("it is not recorded")
				}
				return nil
			})
			agent.end(syscall.SIGTERM)
			records := w.records()
			everyIntentHasOneOutcome(t, records)
			w.tookBackOnce(records)
		})
	}
}

func isFreeze(r evidence.Record) bool { return r.Type == evidence.TypeFreeze }
func isLive(r evidence.Record) bool   { return r.Type == evidence.TypeLive }

// tookBackOnce checks that a freeze took a release back once, that what was live is live, and that nothing else was let in.
func (w *world) tookBackOnce(records []evidence.Record) {
	w.t.Helper()
	var back evidence.Freeze
	times, live := 0, ""
	for _, r := range records {
		switch r.Type {
		case evidence.TypeFreeze:
			decode(w.t, r, &back)
			times++
		case evidence.TypeLive:
			var p evidence.Live
			decode(w.t, r, &p)
			live = p.Release
		case evidence.TypeDecision:
			var d evidence.Decision
			decode(w.t, r, &d)
			if times > 0 && d.Verdict.Answer == policy.Allow {
				w.t.Errorf("record %d approves %s in the freeze", r.Index, d.To)
			}
		}
	}
	if times != 1 || back.To != live {
		w.t.Errorf("taken back %d times, the last time to %s; live is %s", times, back.To, live)
	}
}
