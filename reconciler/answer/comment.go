package answer

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources/forge"
)

// words of commit statuses in comments.
var words = map[forge.StatusState]string{forge.Success: "allowed", forge.Pending: "waits", forge.Failure: "denied"}

func (v *Preview) heading(branch string) string {
	return fmt.Sprintf("**Purser** judges %s merged into %s (%s) by the declarations of %s.",
		code(shortCommit(v.Head)), code(branch), code(shortCommit(v.Base)), code(shortCommit(v.Governance)))
}

// comment is what is said of an open pull request, environment by environment.
func (v *Preview) comment(branch string, names []string) string {
	var b strings.Builder
	b.WriteString(v.heading(branch) + "\n")
	if v.Problem != "" {
		fmt.Fprintf(&b, "\nIt cannot be previewed: %s. Merge %s into its branch, or rebase it, to see what the gates say.\n", literal(v.Problem, mostReason), code(branch))
		if len(names) > 0 {
			fmt.Fprintf(&b, "\nIt touches %s.\n", codes(names))
		}
		return b.String()
	}
	b.WriteString("\n| environment | answer | class | next opening |\n|---|---|---|---|\n")
	for _, name := range names {
		j := v.Judged[name]
		state, _ := j.answer()
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", code(name), words[state], literal(j.Class, mostName), j.opening())
	}
	if v.More > 0 {
		fmt.Fprintf(&b, "\n%d more environments may change; they are not previewed.\n", v.More)
	}
	if v.Unseen > 0 {
		fmt.Fprintf(&b, "\n%d environments were not looked at since the agent's start; whether it changes them is not known.\n", v.Unseen)
	}
	for i, name := range names {
		section := v.Judged[name].section(name, v.Declares)
		if b.Len()+len(section) > commentBytes {
			fmt.Fprintf(&b, "\nThere is no room for %s.\n", codes(names[i:]))
			break
		}
		b.WriteString(section)
	}
	return b.String()
}

// opening says when the calendar opens.
func (j *Judgement) opening() string {
	if j.Verdict == nil {
		return ""
	}
	for _, g := range j.Verdict.Gates {
		switch {
		case g.Gate != policy.GateCalendar:
		case g.Answer == policy.Allow:
			return "open"
		case g.Until != nil:
			return Time(*g.Until)
		default:
			return "none is known"
		}
	}
	return ""
}

// section is all that is said of one environment.
func (j *Judgement) section(name string, declares []string) string {
	var b strings.Builder
	state, _ := j.answer()
	fmt.Fprintf(&b, "\n#### %s: %s\n", code(name), words[state])
	if name == policy.Governance {
		fmt.Fprintf(&b, "\nIt changes %d declarations: %s. The environments here are judged without that.\n", len(declares), codes(declares))
	}
	if j.Verdict == nil {
		b.WriteString("\n")
		for i, problem := range j.Refused {
			if i == mostErrors {
				fmt.Fprintf(&b, "- and %d more\n", len(j.Refused)-i)
				break
			}
			fmt.Fprintf(&b, "- %s\n", literal(problem, mostReason))
		}
		return b.String()
	}
	if j.Class != "" {
		fmt.Fprintf(&b, "\nClass **%s**: %s.\n", literal(j.Class, mostName), literal(j.ClassWhy, mostReason))
	}
	if j.Earlier != "" {
		fmt.Fprintf(&b, "\nIt goes along with what landed before: %s.\n", literal(j.Earlier, mostReason))
	}
	j.gates(&b)
	if j.Diff != "" {
		fmt.Fprintf(&b, "\n<details><summary>Release diff: %s</summary>\n\n<pre>\n%s</pre>\n\n</details>\n", j.Changes, j.Diff)
	}
	return b.String()
}

// gates writes the gates that do not allow it as a table, and the others folded.
func (j *Judgement) gates(b *strings.Builder) {
	var open, closed []policy.Result
	for _, g := range j.Verdict.Gates {
		if g.Answer == policy.Allow {
			open = append(open, g)
		} else {
			closed = append(closed, g)
		}
	}
	if len(closed) > 0 {
		b.WriteString("\n| gate | answer | reason | what helps | until |\n|---|---|---|---|---|\n")
	}
	for _, g := range closed {
		until := ""
		if g.Until != nil {
			until = Time(*g.Until)
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", g.Gate, g.Answer, literal(g.Reason, mostReason), literal(g.Hint, mostReason), until)
	}
	fmt.Fprintf(b, "\n<details><summary>%d gates allow it</summary>\n\n| gate | reason |\n|---|---|\n", len(open))
	for _, g := range open {
		fmt.Fprintf(b, "| %s | %s |\n", g.Gate, literal(g.Reason, mostReason))
	}
	b.WriteString("\n</details>\n")
}

// Diff counts the changes of a release diff, and tells them, within the share of one of some environments of a comment.
func Diff(diff []render.ObjectChange, environments int) (counts, text string) {
	most := diffBytes / max(environments, 1)
	count := map[string]int{}
	for _, c := range diff {
		count[c.Action]++
	}
	var parts []string
	for _, action := range []string{render.ActionCreated, render.ActionConfigured, render.ActionDeleted} {
		if count[action] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", count[action], action))
		}
	}
	var b strings.Builder
	line := func(format string, args ...any) bool {
		text := fmt.Sprintf(format, args...)
		if b.Len()+len(text) > most {
			return false
		}
		b.WriteString(text)
		return true
	}
	for i, c := range diff {
		fits := line("%s %s\n", c.Action, literal(c.Ref.String(), mostName))
		for _, f := range c.Fields {
			fits = fits && line("  %s: %s\n", literal(f.Path, mostName), literal(fieldChange(f), mostReason))
		}
		if fits && c.More > 0 {
			fits = line("  and %d more fields\n", c.More)
		}
		if !fits {
			fmt.Fprintf(&b, "… %d of %d objects are not told in full; purser diff shows all\n", len(diff)-i, len(diff))
			break
		}
	}
	return strings.Join(parts, ", "), b.String()
}

// fieldChange is one field before and after.
func fieldChange(f render.FieldChange) string {
	show := func(v any) string {
		if s, ok := v.(string); ok {
			v = clean(s, mostReason/2)
		}
		var text strings.Builder
		encoder := json.NewEncoder(&text)
		encoder.SetEscapeHTML(false) // what writes it out does
		if err := encoder.Encode(v); err != nil {
			return fmt.Sprint(v)
		}
		return text.String()
	}
	switch {
	case f.Old == nil:
		return show(f.New)
	case f.New == nil:
		return show(f.Old) + " → nothing"
	}
	return show(f.Old) + " → " + show(f.New)
}

// Landed is the comment on a pull request that landed.
func Landed(number int64, rows []Row) Letter {
	var b strings.Builder
	b.WriteString("**Purser** follows the pull request, which has landed.\n\n| environment | |\n|---|---|\n")
	for i, r := range rows {
		if i == MostPreviewed {
			fmt.Fprintf(&b, "\n%d more environments\n", len(rows)-i)
			break
		}
		fmt.Fprintf(&b, "| %s | %s |\n", code(r.Environment), literal(r.Text, mostReason))
	}
	return Letter{Number: number, Body: b.String()}
}
