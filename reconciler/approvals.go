package reconciler

import (
	"fmt"
	"slices"

	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/policy"
)

// KnownApproval is an approval with its record.
type KnownApproval struct {
	Record uint64      `json:"record"`
	Vote   policy.Vote `json:"vote"`
}

// recordApprovals writes down what people approved, before the decision that rests on it, and gives the records. An
// approval that was written down before, by a decision that then was not, is not written again. environment is "" for the
// declarations.
func (a *Agent) recordApprovals(environment string, known []KnownApproval, d evidence.Decision, votes []policy.Vote) ([]uint64, error) {
	var records []uint64
	for _, v := range votes {
		if i := slices.IndexFunc(known, func(k KnownApproval) bool { return k.Vote.Covers(v) }); i >= 0 {
			records = append(records, known[i].Record)
			continue
		}
		r, err := a.journal.record(ofRelease(evidence.TypeApproval, environment, d.To, evidence.Approval{
			Vote: v, Word: evidence.WordOf(v), Source: d.Revision.Source, From: d.From, To: d.To, Class: d.Class,
		}))
		if err != nil {
			return nil, fmt.Errorf("record the approval of %s: %w", v.Person, err)
		}
		records = append(records, r.Index)
	}
	return records, nil
}

// foldApproval remembers an approval until something is approved.
func foldApproval(s *State, r evidence.Record, p evidence.Approval) {
	c := s.candidacy(r.Environment)
	c.Approvals = append(slices.Clone(c.Approvals), KnownApproval{Record: r.Index, Vote: p.Vote})
}
