package evidence

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
)

// Kind says what a problem means for an auditor.
type Kind string

const (
	Tampered   Kind = "tampered"   // something is not what a trusted key signed
	Incomplete Kind = "incomplete" // something that must be there is not
	Unreadable Kind = "unreadable" // the clone cannot be read, so nothing is known
	Violated   Kind = "violated"   // a decision is not what its own inputs and rules give
)

// Exit codes of a verification.
const (
	ExitComplete   = 0
	ExitTampered   = 3
	ExitIncomplete = 4
	ExitViolated   = 5
	ExitUnreadable = 6
)

// maxProblems bounds a report: a forged log could have a problem per record.
const maxProblems = 1_000

// Problem is one finding.
type Problem struct {
	Kind   Kind    `json:"kind"`
	Branch string  `json:"branch,omitempty"`
	Ref    string  `json:"ref,omitempty"`    // outside the branch
	Seq    *uint64 `json:"seq,omitempty"`    // of the record concerned
	ID     string  `json:"id,omitempty"`     // of the record, where it could be read
	Commit string  `json:"commit,omitempty"` // that shows the problem
	What   string  `json:"what"`
}

func (p Problem) String() string {
	text := string(p.Kind)
	if p.Branch != "" {
		text += ": " + p.Branch
	}
	if p.Seq != nil {
		text += fmt.Sprintf(" record %d", *p.Seq)
	}
	if p.ID != "" {
		text += " (" + p.ID[:min(12, len(p.ID))] + ")"
	}
	if p.Ref != "" {
		text += " " + p.Ref
	}
	if p.Commit != "" {
		text += " commit " + p.Commit[:min(12, len(p.Commit))]
	}
	return text + ": " + p.What
}

// Report is the outcome of a verification.
type Report struct {
	Branches []BranchReport `json:"branches"`
	Records  uint64         `json:"records"` // read and checked, over all branches
	Blobs    BlobReport     `json:"blobs"`
	// Decisions counts those that were evaluated again from their inputs.
	Decisions int       `json:"decisions"`
	Problems  []Problem `json:"problems"`
	Omitted   int       `json:"omitted,omitempty"` // problems beyond the first 1,000
	Notes     []string  `json:"notes,omitempty"`   // what was not checked, and why
}

// BranchReport is what one branch shows.
type BranchReport struct {
	Branch     string        `json:"branch"`
	Writer     string        `json:"writer"`
	Commit     string        `json:"commit"`
	Records    uint64        `json:"records"`
	Commits    int           `json:"commits"`
	Checkpoint string        `json:"checkpoint"` // the tip's signed checkpoint
	Epochs     []EpochReport `json:"epochs"`
}

// EpochReport is a stretch of records written from one evidence directory.
type EpochReport struct {
	Epoch int    `json:"epoch"`
	First uint64 `json:"first"` // Seq
	Gap   bool   `json:"gap"`   // declared: records before it may have been lost with a disk
}

// BlobReport counts blobs that records refer to.
type BlobReport struct {
	Present int `json:"present"` // digest checked
	Erased  int `json:"erased"`  // their month's ref is not in this clone
}

// add takes a finding. Its text may repeat what a forger wrote: it is made fit
// for a terminal.
func (r *Report) add(p Problem) {
	p.What = printable(p.What)
	if !idPattern.MatchString(p.ID) {
		p.ID = ""
	}
	if len(r.Problems) >= maxProblems {
		r.Omitted++
		return
	}
	r.Problems = append(r.Problems, p)
}

var idPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

func printable(text string) string {
	text = strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return '\uFFFD'
		}
		return c
	}, text)
	if len(text) > 500 {
		text = strings.ToValidUTF8(text[:500], "") + "…"
	}
	return text
}

// ExitCode is 0 complete, 3 tampered, 4 incomplete, 5 violated or 6 unreadable; of
// several the first of these.
func (r Report) ExitCode() int {
	code := ExitComplete
	rank := map[int]int{ExitComplete: 0, ExitUnreadable: 1, ExitViolated: 2, ExitIncomplete: 3, ExitTampered: 4}
	for _, p := range r.Problems {
		found := map[Kind]int{Tampered: ExitTampered, Incomplete: ExitIncomplete, Unreadable: ExitUnreadable, Violated: ExitViolated}[p.Kind]
		if rank[found] > rank[code] {
			code = found
		}
	}
	return code
}
