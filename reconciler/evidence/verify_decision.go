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

// checkDecision evaluates a decision again from its inputs, and says what differs. A decision without inputs is one about
// the declarations, or its month was erased; one whose gates are not those of this Purser cannot be repeated by it.
func (b *branchLog) checkDecision(r Record) (repeated bool, err error) {
	i := slices.IndexFunc(r.Blobs, func(blob BlobRef) bool { return blob.Name == InputsBlob })
	if r.Type != TypeDecision || i < 0 {
		return false, nil
	}
	data, err := b.repo.read(plumbing.BlobObject, plumbing.NewHash(r.Blobs[i].Object), maxBlob)
	if err != nil || digestOf(data) != r.Blobs[i].Digest {
		return false, nil // told of already, or erased
	}
	var d Decision
	if err := json.Unmarshal(r.Predicate, &d); err != nil {
		return false, err
	}
	if !slices.EqualFunc(d.Verdict.Gates, policy.Gates(), func(g policy.Result, name string) bool { return g.Gate == name }) {
		return false, nil
	}
	in, err := policy.DecodeInputs(data)
	if err != nil {
		return false, err
	}
	if to := in.Candidate.Release.Digest; to != d.To {
		return true, fmt.Errorf("its inputs are about release %s, not %s", to, d.To)
	}
	again := in.Evaluate()
	for i, g := range d.Verdict.Gates {
		if a := again.Gates[i]; a.Answer != g.Answer || a.Override != g.Override {
			return true, fmt.Errorf("gate %s answered %s (%s), and its inputs give %s: %s", g.Gate, g.Answer, g.Reason, a.Answer, a.Reason)
		}
	}
	if again.Answer != d.Verdict.Answer {
		return true, fmt.Errorf("the verdict is %s, and its inputs give %s", d.Verdict.Answer, again.Answer)
	}
	return true, nil
}
