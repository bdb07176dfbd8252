package reconciler_test

// One tenant's freeze, failure or backlog never delays or changes another's environments.

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/reconciler/evidence"
)

// tenants makes a world whose dev is the tenant south's.
func tenants(t *testing.T) *world {
	t.Helper()
	return newWorld(t, func(w *world) {
		w.allow("south", w.namespace)
		w.tenant("south", w.namespace)
		w.write("purser/dev.yaml", w.environment("dev", "apps/dev", "tenant: south\nclass: standard"))
		w.write("purser/standard.yaml", `apiVersion: purser.dev/v1alpha1
kind: ReleaseClass
metadata: {name: standard}
spec: {rank: 20, change: {reason: true}}
`)
		w.write("apps/dev/release.yaml", `apiVersion: purser.dev/v1alpha1
kind: Release
spec: {version: "1", change: {reason: shelf labels}}
`)
	})
}

func (w *world) tenant(name string, namespaces ...string) {
	w.t.Helper()
	w.write("purser/tenants/"+name+".yaml", fmt.Sprintf(`apiVersion: purser.dev/v1alpha1
kind: Tenant
metadata: {name: %s}
spec:
  namespaces: [%s]
  kinds: [{kind: ConfigMap}]
`, name, strings.Join(namespaces, ", ")))
}

// northBacklog is how many environments of north have a release that waits.
const northBacklog = 200

// north declares a tenant with everything that can go wrong: a freeze that holds hundreds of releases back, a policy and a
// classification that cannot be evaluated for it, and an environment whose cluster calls hang.
func (w *world) north() {
	w.t.Helper()
	frozen, hanging, unclassified := labtest.Namespace(w.t, w.lab), labtest.Namespace(w.t, w.lab), labtest.Namespace(w.t, w.lab)
	w.tenant("north", frozen, hanging, unclassified)
	w.write("purser/north.yaml", `apiVersion: purser.dev/v1alpha1
kind: Calendar
metadata: {name: north}
spec:
  timeZone: Europe/Berlin
  freezes: [{name: always, start: "2000-01-01T00:00", end: "2100-01-01T00:00", inFlight: rollBack}]
---
apiVersion: purser.dev/v1alpha1
kind: Policy
metadata: {name: broken}
spec:
  match: {tenants: [north], environments: [north-0]}
  rules: [{name: broken, expression: "object.data.missing == 'x'", message: never}]
---
apiVersion: purser.dev/v1alpha1
kind: Estate
metadata: {name: sample}
spec:
  classification:
    - {name: broken, expression: "environment.name == 'north-unclassified' && changes[100000].kind == 'x'", class: standard}
`)
	declare := func(name, namespace, more string) {
		w.write("purser/north/"+name+".yaml", strings.ReplaceAll(w.environment(name, "apps/"+name, "tenant: north\n"+more), w.namespace, namespace))
		w.write("apps/"+name+"/kustomization.yaml", "namePrefix: "+name+"-\nresources: [../north]\n")
	}
	w.write("apps/north/kustomization.yaml", "resources: [objects.yaml]\n")
	w.write("apps/north/objects.yaml", configMaps(5, "one"))
	for i := range northBacklog {
		declare(fmt.Sprintf("north-%d", i), frozen, "calendar: north")
	}
	declare("north-hangs", hanging, "")
	declare("north-unclassified", unclassified, "")
}

func TestTenantsDoNotTouchEachOther(t *testing.T) {
	t.Parallel()
	w := tenants(t)
	proxy := w.proxied()
	var hung atomic.Int32
	if err := proxy.Set(lab.Fault{Mode: lab.Hang, Match: func(r *http.Request) bool {
		north := r.Header.Get("Impersonate-User") == "purser:tenant:north"
		if north {
			hung.Add(1)
		}
		return north
	}}); err != nil {
		t.Fatal(err)
	}
	w.run()
	w.untilLive("dev", "one")
	w.setValue("two")
	w.untilLive("dev", "two")

	w.north()
	w.push("Let north in")
	w.until("north is in trouble", func(s reconciler.Status, _ reconciler.EnvironmentStatus) error { return inTrouble(s, &hung) })
	// One push changes every environment of both, and north's declaration is invalid.
	w.write("apps/north/objects.yaml", configMaps(5, "two"))
	w.write("purser/north/bad.yaml", "apiVersion: purser.dev/v1alpha1\nkind: Environment\nmetadata: {name: north-bad}\nspec: {namspace: x}\n")
	w.setValue("three")
	w.untilLive("dev", "three")
	for _, e := range w.agent.Status().Environments {
		if e.Tenant == "north" && e.Live != nil {
			t.Errorf("south was not alone: %s is live", e.Name)
		}
	}
	w.until("the invalid declaration is refused", func(s reconciler.Status, _ reconciler.EnvironmentStatus) error {
		if s.Refused == nil || !strings.Contains(strings.Join(s.Refused.Errors, " "), "purser/north/bad.yaml:4:8") {
			return fmt.Errorf("%+v", s.Refused)
		}
		return nil
	})
	w.setByHand("c1", "drifted")
	w.untilRuns("three")
	w.until("north is in trouble still", func(s reconciler.Status, _ reconciler.EnvironmentStatus) error { return inTrouble(s, &hung) })
	if err := proxy.Clear(); err != nil {
		t.Fatal(err)
	}
	w.decidesAlike(w.records())
}

// inTrouble checks that north waits, is denied and hangs.
func inTrouble(s reconciler.Status, hung *atomic.Int32) error {
	waiting := 0
	for _, e := range s.Environments {
		switch {
		case e.Tenant != "north":
		case e.Live != nil:
			return fmt.Errorf("%s is live", e.Name)
		case e.Name == "north-unclassified" || e.Name == "north-0":
			if e.Outcome != "denied" {
				return fmt.Errorf("%s is %s: %s", e.Name, e.Outcome, e.Reason)
			}
		case e.Verdict != nil && strings.Contains(e.Reason, "always"):
			waiting++
		}
	}
	if waiting < northBacklog-1 || hung.Load() == 0 {
		return fmt.Errorf("%d of north wait, and %d calls hang", waiting, hung.Load())
	}
	return nil
}

// decidesAlike checks that the gates said the same, byte for byte, of each release of dev that followed another one.
func (w *world) decidesAlike(records []evidence.Record) {
	w.t.Helper()
	var said []string
	for _, r := range records {
		if r.Type != evidence.TypeDecision || r.Environment != "dev" {
			continue
		}
		var d struct {
			Verdict struct{ Gates json.RawMessage }
		}
		decode(w.t, r, &d)
		said = append(said, string(d.Verdict.Gates))
	}
	if len(said) != 3 {
		w.t.Fatalf("%d decisions about dev, want 3", len(said))
	}
	if said[1] != said[2] {
		w.t.Errorf("alone the gates said\n%s\nand beside north\n%s", said[1], said[2])
	}
}

// A governance commit that is broken for one tenant is refused as a whole: for everybody the last good one stays in force,
// also after a restart, and releases go on.
func TestBrokenGovernanceLeavesTheLastGoodForAll(t *testing.T) {
	t.Parallel()
	w := tenants(t)
	other := labtest.Namespace(t, w.lab)
	w.allow("north", other)
	w.tenant("north", other)
	w.write("purser/qa.yaml", strings.ReplaceAll(w.environment("qa", "apps/qa", "tenant: north"), w.namespace, other))
	w.write("apps/qa/kustomization.yaml", "resources: [objects.yaml]\n")
	w.write("apps/qa/objects.yaml", configMaps(1, "one"))
	w.push("Declare qa")
	live := func(what string, want func(qa reconciler.EnvironmentStatus) bool) string {
		t.Helper()
		release := ""
		w.until(what, func(s reconciler.Status, _ reconciler.EnvironmentStatus) error {
			qa := find(s, "qa")
			if qa.Live == nil || qa.Live.Release != qa.Proposed.Release || !want(qa) {
				return fmt.Errorf("qa is %s: %s", qa.Outcome, qa.Reason)
			}
			release = qa.Live.Release
			return nil
		})
		return release
	}
	w.run()
	w.untilLive("dev", "one")
	first := live("qa is live", func(reconciler.EnvironmentStatus) bool { return true })

	w.write("purser/standard.yaml", "apiVersion: purser.dev/v1alpha1\nkind: ReleaseClass\nmetadata: {name: standard}\nspec: {rank: 20, change: {ticket: nothing}}\n") // valid, and stricter
	w.write("purser/qa.yaml", w.environment("qa", "apps/qa", "tenant: north"))                                                                                        // in south's namespace
	w.write("apps/qa/objects.yaml", configMaps(1, "two"))
	w.setValue("two")
	w.untilLive("dev", "two") // by the class as it was
	second := live("qa's release goes on", func(qa reconciler.EnvironmentStatus) bool { return qa.Live.Release != first })
	refused := func(s reconciler.Status, _ reconciler.EnvironmentStatus) error {
		if s.Refused == nil {
			return errors.New("the commit is not refused")
		}
		return nil
	}
	w.until("the commit is refused", refused)
	w.stop()
	w.run()
	w.write("apps/qa/objects.yaml", configMaps(1, "three"))
	w.setValue("three")
	w.untilLive("dev", "three")
	live("qa goes on after a restart", func(qa reconciler.EnvironmentStatus) bool { return qa.Live.Release != second })
	w.until("the commit is refused still", refused)
	governed := map[string]bool{}
	for _, r := range w.records() {
		if r.Type == evidence.TypeDecision && r.Environment != "" {
			var d evidence.Decision
			decode(t, r, &d)
			governed[d.Governance] = true
		}
	}
	if len(governed) != 1 {
		t.Errorf("releases were judged by %d governance commits, want one", len(governed))
	}
}
