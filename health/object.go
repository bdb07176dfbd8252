package health

import (
	"fmt"
	"strings"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/purser-gitops/purser/render"
)

// grace is how long a workload may be short of replicas, or a condition be false, before that is Degraded: scaling up
// and starting again take a moment.
const grace = time.Minute

// Of judges one object; nil is one that does not exist.
func Of(ref render.Ref, u *unstructured.Unstructured) ObjectHealth {
	return at(ref, u, time.Now())
}

func at(ref render.Ref, u *unstructured.Unstructured, now time.Time) ObjectHealth {
	if u == nil {
		return ObjectHealth{Ref: ref, Status: Missing, Cause: Application, Message: "does not exist"}
	}
	s, message := judge(u, now)
	o := ObjectHealth{Ref: ref, Status: s, Message: message}
	if !s.fine() {
		o.Cause = cause(u, message)
	}
	return o
}

// judge tries the rules of the kind first, then what kstatus says, then the conditions of custom kinds.
func judge(u *unstructured.Unstructured, now time.Time) (Status, string) {
	if !u.GetDeletionTimestamp().IsZero() {
		return Progressing, "is being deleted"
	}
	if rule, ok := rules[group(u)+"/"+u.GetKind()]; ok {
		if s, message, sure := rule(u, now); sure {
			return s, message
		}
	}
	result, err := status.Compute(u)
	if err != nil {
		return Unknown, "status cannot be read: " + err.Error()
	}
	switch result.Status {
	case status.FailedStatus:
		return Degraded, result.Message
	case status.TerminatingStatus:
		return Progressing, "is being deleted"
	case status.UnknownStatus:
		return Unknown, result.Message
	}
	if isCustom(u) && current(u) {
		if s, message, sure := conditions(u, now); sure {
			return s, message
		}
	}
	if result.Status == status.InProgressStatus {
		return Progressing, result.Message
	}
	return Healthy, result.Message
}

func group(u *unstructured.Unstructured) string { return u.GroupVersionKind().Group }

// isCustom: a kind that some operator defines.
func isCustom(u *unstructured.Unstructured) bool {
	g := group(u)
	return strings.Contains(g, ".") && !strings.HasSuffix(g, ".k8s.io") || strings.HasSuffix(g, ".x-k8s.io")
}

// current: the status speaks of the specification as it is now.
func current(u *unstructured.Unstructured) bool {
	observed, ok, _ := unstructured.NestedInt64(u.Object, "status", "observedGeneration")
	return !ok || observed == u.GetGeneration()
}

// conditions judges custom kinds by Ready, Available and Synced. A false one is Degraded once it has lasted, unless
// another condition says that work is under way.
func conditions(u *unstructured.Unstructured, now time.Time) (Status, string, bool) {
	for _, working := range []string{"Reconciling", "Progressing", "Issuing"} {
		if c, ok := condition(u, working); ok && c.status == "True" {
			return Progressing, c.text(), true
		}
	}
	for _, name := range []string{"Ready", "Available", "Synced"} {
		c, ok := condition(u, name)
		if !ok || c.status == "True" {
			continue
		}
		if c.status == "False" && c.lasts(now) {
			return Degraded, c.text(), true
		}
		return Progressing, c.text(), true
	}
	return "", "", false
}

// cond is one condition of a status.
type cond struct {
	kind, status, reason, message string
	since                         time.Time // zero when not told
}

func (c cond) text() string {
	text := fmt.Sprintf("%s is %s", c.kind, c.status)
	if c.reason != "" {
		text += ", " + c.reason
	}
	if c.message != "" {
		text += ": " + c.message
	}
	return text
}

// lasts says whether the condition is known to have held for longer than a moment.
func (c cond) lasts(now time.Time) bool { return !c.since.IsZero() && now.Sub(c.since) >= grace }

func condition(u *unstructured.Unstructured, kind string) (cond, bool) {
	list, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, v := range list {
		m, ok := v.(map[string]any)
		if !ok || m["type"] != kind {
			continue
		}
		c := cond{kind: kind}
		c.status, _ = m["status"].(string)
		c.reason, _ = m["reason"].(string)
		c.message, _ = m["message"].(string)
		if at, ok := m["lastTransitionTime"].(string); ok {
			c.since, _ = time.Parse(time.RFC3339, at)
		}
		return c, true
	}
	return cond{}, false
}

func number(u *unstructured.Unstructured, missing int64, path ...string) int64 {
	n, ok, err := unstructured.NestedInt64(u.Object, path...)
	if !ok || err != nil {
		return missing
	}
	return n
}

func flag(u *unstructured.Unstructured, path ...string) bool {
	b, _, _ := unstructured.NestedBool(u.Object, path...)
	return b
}

func text(u *unstructured.Unstructured, path ...string) string {
	s, _, _ := unstructured.NestedString(u.Object, path...)
	return s
}
