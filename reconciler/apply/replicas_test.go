package apply

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/purser-gitops/purser/examples/lab/labtest"
)

func autoscaler(target string) string {
	return fmt.Sprintf(`---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: %[1]s}
spec:
  minReplicas: 2
  maxReplicas: 10
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: %[1]s}
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 70}}}]
`, target)
}

// scale writes the number of replicas the way the autoscaler's controller does.
func (s *site) scale(name string, n int) {
	s.patchAs(hpaManager, deployment(name, ""), fmt.Sprintf(`{"spec":{"replicas":%d}}`, n), "scale")
}

func (s *site) replicas(name string) int64 {
	n, _, _ := unstructured.NestedInt64(s.live(deployment(name, "")).Object, "spec", "replicas")
	return n
}

// A release that brings an autoscaler and drops replicas must not fall back to one replica on the way.
func TestHandOverToAutoscaler(t *testing.T) {
	s := newSite(t)
	s.apply(deployment("web", "  replicas: 3"))
	with := deployment("web", "") + autoscaler("web")
	s.apply(with)
	if n := s.replicas("web"); n != 3 {
		t.Fatalf("hand-over changed replicas to %d", n)
	}
	s.unchanged(with)
	s.scale("web", 6)
	s.unchanged(with)
	next := deployment("web", "  minReadySeconds: 1") + autoscaler("web")
	s.apply(next)
	if n := s.replicas("web"); n != 6 {
		t.Errorf("apply changed replicas to %d", n)
	}
	s.unchanged(next)
}

func TestReplicasInGitBesideAutoscaler(t *testing.T) {
	s := newSite(t)
	release := deployment("web", "  replicas: 2") + autoscaler("web")
	s.apply(release)
	if n := s.replicas("web"); n != 2 {
		t.Fatalf("created with %d replicas", n)
	}
	s.scale("web", 7)
	s.unchanged(release)
	s.apply(deployment("web", "  replicas: 3\n  minReadySeconds: 1") + autoscaler("web"))
	if n := s.replicas("web"); n != 7 {
		t.Errorf("apply changed replicas to %d", n)
	}
}

func TestAutoscalerOutsideTheRelease(t *testing.T) {
	s := newSite(t)
	s.apply(deployment("web", "  replicas: 2"))
	s.create(autoscaler("web"))
	s.scale("web", 5)
	s.apply(deployment("web", "  replicas: 3"))
	if n := s.replicas("web"); n != 5 {
		t.Errorf("apply changed replicas to %d", n)
	}
	s.unchanged(deployment("web", "  replicas: 3"))

	// Without the autoscaler Git decides again.
	if err := s.at(docs(t, autoscaler("web"))[0]).Delete(t.Context(), "web", deleteNow); err != nil {
		t.Fatal(err)
	}
	s.apply(deployment("web", "  replicas: 3"))
	if n := s.replicas("web"); n != 3 {
		t.Errorf("replicas: %d", n)
	}
}

func TestScaleOfUnknownAutoscaler(t *testing.T) {
	s := newSite(t)
	release := deployment("web", "  replicas: 2")
	s.apply(release)
	s.patchAs("own-autoscaler", release, `{"spec":{"replicas":4}}`, "scale")
	s.unchanged(release)
}

// The controller manager's own autoscaler raises the replicas to its minimum; the release leaves them there.
func TestAutoscalerOfTheControllerManager(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	hpa := strings.Replace(autoscaler("web"), "minReplicas: 2", "minReplicas: 4", 1)
	release := deployment("web", "  replicas: 2") + hpa
	s.apply(release)
	labtest.Eventually(t, "autoscaler acts", func(contextT) error {
		if n := s.replicas("web"); n != 4 {
			return fmt.Errorf("replicas are %d", n)
		}
		return nil
	})
	s.unchanged(release)
	s.apply(deployment("web", "  replicas: 2\n  minReadySeconds: 1") + hpa)
	s.apply(deployment("web", "  minReadySeconds: 2") + hpa)
	if n := s.replicas("web"); n != 4 {
		t.Errorf("apply changed replicas to %d", n)
	}
}
