package filestore

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Kind says what is wrong with a content.
type Kind string

const (
	Missing    Kind = "missing"     // there is no file
	WrongSize  Kind = "wrong-size"  // the file has another length than the row says
	WrongSum   Kind = "wrong-sum"   // the file has another SHA-1 than the row says
	Unreadable Kind = "unreadable"  // the file cannot be read, or is none: a folder, a link out of the filestore
	Refused    Kind = "refused"     // the row names no file of a filestore
	Elsewhere  Kind = "elsewhere"   // an addon keeps the content outside the filestore
	NotCopied  Kind = "not-copied"  // the backup never had it
	PackFailed Kind = "pack-failed" // the pack that should hold it is missing, or is not what was written
)

// A Problem is a content that is not as the rows say.
type Problem struct {
	Kind   Kind   `json:"kind"`
	ID     int64  `json:"id"`   // of the first attachment with that content
	Rows   int64  `json:"rows"` // how many attachments have it
	Store  string `json:"store"`
	Detail string `json:"detail"`
}

func (p Problem) String() string {
	others := ""
	if p.Rows > 1 {
		others = fmt.Sprintf(" and %d more", p.Rows-1)
	}
	return fmt.Sprintf("attachment %d%s (%.100q): %s", p.ID, others, p.Store, p.Detail)
}

func (c content) problem(kind Kind, format string, args ...any) *Problem {
	// A row's name may be of any length.
	return &Problem{kind, c.id, c.rows, c.store[:min(len(c.store), maxName)], fmt.Sprintf(format, args...)}
}

// maxProblems bounds the problems that are kept in full.
const maxProblems = 1000

// Problems are counted without a bound, and kept up to one.
type Problems struct {
	Counts map[Kind]int64 `json:"counts,omitempty"` // of contents
	First  []Problem      `json:"first,omitempty"`  // at most 1000
}

func (p *Problems) add(problem *Problem) {
	if p.Counts == nil {
		p.Counts = map[Kind]int64{}
	}
	p.Counts[problem.Kind]++
	if len(p.First) < maxProblems {
		p.First = append(p.First, *problem)
	}
}

// Merge adds those of another step.
func (p *Problems) Merge(others Problems) {
	if p.Counts == nil {
		p.Counts = map[Kind]int64{}
	}
	for kind, count := range others.Counts {
		p.Counts[kind] += count
	}
	p.First = append(p.First, others.First[:min(len(others.First), maxProblems-len(p.First))]...)
}

// Count is the number of contents with a problem.
func (p Problems) Count() int64 {
	var n int64
	for _, count := range p.Counts {
		n += count
	}
	return n
}

// String names the first problems and counts them all.
func (p Problems) String() string {
	var text []string
	for _, kind := range slices.Sorted(maps.Keys(p.Counts)) {
		text = append(text, fmt.Sprintf("%d %s", p.Counts[kind], kind))
	}
	counts := strings.Join(text, ", ")
	if len(p.First) == 0 {
		return counts
	}
	return fmt.Sprintf("%s; the first: %s", counts, p.First[0])
}
