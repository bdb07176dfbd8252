package apply

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/purser-gitops/purser/examples/lab/labtest"
)

func TestImmutableFields(t *testing.T) {
	s := newSite(t)
	service := func(more string) string {
		return "---\napiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {" + more + "selector: {app: web}, ports: [{port: 80}]}\n"
	}
	job := func(image string) string {
		return fmt.Sprintf("---\napiVersion: batch/v1\nkind: Job\nmetadata: {name: migrate}\nspec: {suspend: true, template: {spec: {restartPolicy: Never, containers: [{name: m, image: %q}]}}}\n", image)
	}
	selector := func(app string) string { return strings.ReplaceAll(deployment("web", ""), "app: web", "app: "+app) }
	fixed := func(v string) string {
		return "---\napiVersion: v1\nkind: Secret\nmetadata: {name: fixed}\nimmutable: true\nstringData: {password: " + v + "}\n"
	}
	s.apply(service("clusterIP: None, ") + job("registry.example/m:1") + selector("web") + fixed("first-hush"))
	for name, c := range map[string]struct {
		release string
		parts   []string
	}{
		"service":    {service("clusterIP: 10.0.0.77, "), []string{"Service " + s.ns + "/web", "spec.clusterIP", "immutable"}},
		"job":        {job("registry.example/m:2"), []string{"batch/Job " + s.ns + "/migrate", "spec.template", "new name"}},
		"deployment": {selector("shop"), []string{"apps/Deployment " + s.ns + "/web", "spec.selector", "never deletes"}},
		"secret":     {fixed("second-hush"), []string{"Secret " + s.ns + "/fixed", "data", "immutable", "new name"}},
	} {
		_, stalled := s.refuse(c.release)
		wantText(t, name, stalled.Error(), c.parts...)
		if strings.Contains(fmt.Sprintf("%v %+v", stalled, errors.Unwrap(stalled)), "hush") {
			t.Errorf("%s: error holds a Secret's value: %v", name, stalled)
		}
	}
	if s.live(job("x")) == nil {
		t.Error("the job is gone")
	}
}

func TestForbiddenForTenant(t *testing.T) {
	s := newSite(t)
	other := labtest.Namespace(t, s.lab)
	_, stalled := s.refuse(fmt.Sprintf("{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: %s}}", other))
	wantText(t, "error", stalled.Error(), "impersonated user purser:tenant:"+s.ns, "cannot get", "ConfigMap "+other+"/a", "grant", "configmaps", "Role")
	_, stalled = s.refuse("{apiVersion: v1, kind: Namespace, metadata: {name: forbidden-namespace}}")
	wantText(t, "error", stalled.Error(), "Namespace", "namespaces", "ClusterRole")
}

func TestAgentMayNotImpersonate(t *testing.T) {
	s := newSite(t)
	stranger := open(t, labtest.ConfigFor(t, s.lab, agentNamed("purser-without-rights")), Options{})
	_, err := s.tenant(stranger).Plan(t.Context(), s.with(configMap("a", "1")))
	stalled, ok := asStalled(err)
	if !ok {
		t.Fatalf("got %v", err)
	}
	wantText(t, "error", stalled.Error(), "may not impersonate purser:tenant:"+s.ns, "impersonate")
}

func TestNotAccepted(t *testing.T) {
	s := newSite(t)
	for name, c := range map[string]struct {
		object string
		parts  []string
	}{
		"unknown field":    {"{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, dta: {a: b}}", []string{"dta"}},
		"wrong type":       {strings.Replace(deployment("web", "  replicas: 1"), "replicas: 1", "replicas: many", 1), []string{"replicas"}},
		"invalid name":     {"{apiVersion: v1, kind: ConfigMap, metadata: {name: Not_A_Name}}", []string{"Not_A_Name"}},
		"missing selector": {"{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: b}]}}}}", []string{"spec.selector"}},
		"no name":          {"{apiVersion: v1, kind: ConfigMap, metadata: {generateName: a-}}", []string{"has no name"}},
		"twice":            {configMap("a", "1") + configMap("a", "2"), []string{"twice"}},
		"unknown kind":     {"{apiVersion: nowhere.example/v1, kind: Nothing, metadata: {name: a}}", []string{"does not serve kind Nothing", "CustomResourceDefinition"}},
		"no namespace":     {"{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: no-such-namespace}}", []string{"no-such-namespace"}},
		"bad secret":       {"{apiVersion: v1, kind: Secret, metadata: {name: a}, data: {password: \"***hush***\"}}", []string{"withheld"}},
		"secret type":      {"{apiVersion: v1, kind: Secret, metadata: {name: a}, data: {password: {hush: a}}}", []string{"Secret"}},
		"string data type": {"{apiVersion: v1, kind: Secret, metadata: {name: a}, stringData: {password: 4711}}", []string{"quote it"}},
		"secret name":      {"{apiVersion: v1, kind: Secret, type: kubernetes.io/dockerconfigjson, metadata: {name: a}, stringData: {\".dockerconfigjson\": \"hush 4711\"}}", []string{"data[.dockerconfigjson]"}},
	} {
		p, stalled := s.refuse(c.object)
		wantText(t, name, stalled.Error(), c.parts...)
		all := fmt.Sprintf("%v %+v %v %s", stalled, stalled.Err, p, show(p))
		if strings.Contains(all, "hush") || strings.Contains(all, "4711") {
			t.Errorf("%s: a Secret's value got out: %s", name, all)
		}
		if changes, err := s.client.Apply(t.Context(), p); err == nil {
			t.Errorf("%s: a plan with problems was applied: %v", name, changes)
		}
	}
}

func TestOneBadObjectDoesNotHideTheOthers(t *testing.T) {
	s := newSite(t)
	p, stalled := s.refuse(configMap("good", "1") + configMap("Bad_1", "1") + configMap("Bad_2", "1"))
	wantText(t, "error", stalled.Error(), "2 objects refused", "Bad_1", "Bad_2")
	if entry(t, p, "ConfigMap/good").Action != Created || len(p.problems) != 2 {
		t.Errorf("plan: %s", p)
	}
	if s.live(configMap("good", "1")) != nil {
		t.Error("planning created an object")
	}
}

func TestQuotaExceeded(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.create("{apiVersion: v1, kind: ResourceQuota, metadata: {name: q}, spec: {hard: {count/configmaps: \"2\"}}}")
	labtest.Eventually(t, "quota is counted", func(contextT) error {
		if q := s.live("{apiVersion: v1, kind: ResourceQuota, metadata: {name: q}}"); q.Object["status"] == nil || len(q.Object["status"].(map[string]any)) < 2 {
			return errors.New("not yet")
		}
		return nil
	})
	// One ConfigMap is the cluster's own CA bundle, one more fits. A dry run may or may not count: apply always does.
	d := s.with(configMap("a", "1") + configMap("b", "1"))
	p, err := s.client.Plan(t.Context(), d)
	var changes ChangeSet
	if err == nil {
		changes, err = s.client.Apply(t.Context(), p)
		if len(s.inventory.Merge(changes)) != 2 {
			t.Errorf("inventory: %v", changes)
		}
	}
	if err == nil {
		t.Fatal("the quota has room")
	}
	if _, ok := asStalled(err); ok {
		t.Errorf("quota stalls: %v", err)
	}
	wantText(t, "error", err.Error(), "exceeded quota: q")
}
