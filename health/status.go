package health

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/purser-gitops/purser/render"
)

// Status is how an object, a check or an environment does.
type Status string

// The statuses, from best to worst.
const (
	Healthy     Status = "Healthy"
	Suspended   Status = "Suspended"
	Progressing Status = "Progressing"
	Missing     Status = "Missing"
	Degraded    Status = "Degraded"
	Unknown     Status = "Unknown"
)

// Statuses are all of them, from best to worst.
var Statuses = []Status{Healthy, Suspended, Progressing, Missing, Degraded, Unknown}

// severity orders the statuses: the worse, the higher. What is not a status at all counts as Unknown.
func (s Status) severity() int {
	if i := slices.Index(Statuses, s); i >= 0 {
		return i
	}
	return len(Statuses) - 1
}

// fine: nobody has to look.
func (s Status) fine() bool { return s == Healthy || s == Suspended }

// Who has to look.
const (
	Platform    = "platform"
	Application = "application"
	External    = "external"
)

// ObjectHealth is the health of one object. Cause is "" when it is fine.
type ObjectHealth struct {
	Ref     render.Ref `json:"ref"`
	Status  Status     `json:"status"`
	Cause   string     `json:"cause,omitempty"`
	Message string     `json:"message,omitempty"`
}

// CheckResult is the outcome of one check. Cause is "" when it is fine.
type CheckResult struct {
	Name     string        `json:"name"`
	Status   Status        `json:"status"`
	Cause    string        `json:"cause,omitempty"`
	Message  string        `json:"message,omitempty"`
	Duration time.Duration `json:"duration"` // nanoseconds
}

// Report is the health of an environment: the worst of its parts. Objects and checks come worst first.
type Report struct {
	Status  Status         `json:"status"`
	Cause   string         `json:"cause,omitempty"`
	Message string         `json:"message"`
	Objects []ObjectHealth `json:"objects,omitempty"`
	Checks  []CheckResult  `json:"checks,omitempty"`
}

// Aggregate makes one report of objects and checks. Without any the status is Unknown: there is nothing to judge by.
func Aggregate(objects []ObjectHealth, checks []CheckResult) Report {
	r := Report{Status: Healthy, Objects: slices.Clone(objects), Checks: slices.Clone(checks)}
	if len(objects)+len(checks) == 0 {
		return Report{Status: Unknown, Message: "there is nothing to judge health by"}
	}
	slices.SortStableFunc(r.Objects, func(a, b ObjectHealth) int {
		return cmp.Or(b.Status.severity()-a.Status.severity(), strings.Compare(a.Ref.Key(), b.Ref.Key()))
	})
	slices.SortStableFunc(r.Checks, func(a, b CheckResult) int {
		return cmp.Or(b.Status.severity()-a.Status.severity(), strings.Compare(a.Name, b.Name))
	})
	var worst []finding
	for _, f := range findings(r.Objects, r.Checks) {
		if f.status.severity() > r.Status.severity() {
			r.Status, worst = f.status, nil
		}
		if f.status == r.Status {
			worst = append(worst, f)
		}
	}
	r.Cause, r.Message = summary(r.Status, worst, len(objects), len(checks))
	return r
}

// finding is an object or a check.
type finding struct {
	status Status
	cause  string
	text   string
}

func findings(objects []ObjectHealth, checks []CheckResult) []finding {
	var list []finding
	for _, o := range objects {
		list = append(list, finding{o.Status, o.Cause, fmt.Sprintf("%s %s: %s", o.Ref.Kind, place(o.Ref), o.Message)})
	}
	for _, c := range checks {
		list = append(list, finding{c.Status, c.Cause, fmt.Sprintf("check %s: %s", c.Name, c.Message)})
	}
	return list
}

func place(ref render.Ref) string {
	if ref.Namespace == "" {
		return ref.Name
	}
	return ref.Namespace + "/" + ref.Name
}

// summary is the cause and the message of a report whose worst findings are given.
func summary(s Status, worst []finding, objects, checks int) (cause, message string) {
	if s == Healthy {
		return "", fmt.Sprintf("%d objects and %d checks are healthy", objects, checks)
	}
	message = worst[0].text
	if !s.fine() {
		for _, c := range []string{Platform, External, Application} {
			i := slices.IndexFunc(worst, func(f finding) bool { return f.cause == c })
			if i >= 0 {
				cause, message = c, worst[i].text
				break
			}
		}
	}
	if more := len(worst) - 1; more > 0 {
		message = fmt.Sprintf("%s (and %d more)", message, more)
	}
	return cause, message
}
