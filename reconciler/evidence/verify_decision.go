package evidence

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/purser-gitops/purser/reconciler/policy"
)

// InputsBlob is the name of the blob that a decision record follows from.
const InputsBlob = "inputs"

// checkDecision evaluates a decision again from its inputs, and says what differs. The inputs are nil where it cannot be
// repeated: a decision about the declarations has none, those of an erased month are gone, and gates of another version of
// Purser are not its own.
func (b *branchLog) checkDecision(r Record) (*policy.Inputs, error) {
	i := slices.IndexFunc(r.Blobs, func(blob BlobRef) bool { return blob.Name == InputsBlob })
	if r.Type != TypeDecision || i < 0 {
		return nil, nil
	}
	data, err := b.repo.read(plumbing.BlobObject, plumbing.NewHash(r.Blobs[i].Object), maxBlob)
	if err != nil || digestOf(data) != r.Blobs[i].Digest {
		return nil, nil // told of already, or erased
	}
	var d Decision
	if err := json.Unmarshal(r.Predicate, &d); err != nil {
		return nil, err
	}
	if !slices.EqualFunc(d.Verdict.Gates, policy.Gates(), func(g policy.Result, name string) bool { return g.Gate == name }) {
		return nil, nil
	}
	in, err := policy.DecodeInputs(data)
	if err != nil {
		return nil, err
	}
	if to := in.Candidate.Release.Digest; to != d.To {
		return &in, fmt.Errorf("its inputs are about release %s, not %s", to, d.To)
	}
	again := in.Evaluate()
	for i, g := range d.Verdict.Gates {
		if a := again.Gates[i]; a.Answer != g.Answer || a.Override != g.Override {
			return &in, fmt.Errorf("gate %s answered %s (%s), and its inputs give %s: %s", g.Gate, g.Answer, g.Reason, a.Answer, a.Reason)
		}
	}
	if again.Answer != d.Verdict.Answer {
		return &in, fmt.Errorf("the verdict is %s, and its inputs give %s", d.Verdict.Answer, again.Answer)
	}
	return &in, nil
}

// checkApprovals checks that an allow names a record of each approval that it rests on. Approvals are remembered until
// something is allowed in their environment. Without the inputs of a decision only what it names can be checked.
func (b *branchLog) checkApprovals(r Record, in *policy.Inputs) error {
	key := b.Writer + " " + r.Environment
	switch r.Type {
	case TypeApproval:
		var p Approval
		if err := json.Unmarshal(r.Predicate, &p); err != nil {
			return err
		}
		b.approvals[key] = append(b.approvals[key], recordedVote{r.Index, p.Vote})
	case TypeDecision:
		var d Decision
		if err := json.Unmarshal(r.Predicate, &d); err != nil || d.Verdict.Answer != policy.Allow {
			return err
		}
		defer delete(b.approvals, key)
		return b.namesApprovals(d, in, b.approvals[key])
	}
	return nil
}

// recordedVote is an approval with the index of its record.
type recordedVote struct {
	index uint64
	vote  policy.Vote
}

func (b *branchLog) namesApprovals(d Decision, in *policy.Inputs, recorded []recordedVote) error {
	var named []policy.Vote
	for _, index := range d.Approvals {
		switch i := slices.IndexFunc(recorded, func(v recordedVote) bool { return v.index == index }); {
		case i >= 0:
			named = append(named, recorded[i].vote)
		case index < b.base() && !slices.ContainsFunc(b.logs, func(l *branchLog) bool { return l.Branch == b.previous.Branch }):
			return nil // in a branch that this clone lacks
		default:
			return fmt.Errorf("it rests on the approval in record %d, which is none of this environment since the decision before", index)
		}
	}
	if in == nil {
		return nil
	}
	for _, v := range in.Votes(d.Verdict) {
		if !slices.ContainsFunc(named, v.Covers) {
			return fmt.Errorf("it rests on the approval of %s (%s), and names no record of that", v.Person, v.Kind)
		}
	}
	return nil
}
