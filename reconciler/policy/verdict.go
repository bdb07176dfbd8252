// Package policy holds the gates: pure functions of a candidate, the facts and the time.
//
// A gate answers allow, wait or deny, always with a reason, and when it knows, until when. What a gate
// cannot know it denies. A verdict is the worst answer of its gates.
package policy

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Answer of a gate. The order is the severity: the worst answer decides.
type Answer int

// The answers, in order of severity.
const (
	Allow Answer = iota
	Wait         // will be asked again by itself
	Deny         // needs another candidate, or a person
)

var answers = [...]string{"allow", "wait", "deny"}

func (a Answer) String() string {
	if a < Allow || a > Deny {
		return "deny"
	}
	return answers[a]
}

// MarshalJSON writes the answer's word.
func (a Answer) MarshalJSON() ([]byte, error) { return json.Marshal(a.String()) }

// UnmarshalJSON reads the answer's word.
func (a *Answer) UnmarshalJSON(b []byte) error {
	var word string
	if err := json.Unmarshal(b, &word); err != nil {
		return err
	}
	for i, w := range answers {
		if w == word {
			*a = Answer(i)
			return nil
		}
	}
	return fmt.Errorf("unknown answer %q", word)
}

// Result is what one gate says.
type Result struct {
	Gate   string     `json:"gate"`
	Answer Answer     `json:"answer"`
	Reason string     `json:"reason"`
	Hint   string     `json:"hint,omitempty"`  // what a person can do
	Until  *time.Time `json:"until,omitempty"` // when the answer may change by itself
	// Override is the ID of the statement that turned the gate's own answer into an allow: an override, or for the prune
	// gate also an approval of the deletions.
	Override string `json:"override,omitempty"`
}

// Verdict is what all gates say.
type Verdict struct {
	Answer Answer   `json:"answer"`
	Gates  []Result `json:"gates"`
}

// Reasons lists what keeps the verdict from being an allow, one line a gate.
func (v Verdict) Reasons() []string {
	var out []string
	for _, g := range v.Gates {
		if g.Answer == Allow {
			continue
		}
		line := g.Gate + ": " + g.Reason
		if g.Hint != "" {
			line += " (" + g.Hint + ")"
		}
		out = append(out, line)
	}
	return out
}

// WaitsFor reports whether one of some gates waits.
func (v Verdict) WaitsFor(gates ...string) bool {
	return slices.ContainsFunc(v.Gates, func(g Result) bool { return g.Answer == Wait && slices.Contains(gates, g.Gate) })
}

// OverrideOf is the statement that turned the answer of a gate into an allow; "" when there is none.
func (v Verdict) OverrideOf(gate string) string {
	for _, g := range v.Gates {
		if g.Gate == gate {
			return g.Override
		}
	}
	return ""
}

// Refused reports whether one of some gates waits or denies.
func (v Verdict) Refused(gates ...string) bool {
	return slices.ContainsFunc(v.Gates, func(g Result) bool { return g.Answer != Allow && slices.Contains(gates, g.Gate) })
}

// Until is the earliest time at which the verdict may change by itself; nil when no gate knows one.
func (v Verdict) Until() *time.Time {
	var first *time.Time
	for _, g := range v.Gates {
		if g.Answer == Allow || g.Until == nil {
			continue
		}
		if first == nil || g.Until.Before(*first) {
			first = g.Until
		}
	}
	return first
}

// SameAnswers reports whether two verdicts answer the same. The wording counts only where a gate denies:
// what a waiting gate waits for changes from moment to moment.
func (v Verdict) SameAnswers(o Verdict) bool {
	if v.Answer != o.Answer || len(v.Gates) != len(o.Gates) {
		return false
	}
	for i, g := range v.Gates {
		h := o.Gates[i]
		if g.Gate != h.Gate || g.Answer != h.Answer || g.Answer == Deny && g.Reason != h.Reason {
			return false
		}
	}
	return true
}
