package answer

import (
	"fmt"
	"html"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/render"
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

func previewOf(names ...string) *Preview {
	v := &Preview{Base: strings.Repeat("b", 40), Head: strings.Repeat("a", 40), Governance: strings.Repeat("c", 40), Judged: map[string]*Judgement{}, Affected: names}
	for _, name := range names {
		until := time.Date(2026, 11, 30, 6, 0, 0, 0, time.UTC)
		verdict := policy.Verdict{Answer: policy.Wait}
		for _, gate := range policy.Gates() {
			r := policy.Result{Gate: gate, Reason: "it is so"}
			if gate == policy.GateCalendar {
				r = policy.Result{Gate: gate, Answer: policy.Wait, Reason: "frozen | by\n`@owner-1`", Hint: strings.Repeat("<wait> ", 500), Until: &until}
			}
			verdict.Gates = append(verdict.Gates, r)
		}
		v.Judged[name] = &Judgement{Class: "standard", ClassWhy: "of the environment", Verdict: &verdict, Changes: "1 created", Diff: "created x\n"}
	}
	return v
}

func TestCommentIsATableOfItsOwn(t *testing.T) {
	text := previewOf("dev").comment("main", []string{"dev"})
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
	for i := range MostPreviewed {
		names = append(names, fmt.Sprintf("env-%02d", i))
	}
	v := previewOf(names...)
	v.More = 3
	for _, j := range v.Judged {
		j.Diff = strings.Repeat("x", diffBytes/MostPreviewed)
	}
	text := v.comment("main", names)
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
	counts, lines := Diff(diff, 2)
	if counts != "1000 configured" || len(lines) > diffBytes/2+200 || !strings.Contains(lines, "objects are not told in full") {
		t.Errorf("%s: %d bytes: %s", counts, len(lines), lines)
	}
}
