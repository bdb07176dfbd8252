package evidence

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Summary says in a few words what a record says, for people who read a list of them.
func (r Record) Summary() string {
	var p struct {
		Revision Revision
		Origin   string
		Verdict  struct {
			Answer string
			Gates  []struct{ Gate, Answer, Reason string }
		}
		Errors               []string
		Outcome              string
		Purpose              string
		Summary              map[string]int
		From, To             string
		Message, By, Version string
		Branch, Reason       string
		Lifted               bool
		Kind, Person, Word   string
	}
	if json.Unmarshal(r.Predicate, &p) != nil {
		return ""
	}
	switch r.Type {
	case TypeStart, TypeStop, TypeHeartbeat, TypeState:
		return p.Version
	case TypeChange:
		return fmt.Sprintf("%s, origin %s", p.Revision.Revision, p.Origin)
	case TypeDecision:
		for _, g := range p.Verdict.Gates {
			if g.Answer == p.Verdict.Answer && g.Answer != "allow" {
				return fmt.Sprintf("%s: %s: %s", p.Verdict.Answer, g.Gate, g.Reason)
			}
		}
		return p.Verdict.Answer
	case TypeRefused:
		if len(p.Errors) > 0 {
			return p.Errors[0]
		}
	case TypePlan, TypeApply:
		return strings.Join(strings.Fields(p.Purpose+" "+p.Outcome+" "+counts(p.Summary)), " ")
	case TypeDrift:
		return driftSummary(r)
	case TypeHealth:
		return strings.TrimSuffix(p.To+": "+p.Message, ": ")
	case TypeLive:
		return p.Revision.Revision
	case TypeSuperseded:
		return "by " + p.By
	case TypeFreeze:
		return p.Reason
	case TypeGone:
		return goneSummary(r)
	case TypeBackup, TypeVerification, TypeRestoreTest, TypeReplication, TypeRetention:
		return backupSummary(r)
	case TypeStatement:
		return statementSummary(r)
	case TypeApproval:
		return fmt.Sprintf("by %s (%s), %s", p.Person, p.Kind, p.Word)
	case TypeVeto:
		if p.Lifted {
			return fmt.Sprintf("lifted by %s: %s", p.By, p.Reason)
		}
		return fmt.Sprintf("by %s: %s", p.By, p.Reason)
	case TypeProtection:
		return protectionSummary(r)
	case TypeForcePush:
		return fmt.Sprintf("%s from %s to %s", p.Branch, p.From, p.To)
	}
	return ""
}

// goneSummary names one of the objects.
func goneSummary(r Record) string {
	var p Gone
	if json.Unmarshal(r.Predicate, &p) != nil || len(p.Objects) == 0 {
		return ""
	}
	return fmt.Sprintf("%d objects, among them %s", len(p.Objects), p.Objects[0])
}

// counts writes objects by action: "2 created, 1 deleted".
func counts(summary map[string]int) string {
	var parts []string
	for _, action := range slices.Sorted(maps.Keys(summary)) {
		parts = append(parts, fmt.Sprintf("%d %s", summary[action], action))
	}
	return strings.Join(parts, ", ")
}

// protectionSummary says what the forge leaves open.
func protectionSummary(r Record) string {
	var p Protection
	if json.Unmarshal(r.Predicate, &p) != nil {
		return ""
	}
	return cmp.Or(p.Hint(), fmt.Sprintf("branch %s of %s is protected", p.Branch, p.Source))
}

// statementSummary says who said what, and why it does not count.
func statementSummary(r Record) string {
	var p Statement
	var said struct{ Verb string }
	if json.Unmarshal(r.Predicate, &p) != nil || len(p.Payload) > 0 && json.Unmarshal(p.Payload, &said) != nil {
		return ""
	}
	text := strings.TrimSpace(said.Verb + " by " + cmp.Or(p.Person, "nobody known"))
	if p.Refused != "" {
		text += ", does not count: " + p.Refused
	}
	return text
}

// driftSummary says which objects differ, and which field manager wrote the first of them.
func driftSummary(r Record) string {
	var p Drift
	if json.Unmarshal(r.Predicate, &p) != nil {
		return ""
	}
	if len(p.Objects) == 0 {
		return p.Policy + ": as desired again"
	}
	first := p.Objects[0]
	text := fmt.Sprintf("%s: %s", p.Policy, first.Ref)
	if len(p.Objects) > 1 {
		text += fmt.Sprintf(" and %d more", len(p.Objects)-1)
	}
	if len(first.By) == 0 {
		text += ", unattributed"
	} else {
		text += ", by " + first.By[0].Manager
	}
	return text
}

// backupSummary says what became of a backup.
func backupSummary(r Record) string {
	var b struct {
		ID             string
		Store, To      string
		Asked, Reached string
		Passed         bool
		RTO            time.Duration
		Expire         []json.RawMessage
		Deleted        []json.RawMessage
		Extended       []json.RawMessage
		Blocked        []string
		Phase          string
		Findings       []struct{ Object, What string }
		Unfinished     string
		Error          string
	}
	if json.Unmarshal(r.Predicate, &b) != nil {
		return ""
	}
	problem := cmp.Or(b.Error, b.Unfinished)
	if problem == "" && len(b.Findings) > 0 {
		problem = b.Findings[0].Object + ": " + b.Findings[0].What
	}
	if problem != "" {
		return strings.TrimSpace(fmt.Sprintf("%s failed: %s", b.ID, problem))
	}
	if !b.Passed && (r.Type == TypeVerification || r.Type == TypeRestoreTest) {
		return strings.TrimSpace(b.ID + " did not pass")
	}
	switch r.Type {
	case TypeBackup:
		return fmt.Sprintf("%s in %s", b.ID, b.Store)
	case TypeVerification:
		return fmt.Sprintf("%s in %s passed %s", b.ID, b.Store, b.Reached)
	case TypeRestoreTest:
		return fmt.Sprintf("%s from %s restored in %s", b.ID, b.Store, b.RTO.Round(time.Second))
	case TypeReplication:
		return fmt.Sprintf("%s to %s", b.ID, b.To)
	}
	if b.Phase == RetentionPlanned {
		return fmt.Sprintf("%s: %d to be deleted", b.Store, len(b.Expire))
	}
	text := fmt.Sprintf("%s: %d objects deleted, %d locked for longer", b.Store, len(b.Deleted), len(b.Extended))
	if len(b.Blocked) > 0 {
		text += "; something is kept that could be deleted: " + b.Blocked[0]
	}
	return text
}
