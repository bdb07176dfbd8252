package health

import (
	"testing"

	"github.com/purser-gitops/purser/render"
)

func TestSeverity(t *testing.T) {
	for i := 1; i < len(Statuses); i++ {
		if better, worse := Statuses[i-1], Statuses[i]; better.severity() >= worse.severity() {
			t.Errorf("%s is not worse than %s", worse, better)
		}
	}
	if Status("nonsense").severity() <= Degraded.severity() {
		t.Error("nonsense is not the worst")
	}
}

func TestAggregate(t *testing.T) {
	object := func(name string, s Status, cause, message string) ObjectHealth {
		return ObjectHealth{Ref: render.Ref{Group: "apps", Version: "v1", Kind: "Deployment", Namespace: "north-dev", Name: name}, Status: s, Cause: cause, Message: message}
	}
	check := func(name string, s Status, cause string) CheckResult {
		return CheckResult{Name: name, Status: s, Cause: cause, Message: "answered 500, not 200"}
	}
	for name, c := range map[string]struct {
		objects []ObjectHealth
		checks  []CheckResult
		want    Report
	}{
		"nothing": {nil, nil, Report{Status: Unknown, Message: "there is nothing to judge health by"}},
		"healthy": {[]ObjectHealth{object("web", Healthy, "", "3 of 3 ready")}, []CheckResult{{Name: "c", Status: Healthy}},
			Report{Status: Healthy, Message: "1 objects and 1 checks are healthy"}},
		"suspended": {[]ObjectHealth{object("web", Suspended, "", "is suspended"), object("a", Healthy, "", "")}, nil,
			Report{Status: Suspended, Message: "Deployment north-dev/web: is suspended"}},
		"worst first": {[]ObjectHealth{object("a", Progressing, Application, "1 of 2 ready"), object("web", Degraded, Application, "1 of 3 ready")}, nil,
			Report{Status: Degraded, Cause: Application, Message: "Deployment north-dev/web: 1 of 3 ready"}},
		"platform explains": {[]ObjectHealth{object("a", Degraded, Application, "crashing"), object("web", Degraded, Platform, "exceeded quota")},
			[]CheckResult{check("page", Degraded, External)},
			Report{Status: Degraded, Cause: Platform, Message: "Deployment north-dev/web: exceeded quota (and 2 more)"}},
		"check": {[]ObjectHealth{object("a", Healthy, "", "")}, []CheckResult{check("page", Degraded, External)},
			Report{Status: Degraded, Cause: External, Message: "check page: answered 500, not 200"}},
		"unknown is worst": {[]ObjectHealth{object("a", Degraded, Application, "")}, []CheckResult{{Name: "page", Status: Unknown, Message: "was not finished"}},
			Report{Status: Unknown, Message: "check page: was not finished"}},
	} {
		got := Aggregate(c.objects, c.checks)
		if got.Status != c.want.Status || got.Cause != c.want.Cause || got.Message != c.want.Message {
			t.Errorf("%s: got %s %q %q", name, got.Status, got.Cause, got.Message)
		}
		for i := 1; i < len(got.Objects); i++ {
			if got.Objects[i].Status.severity() > got.Objects[i-1].Status.severity() {
				t.Errorf("%s: objects are not worst first", name)
			}
		}
	}
}
