package evidence

import (
	"strings"
	"testing"
	"time"

	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources/declaration"
)

func TestDecisionsAreEvaluatedAgain(t *testing.T) {
	f := newFixture(t)
	f.run()
	in := policy.Inputs{At: time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC), Candidate: policy.Candidate{
		Environment: &declaration.Environment{Meta: declaration.Meta{Name: "dev"}},
		Release:     &render.Release{Digest: "sha256:bb"},
		Origin:      policy.OriginFirst,
		Class:       &declaration.ReleaseClass{Meta: declaration.Meta{Name: "low"}},
	}}
	honest := in.Evaluate()
	if honest.Answer != policy.Deny { // nothing is known of the log
		t.Fatalf("the verdict is %s", honest.Answer)
	}
	forged := policy.Verdict{Answer: policy.Allow}
	for _, g := range honest.Gates {
		g.Answer = policy.Allow
		forged.Gates = append(forged.Gates, g)
	}
	data, err := in.Encode()
	if err != nil {
		t.Fatal(err)
	}
	decide := func(key, to string, v policy.Verdict) {
		t.Helper()
		r, err := f.log.Add(Draft{
			Type: TypeDecision, Environment: "dev", Key: []string{key}, Predicate: Decision{To: to, Origin: policy.OriginFirst, Verdict: v},
			Blobs: []Blob{{Name: InputsBlob, Data: data}},
		})
		if err != nil {
			t.Fatal(err)
		}
		f.wait(r.Index)
	}
	decide("1", "sha256:bb", honest)
	if r := f.verify(f.clone(), VerifyOptions{}); r.ExitCode() != ExitComplete || r.Decisions != 1 {
		t.Fatalf("an honest decision: exit %d, %+v", r.ExitCode(), r)
	}
	decide("2", "sha256:bb", forged)
	decide("3", "sha256:cc", honest)
	r := f.verify(f.clone(), VerifyOptions{})
	if r.ExitCode() != ExitViolated || len(r.Problems) != 2 || r.Decisions != 3 ||
		!strings.Contains(r.Problems[0].What, "answered allow") || !strings.Contains(r.Problems[1].What, "are about release sha256:bb") {
		t.Errorf("exit %d: %+v", r.ExitCode(), r.Problems)
	}
}
