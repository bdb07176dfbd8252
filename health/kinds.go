package health

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/purser-gitops/purser/render"
)

// rule judges one kind; it is not sure where kstatus knows better.
type rule func(u *unstructured.Unstructured, now time.Time) (s Status, message string, sure bool)

// rules by group and kind, for what kstatus sees differently or describes worse.
var rules = map[string]rule{
	"apps/Deployment":        deployment,
	"apps/StatefulSet":       statefulSet,
	"apps/ReplicaSet":        replicaSet,
	"apps/DaemonSet":         daemonSet,
	"batch/Job":              job,
	"batch/CronJob":          cronJob,
	"/Pod":                   pod,
	"/PersistentVolumeClaim": claim,
	"/Namespace":             namespace,
}

// static are the kinds, by group and kind, that are healthy when they exist: they have no status that could say more.
var static = map[string]bool{
	"/ConfigMap": true, "/Secret": true, "/ServiceAccount": true, "/LimitRange": true, "/PodTemplate": true,
	"rbac.authorization.k8s.io/Role": true, "rbac.authorization.k8s.io/RoleBinding": true,
	"rbac.authorization.k8s.io/ClusterRole": true, "rbac.authorization.k8s.io/ClusterRoleBinding": true,
	"networking.k8s.io/NetworkPolicy": true, "networking.k8s.io/IngressClass": true,
	"scheduling.k8s.io/PriorityClass": true, "storage.k8s.io/StorageClass": true,
}

// Static reports whether an object of this kind is healthy when it exists, so that nobody needs to read it.
func Static(ref render.Ref) bool { return static[ref.Group+"/"+ref.Kind] }

// observed: the controller has seen the specification as it is now.
func observed(u *unstructured.Unstructured) bool {
	return number(u, 0, "status", "observedGeneration") >= u.GetGeneration()
}

func ready(u *unstructured.Unstructured) string {
	return fmt.Sprintf("%d of %d ready", number(u, 0, "status", "readyReplicas"), number(u, 1, "spec", "replicas"))
}

// scaledToZero: nothing is wanted and nothing is left.
func scaledToZero(u *unstructured.Unstructured) bool {
	return observed(u) && number(u, 1, "spec", "replicas") == 0 && number(u, 0, "status", "replicas") == 0
}

func deployment(u *unstructured.Unstructured, now time.Time) (Status, string, bool) {
	switch {
	case flag(u, "spec", "paused"):
		return Suspended, "rollout is paused, " + ready(u), true
	case !observed(u):
		return Progressing, "waits for its controller", true
	case scaledToZero(u):
		return Healthy, "scaled to 0", true
	}
	progress, _ := condition(u, "Progressing")
	if failure, ok := condition(u, "ReplicaFailure"); ok && failure.status == "True" {
		return Degraded, ready(u) + ": " + failure.message, true
	}
	if progress.reason == "ProgressDeadlineExceeded" {
		return Degraded, ready(u) + ": progress deadline exceeded", true
	}
	wanted, all := number(u, 1, "spec", "replicas"), number(u, 0, "status", "replicas")
	switch updated := number(u, 0, "status", "updatedReplicas"); {
	case updated < wanted:
		return Progressing, fmt.Sprintf("%d of %d updated, %s", updated, wanted, ready(u)), true
	case all > updated:
		return Progressing, fmt.Sprintf("%d old replicas left, %s", all-updated, ready(u)), true
	}
	if number(u, 0, "status", "readyReplicas") >= wanted && number(u, 0, "status", "availableReplicas") >= wanted {
		return Healthy, ready(u), true
	}
	// The rollout was finished once; what is missing now was lost.
	if available, ok := condition(u, "Available"); ok && progress.reason == "NewReplicaSetAvailable" && available.status == "False" && available.lasts(now) {
		return Degraded, ready(u), true
	}
	return Progressing, ready(u), true
}

func statefulSet(u *unstructured.Unstructured, _ time.Time) (Status, string, bool) {
	switch {
	case !observed(u):
		return Progressing, "waits for its controller", true
	case scaledToZero(u):
		return Healthy, "scaled to 0", true
	case number(u, 0, "status", "readyReplicas") < number(u, 1, "spec", "replicas"):
		return Progressing, ready(u), true
	}
	return "", "", false
}

func replicaSet(u *unstructured.Unstructured, _ time.Time) (Status, string, bool) {
	if failure, ok := condition(u, "ReplicaFailure"); ok && failure.status == "True" {
		return Degraded, ready(u) + ": " + failure.message, true
	}
	if scaledToZero(u) {
		return Healthy, "scaled to 0", true
	}
	return "", "", false
}

func daemonSet(u *unstructured.Unstructured, _ time.Time) (Status, string, bool) {
	wanted, up := number(u, 0, "status", "desiredNumberScheduled"), number(u, 0, "status", "numberReady")
	if observed(u) && up < wanted {
		return Progressing, fmt.Sprintf("%d of %d ready", up, wanted), true
	}
	return "", "", false
}

func job(u *unstructured.Unstructured, _ time.Time) (Status, string, bool) {
	wanted := number(u, number(u, 1, "spec", "parallelism"), "spec", "completions")
	done := fmt.Sprintf("%d of %d succeeded", number(u, 0, "status", "succeeded"), wanted)
	if c, ok := condition(u, "Failed"); ok && c.status == "True" {
		return Degraded, fmt.Sprintf("failed (%s), %s", c.reason, done), true
	}
	if c, ok := condition(u, "Complete"); ok && c.status == "True" {
		return Healthy, done, true
	}
	if flag(u, "spec", "suspend") {
		return Suspended, "is suspended", true
	}
	return Progressing, done, true
}

func cronJob(u *unstructured.Unstructured, _ time.Time) (Status, string, bool) {
	if flag(u, "spec", "suspend") {
		return Suspended, "is suspended", true
	}
	return Healthy, "is scheduled", true
}

func pod(u *unstructured.Unstructured, _ time.Time) (Status, string, bool) {
	switch text(u, "status", "phase") {
	case "Failed":
		return Degraded, "failed: " + text(u, "status", "reason"), true
	case "Succeeded":
		return Healthy, "succeeded", true
	}
	if why := waiting(u); why != "" {
		return Degraded, why, true
	}
	return "", "", false
}

// waiting is why a container does not start and will not by itself soon, "" when none is stuck.
func waiting(u *unstructured.Unstructured) string {
	for _, list := range []string{"initContainerStatuses", "containerStatuses"} {
		containers, _, _ := unstructured.NestedSlice(u.Object, "status", list)
		for _, v := range containers {
			m, _ := v.(map[string]any)
			reason, _, _ := unstructured.NestedString(m, "state", "waiting", "reason")
			switch reason {
			case "CrashLoopBackOff", "ImagePullBackOff", "ErrImagePull", "InvalidImageName", "CreateContainerConfigError", "CreateContainerError", "RunContainerError":
				message, _, _ := unstructured.NestedString(m, "state", "waiting", "message")
				return fmt.Sprintf("container %v: %s: %s", m["name"], reason, message)
			}
		}
	}
	return ""
}

func claim(u *unstructured.Unstructured, _ time.Time) (Status, string, bool) {
	switch phase := text(u, "status", "phase"); phase {
	case "Bound":
		return Healthy, "has its volume", true
	case "Lost":
		return Degraded, "its volume is lost", true
	default:
		return Progressing, "waits for its volume", true
	}
}

func namespace(u *unstructured.Unstructured, _ time.Time) (Status, string, bool) {
	return Healthy, "is active", text(u, "status", "phase") == "Active"
}
