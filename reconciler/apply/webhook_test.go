package apply

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/purser-gitops/purser/examples/lab/labtest"
)

// webhook serves admission reviews for ConfigMaps of the site's namespace; answer fills in the response.
func (s *site) webhook(kind, sideEffects string, answer func(object map[string]any, response map[string]any)) *atomic.Int64 {
	s.t.Helper()
	calls := &atomic.Int64{}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		var review map[string]any
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		request := review["request"].(map[string]any)
		response := map[string]any{"uid": request["uid"], "allowed": true}
		object, _ := request["object"].(map[string]any)
		answer(object, response)
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response})
	}))
	s.t.Cleanup(server.Close)
	ca := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	s.create(fmt.Sprintf(`
apiVersion: admissionregistration.k8s.io/v1
kind: %[1]sWebhookConfiguration
metadata: {name: %[2]s}
webhooks:
- name: house.rules.example
  admissionReviewVersions: [v1]
  sideEffects: %[3]s
  timeoutSeconds: 5
  clientConfig: {url: %[4]q, caBundle: %[5]s}
  namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: %[2]s}}
  rules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [configmaps, secrets]}]
`, kind, s.ns, sideEffects, server.URL, ca))
	s.settled(func() bool { return calls.Load() > 0 })
	return calls
}

// settled writes a probe object until admission has taken notice of a new rule.
func (s *site) settled(done func() bool) {
	s.t.Helper()
	labtest.Eventually(s.t, "admission rule is in force", func(context.Context) error {
		_, _ = s.client.Plan(s.t.Context(), s.with(configMap("probe", "1")))
		probe := docs(s.t, configMap("probe", "1"))[0]
		_, _ = s.at(probe).Create(s.t.Context(), probe, createNow)
		_ = s.at(probe).Delete(s.t.Context(), "probe", deleteNow)
		if !done() {
			return errors.New("not yet")
		}
		return nil
	})
}

// patches answers with a JSON patch.
func patches(ops ...map[string]any) func(map[string]any, map[string]any) {
	return func(object, response map[string]any) {
		data, err := json.Marshal(ops)
		if err != nil {
			panic(err)
		}
		response["patchType"], response["patch"] = "JSONPatch", base64.StdEncoding.EncodeToString(data)
	}
}

// A webhook that changes what we send and adds to it makes no endless difference, and is no conflict with ourselves.
func TestMutatingWebhook(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	calls := s.webhook("Mutating", "None", patches(
		map[string]any{"op": "add", "path": "/data/key", "value": "rewritten"},
		map[string]any{"op": "add", "path": "/data/injected", "value": "yes"}))
	for _, value := range []string{"1", "2"} {
		s.apply(configMap("a", value))
		data, _, _ := unstructured.NestedStringMap(s.live(configMap("a", "")).Object, "data")
		if data["key"] != "rewritten" || data["injected"] != "yes" {
			t.Fatalf("webhook did not act: %v", data)
		}
		before := calls.Load()
		s.unchanged(configMap("a", value))
		if calls.Load() == before {
			t.Error("dry run went past the webhook")
		}
	}
}

func TestMutatingAdmissionPolicy(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.create(fmt.Sprintf(`
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: %[1]s}
spec:
  failurePolicy: Fail
  reinvocationPolicy: Never
  matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: ["v1"], operations: [CREATE, UPDATE], resources: [configmaps]}]}
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration: {expression: "Object{data: {'house': 'rules', 'key': 'rewritten'}}"}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: %[1]s}
spec:
  policyName: %[1]s
  matchResources: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: %[1]s}}}
`, s.ns))
	s.settled(func() bool {
		probe := docs(t, configMap("policy", "1"))[0]
		got, err := s.at(probe).Create(t.Context(), probe, dryCreate)
		return err == nil && got.Object["data"].(map[string]any)["house"] == "rules"
	})
	s.apply(configMap("a", "1"))
	if data, _, _ := unstructured.NestedStringMap(s.live(configMap("a", "")).Object, "data"); data["key"] != "rewritten" {
		t.Fatalf("policy did not act: %v", data)
	}
	s.unchanged(configMap("a", "1"))
}

func TestDeniedByWebhook(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.webhook("Validating", "None", func(object, response map[string]any) {
		response["allowed"] = false
		response["status"] = map[string]any{"message": fmt.Sprintf("object is not nice: %v %v", object["data"], object["stringData"])}
	})
	_, stalled := s.refuse(configMap("a", "visible"))
	wantText(t, "error", stalled.Error(), `admission webhook "house.rules.example"`, "not nice", "visible")
	_, stalled = s.refuse("{apiVersion: v1, kind: Secret, metadata: {name: a}, stringData: {password: hush-hush}}")
	wantText(t, "error", stalled.Error(), `admission webhook "house.rules.example"`, "Secret "+s.ns+"/a", "withheld")
	if all := fmt.Sprintf("%v %+v", stalled, stalled.Err); strings.Contains(all, "hush") || strings.Contains(all, base64.StdEncoding.EncodeToString([]byte("hush-hush"))) {
		t.Errorf("a Secret's value got out: %s", all)
	}
}
