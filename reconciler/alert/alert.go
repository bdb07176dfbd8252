package alert

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Severity of an alert, a label to route by.
type Severity string

// The severities. What is critical is worth waking somebody.
const (
	Critical Severity = "critical"
	Warning  Severity = "warning"
	Info     Severity = "info"
)

var severities = []Severity{Critical, Warning, Info} // the worst first

// lowered is a severity some steps lower, at least info.
func (s Severity) lowered(steps int) Severity {
	return severities[min(slices.Index(severities, s)+steps, len(severities)-1)]
}

// Labels identify an alert. What is empty is left out.
type Labels struct {
	Name        string // of the rule
	Environment string
	Tenant      string
	Cluster     string
	Source      string
	Severity    Severity
	Owner       string // owners of the tenant
}

// Alert is something that needs attention now.
type Alert struct {
	Labels
	Since       time.Time // it fires
	Summary     string
	Description string // why, and what to do
}

// runbooks is where the documentation of the rules is read.
const runbooks = "https://github.com/purser-gitops/purser/blob/main/docs/alerts.md#"

// Runbook is the address of the documentation of an alert's rule.
func (a Alert) Runbook() string { return runbooks + strings.ToLower(a.Name) }

// Bounds on texts, in bytes.
const (
	labelBytes       = 256
	summaryBytes     = 256
	descriptionBytes = 2 << 10
)

// bounded cuts a text to so many bytes and makes it valid.
func bounded(text string, bytes int) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= bytes {
		return text
	}
	return strings.ToValidUTF8(text[:bytes-len("…")], "") + "…"
}

// compare orders alerts by severity, the worst first, then by the other labels.
func compare(a, b Alert) int {
	return cmp.Or(
		cmp.Compare(slices.Index(severities, a.Severity), slices.Index(severities, b.Severity)),
		cmp.Compare(a.Name, b.Name),
		cmp.Compare(a.Environment, b.Environment),
		cmp.Compare(a.Cluster, b.Cluster),
		cmp.Compare(a.Source, b.Source),
	)
}
