package labtest

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/purser-gitops/purser/examples/lab"
)

func TestMain(m *testing.M) { Main(m) }

func TestSharedNamespaceAndIdentity(t *testing.T) {
	t.Parallel()
	l := Shared(t)
	ns := Namespace(t, l)

	secrets := schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	admin, err := dynamic.NewForConfig(Config(t, l))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Resource(secrets).Namespace(ns).List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Fatalf("the administrator must list secrets: %v", err)
	}
	nobody, err := dynamic.NewForConfig(ConfigFor(t, l, lab.Identity{User: "nobody"}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nobody.Resource(secrets).Namespace(ns).List(t.Context(), metav1.ListOptions{}); err == nil {
		t.Fatal("a user without rights listed secrets")
	}
}

func TestSharedAddsServers(t *testing.T) {
	t.Parallel()
	if l := Shared(t, lab.Scheduler); !l.Has(lab.Scheduler) || !l.Has(lab.APIServer) {
		t.Fatalf("servers are %v", l.Servers)
	}
}
