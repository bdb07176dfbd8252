package reconciler

import (
	"fmt"
	"html"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources/forge"
)

// harmless is all that a literal text may consist of.
var harmless = regexp.MustCompile(`^([A-Za-z0-9 ]|[^\x00-\x7f]|&#[0-9]+;)*$`)

func FuzzLiteral(f *testing.F) {
	for _, text := range []string{"", "plain", "a|b\n/merge", "`@owner-1`", "<script>", "</pre>", "https://evil.example", "\u202e\u200bx", "# all\r\n", "\xff\xfe", "é→✓", "&amp;"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := literal(text, 50)
		if !harmless.MatchString(got) {
			t.Errorf("%q becomes %q", text, got)
		}
		if back := strings.ReplaceAll(html.UnescapeString(got), "\u200b", ""); back != clean(text, 50) {
			t.Errorf("%q is shown as %q", text, back)
		}
		for i, r := range []rune(html.UnescapeString(got)) {
			if r == '@' && []rune(html.UnescapeString(got))[i+1] != '\u200b' {
				t.Errorf("%q mentions somebody in %q", text, got)
			}
		}
	})
}

func openWith(names ...string) *openPull {
	p := &openPull{OpenPullRequest: forge.OpenPullRequest{Number: 7, Base: "main", Head: strings.Repeat("a", 40)}}
	p.preview = &preview{base: strings.Repeat("b", 40), head: p.Head, governance: strings.Repeat("c", 40), judged: map[string]*judged{}, affected: names}
	for _, name := range names {
		until := time.Date(2026, 11, 30, 6, 0, 0, 0, time.UTC)
		v := policy.Verdict{Answer: policy.Wait}
		for _, gate := range policy.Gates() {
			r := policy.Result{Gate: gate, Reason: "it is so"}
			if gate == policy.GateCalendar {
				r = policy.Result{Gate: gate, Answer: policy.Wait, Reason: "frozen | by\n`@owner-1`", Hint: strings.Repeat("<wait> ", 500), Until: &until}
			}
			v.Gates = append(v.Gates, r)
		}
		p.preview.judged[name] = &judged{class: "standard", classWhy: "of the environment", verdict: &v, changes: "1 created", diff: "created x\n"}
	}
	return p
}

func TestCommentIsATableOfItsOwn(t *testing.T) {
	p := openWith("dev")
	text := p.comment([]string{"dev"})
	for _, want := range []string{
		"| <code>dev</code> | waits | standard | 2026-11-30 06:00 UTC |",
		"| calendar | wait | frozen &#124; by &#96;&#64;&#8203;owner&#45;1&#96; | ", "18 gates allow it", "<pre>\ncreated x\n</pre>",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %q:\n%s", want, text)
		}
	}
	for _, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, "| calendar") && strings.Count(line, "|") != 6 {
			t.Errorf("a row of other columns: %s", line)
		}
	}
}

func TestCommentIsBounded(t *testing.T) {
	var names []string
	for i := range mostPreviewed {
		names = append(names, fmt.Sprintf("env-%02d", i))
	}
	p := openWith(names...)
	p.preview.more = 3
	for _, j := range p.preview.judged {
		j.diff = strings.Repeat("x", diffBytes/mostPreviewed)
	}
	text := p.comment(names)
	if len(text) > commentBytes+2000 || !strings.Contains(text, "There is no room for") || !strings.Contains(text, "3 more environments") {
		t.Errorf("it has %d bytes", len(text))
	}
	if strings.Count(text, "<details>") != strings.Count(text, "</details>") {
		t.Error("something is left open")
	}
	var diff []render.ObjectChange
	for i := range 1000 {
		diff = append(diff, render.ObjectChange{
			Ref: render.Ref{Kind: "ConfigMap", Name: fmt.Sprint("c", i)}, Action: render.ActionConfigured,
			Fields: []render.FieldChange{{Path: "data.x", Old: strings.Repeat("<", 5000), New: "y"}}, More: 3,
		})
	}
	counts, lines := changesText(diff, 10_000)
	if counts != "1000 configured" || len(lines) > 10_200 || !strings.Contains(lines, "objects are not told in full") {
		t.Errorf("%s: %d bytes: %s", counts, len(lines), lines)
	}
}

func TestProgress(t *testing.T) {
	pointer := func(release string) *Pointer {
		return &Pointer{Release: release, At: time.Date(2026, 11, 30, 6, 0, 0, 0, time.UTC)}
	}
	wait := &policy.Verdict{Answer: policy.Wait, Gates: []policy.Result{
		{Gate: "change", Answer: policy.Allow, Reason: "fine"}, {Gate: "approvals", Answer: policy.Wait, Reason: "needs 1 more"}}}
	deny := &policy.Verdict{Answer: policy.Deny, Gates: []policy.Result{
		{Gate: "approvals", Answer: policy.Wait, Reason: "needs 1 more"}, {Gate: "policy", Answer: policy.Deny, Reason: "no limits"}}}
	for name, test := range map[string]struct {
		e     EnvironmentState
		state forge.StatusState
		says  string
		final bool
	}{
		"just proposed":                  {EnvironmentState{Proposed: pointer("b"), Live: pointer("a"), Approved: pointer("a")}, forge.Pending, "being judged", false},
		"waits":                          {EnvironmentState{Proposed: pointer("b"), Verdict: wait}, forge.Pending, "waits: approvals: needs 1 more", false},
		"denied":                         {EnvironmentState{Proposed: pointer("b"), Verdict: deny}, forge.Failure, "denied: policy: no limits; approvals: needs 1 more", false},
		"approved":                       {EnvironmentState{Proposed: pointer("b"), Approved: pointer("b"), Live: pointer("a")}, forge.Pending, "approved", false},
		"planned":                        {EnvironmentState{Approved: pointer("b"), Deployment: Deployment{Release: "b", Phase: PhasePlanned}}, forge.Pending, "being applied", false},
		"applied":                        {EnvironmentState{Approved: pointer("b"), Deployment: Deployment{Release: "b", Phase: PhaseApplied}}, forge.Pending, "applied", false},
		"failed":                         {EnvironmentState{Approved: pointer("b"), Deployment: Deployment{Release: "b", Phase: PhaseFailed, Error: "quota"}}, forge.Failure, "failed: quota", false},
		"vetoed":                         {EnvironmentState{Approved: pointer("b"), Vetoes: map[string]policy.Veto{"b": {Reason: "unwell"}}}, forge.Failure, "vetoed: unwell", false},
		"live":                           {EnvironmentState{Approved: pointer("b"), Live: pointer("b")}, forge.Success, "live since 2026-11-30 06:00 UTC", true},
		"live, and the next is approved": {EnvironmentState{Approved: pointer("c"), Live: pointer("b")}, forge.Success, "live since", true},
	} {
		state, text, final := progress(test.e, "b")
		if state != test.state || !strings.HasPrefix(text, test.says) || final != test.final {
			t.Errorf("%s: %s: %s (%t)", name, state, text, final)
		}
	}
}
