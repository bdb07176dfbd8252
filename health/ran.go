package health

import (
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// ran says by group and kind whether a pod of an object's template, as it is now, was ready or came to its end.
var ran = map[string]func(*unstructured.Unstructured) bool{
	"apps/Deployment": func(u *unstructured.Unstructured) bool {
		return !flag(u, "spec", "paused") && rolledOut(u, "replicas", "updatedReplicas", "readyReplicas")
	},
	"apps/StatefulSet": func(u *unstructured.Unstructured) bool {
		return rolledOut(u, "replicas", "updatedReplicas", "readyReplicas")
	},
	"apps/DaemonSet": func(u *unstructured.Unstructured) bool {
		return rolledOut(u, "desiredNumberScheduled", "updatedNumberScheduled", "numberReady")
	},
	"apps/ReplicaSet":        asCreated,
	"/ReplicationController": asCreated,
	"batch/Job": func(u *unstructured.Unstructured) bool {
		c, _ := condition(u, "Complete")
		return c.status == "True" && number(u, 0, "status", "succeeded") > 0
	},
	"batch/CronJob": cronJobRan,
	"/Pod": func(u *unstructured.Unstructured) bool {
		c, _ := condition(u, "Ready")
		return observed(u) && (c.status == "True" || text(u, "status", "phase") == "Succeeded")
	},
}

// Ran reports whether the images of a live object are known to have run: a pod of its template, as it is now, was ready, or came
// to its end. What cannot be told did not; nil is an object that does not exist.
func Ran(u *unstructured.Unstructured) bool {
	if u == nil || !u.GetDeletionTimestamp().IsZero() {
		return false
	}
	rule, ok := ran[group(u)+"/"+u.GetKind()]
	return ok && rule(u)
}

// rolledOut: all pods are ready, and one of them at least has the template as it is now. A partition, or an update that
// waits for somebody to delete pods, may have none.
func rolledOut(u *unstructured.Unstructured, all, updated, up string) bool {
	return observed(u) && number(u, 0, "status", updated) > 0 && number(u, 0, "status", up) >= number(u, 0, "status", all)
}

// asCreated: these replace no pods when their template changes, so only what was never changed tells what its pods are.
func asCreated(u *unstructured.Unstructured) bool {
	return u.GetGeneration() == 1 && observed(u) && number(u, 0, "status", "readyReplicas") > 0
}

// cronJobRan: what was scheduled after the object was last written succeeded, and nothing of before runs any more. When that was,
// managedFields alone tell, which anybody who may write the object can clear. With concurrencyPolicy Allow nothing is told: the
// success may be that of a job from before which outlived a later one.
func cronJobRan(u *unstructured.Unstructured) bool {
	if policy := text(u, "spec", "concurrencyPolicy"); policy != "Forbid" && policy != "Replace" {
		return false
	}
	var written time.Time
	for _, entry := range u.GetManagedFields() {
		if entry.Subresource == "" && entry.Time != nil && entry.Time.After(written) {
			written = entry.Time.Time
		}
	}
	scheduled, succeeded := moment(u, "status", "lastScheduleTime"), moment(u, "status", "lastSuccessfulTime")
	active, _, _ := unstructured.NestedSlice(u.Object, "status", "active")
	return !written.IsZero() && len(active) == 0 && scheduled.After(written) && succeeded.After(scheduled)
}

// moment reads a time; the zero time where there is none.
func moment(u *unstructured.Unstructured, path ...string) time.Time {
	at, _ := time.Parse(time.RFC3339, text(u, path...))
	return at
}
