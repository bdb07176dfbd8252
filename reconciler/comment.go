package reconciler

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources/forge"
)

// Bounds on what is written to a forge.
const (
	mostDescription = 140    // characters of a status
	mostReason      = 600    // characters of one reason or remedy
	mostName        = 200    // characters of a name
	mostErrors      = 10     // errors of a release that does not render
	commentBytes    = 50_000 // a forge takes some more
	diffBytes       = 24_000 // of all release diffs of a comment
)

// contextOf names the status of an environment.
func contextOf(environment string) string { return "purser/" + environment }

// clean makes a text one printable line of at most so many characters.
func clean(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) { // control characters, line ends, and those that change the direction of text
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, " "))
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most-1]) + "…"
	}
	return text
}

// literal makes a text show as itself in Markdown, wherever it stands: most of it comes from commits, whose authors would
// like it to be something else. What could be markup is written as a character reference, which no forge takes for
// markup, and behind what could begin a mention, a reference or an address there is a space without width.
func literal(text string, most int) string {
	var b strings.Builder
	for _, r := range clean(text, most) {
		switch {
		case r >= 0x80 || r == ' ' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z':
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, "&#%d;", r)
		}
		if strings.ContainsRune("@#!$%&~^:", r) {
			b.WriteString("&#8203;")
		}
	}
	return b.String()
}

// code is a literal text in a fixed-width face.
func code(text string) string { return "<code>" + literal(text, mostName) + "</code>" }

// shortCommit is a commit as people read it.
func shortCommit(id string) string { return id[:min(len(id), 12)] }

// say adds what is to be said of an open pull request.
func (n *answers) say(said letters, p *openPull) {
	v := p.preview
	if v == nil || v.head != p.Head || v.unseen > 0 && n.agent.now().Sub(n.started) < unseenFor {
		return // the last word stays until there is another
	}
	names := slices.Clone(v.affected)
	if len(v.declares) > 0 {
		names = append(names, policy.Governance)
	}
	var shown []string
	for _, name := range names {
		j := v.judged[name]
		if v.problem == "" && j == nil {
			return
		}
		status := forge.Status{Context: contextOf(name)}
		if v.problem != "" {
			status.State, status.Description = forge.Pending, clean("cannot be previewed: "+v.problem, mostDescription)
		} else {
			status.State, status.Description = j.answer()
		}
		l := letter{commit: p.Head, status: status}
		if v.problem != "" || !j.same {
			shown = append(shown, name)
		} else if !n.box.replaces(l) {
			continue
		}
		said.add(l)
	}
	comment := letter{number: p.Number}
	switch {
	case len(shown) > 0 || v.blind:
		comment.body = p.comment(shown)
	case n.box.replaces(comment):
		comment.body = p.heading() + "\n\nNo environment changes with it.\n"
	default:
		return
	}
	said.add(comment)
}

// answer is what is said in one line.
func (j *judged) answer() (forge.StatusState, string) {
	switch {
	case j.same:
		return forge.Success, "not changed by the pull request"
	case j.verdict == nil:
		return forge.Failure, clean("refused: "+j.refused[0], mostDescription)
	case j.verdict.Answer == policy.Allow && j.earlier != "":
		return forge.Pending, clean("waits: "+j.earlier, mostDescription)
	}
	return stateOf(j.verdict.Answer), clean(sentence(*j.verdict), mostDescription)
}

// words of commit statuses in comments.
var words = map[forge.StatusState]string{forge.Success: "allowed", forge.Pending: "waits", forge.Failure: "denied"}

func (p *openPull) heading() string {
	return fmt.Sprintf("**Purser** judges %s merged into %s (%s) by the declarations of %s.",
		code(shortCommit(p.preview.head)), code(p.Base), code(shortCommit(p.preview.base)), code(shortCommit(p.preview.governance)))
}

// comment is what is said of an open pull request, environment by environment.
func (p *openPull) comment(names []string) string {
	v := p.preview
	var b strings.Builder
	b.WriteString(p.heading() + "\n")
	if v.problem != "" {
		fmt.Fprintf(&b, "\nIt cannot be previewed: %s. Merge %s into its branch, or rebase it, to see what the gates say.\n", literal(v.problem, mostReason), code(p.Base))
		if len(names) > 0 {
			fmt.Fprintf(&b, "\nIt touches %s.\n", codes(names))
		}
		return b.String()
	}
	b.WriteString("\n| environment | answer | class | next opening |\n|---|---|---|---|\n")
	for _, name := range names {
		j := v.judged[name]
		state, _ := j.answer()
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", code(name), words[state], literal(j.class, mostName), j.opening())
	}
	if v.more > 0 {
		fmt.Fprintf(&b, "\n%d more environments may change; they are not previewed.\n", v.more)
	}
	if v.unseen > 0 {
		fmt.Fprintf(&b, "\n%d environments were not looked at since the agent's start; whether it changes them is not known.\n", v.unseen)
	}
	for i, name := range names {
		section := v.judged[name].section(name, v.declares)
		if b.Len()+len(section) > commentBytes {
			fmt.Fprintf(&b, "\nThere is no room for %s.\n", codes(names[i:]))
			break
		}
		b.WriteString(section)
	}
	return b.String()
}

// codes lists a few names.
func codes(names []string) string {
	const most = 10
	var list []string
	for _, name := range names[:min(len(names), most)] {
		list = append(list, code(name))
	}
	if len(names) > most {
		list = append(list, fmt.Sprintf("%d more", len(names)-most))
	}
	return strings.Join(list, ", ")
}

// opening says when the calendar opens.
func (j *judged) opening() string {
	if j.verdict == nil {
		return ""
	}
	for _, g := range j.verdict.Gates {
		switch {
		case g.Gate != policy.GateCalendar:
		case g.Answer == policy.Allow:
			return "open"
		case g.Until != nil:
			return utc(*g.Until)
		default:
			return "none is known"
		}
	}
	return ""
}

// section is all that is said of one environment.
func (j *judged) section(name string, declares []string) string {
	var b strings.Builder
	state, _ := j.answer()
	fmt.Fprintf(&b, "\n#### %s: %s\n", code(name), words[state])
	if name == policy.Governance {
		fmt.Fprintf(&b, "\nIt changes %d declarations: %s. The environments here are judged without that.\n", len(declares), codes(declares))
	}
	if j.verdict == nil {
		b.WriteString("\n")
		for i, problem := range j.refused {
			if i == mostErrors {
				fmt.Fprintf(&b, "- and %d more\n", len(j.refused)-i)
				break
			}
			fmt.Fprintf(&b, "- %s\n", literal(problem, mostReason))
		}
		return b.String()
	}
	if j.class != "" {
		fmt.Fprintf(&b, "\nClass **%s**: %s.\n", literal(j.class, mostName), literal(j.classWhy, mostReason))
	}
	if j.earlier != "" {
		fmt.Fprintf(&b, "\nIt goes along with what landed before: %s.\n", literal(j.earlier, mostReason))
	}
	j.gates(&b)
	if j.diff != "" {
		fmt.Fprintf(&b, "\n<details><summary>Release diff: %s</summary>\n\n<pre>\n%s</pre>\n\n</details>\n", j.changes, j.diff)
	}
	return b.String()
}

// gates writes the gates that do not allow it as a table, and the others folded.
func (j *judged) gates(b *strings.Builder) {
	var open, closed []policy.Result
	for _, g := range j.verdict.Gates {
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
			until = utc(*g.Until)
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", g.Gate, g.Answer, literal(g.Reason, mostReason), literal(g.Hint, mostReason), until)
	}
	fmt.Fprintf(b, "\n<details><summary>%d gates allow it</summary>\n\n| gate | reason |\n|---|---|\n", len(open))
	for _, g := range open {
		fmt.Fprintf(b, "| %s | %s |\n", g.Gate, literal(g.Reason, mostReason))
	}
	b.WriteString("\n</details>\n")
}

// changesText counts the changes of a release diff, and tells them within so many bytes.
func changesText(diff []render.ObjectChange, most int) (counts, text string) {
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

// landedComment is what is said of a pull request that landed.
func landedComment(rows []row) string {
	var b strings.Builder
	b.WriteString("**Purser** follows the pull request, which has landed.\n\n| environment | |\n|---|---|\n")
	for i, r := range rows {
		if i == mostPreviewed {
			fmt.Fprintf(&b, "\n%d more environments\n", len(rows)-i)
			break
		}
		fmt.Fprintf(&b, "| %s | %s |\n", code(r.environment), literal(r.text, mostReason))
	}
	return b.String()
}
