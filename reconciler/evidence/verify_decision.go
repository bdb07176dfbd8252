package evidence

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/purser-gitops/purser/reconciler/policy"
)

// Names of the blobs that a decision record follows from: what is its own, and the rules that it shares with all decisions
// under the same governance.
const (
	InputsBlob = "inputs"
	RulesBlob  = "rules"
)

// decisions reads what decision records follow from. Most of them follow from the same few rules.
type decisions struct {
	repo  *repository
	rules map[string]*policy.Rules // by digest
}

// rulesKept bounds the rules that are held ready.
const rulesKept = 32

func newDecisions(repo *repository) decisions {
	return decisions{repo: repo, rules: map[string]*policy.Rules{}}
}

// errNoInputs says that a blob is not there, or not what the record says: erased, or told of already.
var errNoInputs = errors.New("the inputs of the decision are not in the clone")

func (d decisions) inputs(r Record) (policy.Inputs, error) {
	own, err := d.blob(r, InputsBlob)
	if err != nil {
		return policy.Inputs{}, err
	}
	rules, err := d.rulesOf(r)
	if err != nil {
		return policy.Inputs{}, err
	}
	data, err := d.read(own)
	if err != nil {
		return policy.Inputs{}, err
	}
	return rules.Decode(data)
}

func (d decisions) rulesOf(r Record) (*policy.Rules, error) {
	blob, err := d.blob(r, RulesBlob)
	if err != nil {
		return nil, err
	}
	if known := d.rules[blob.Digest]; known != nil {
		return known, nil
	}
	data, err := d.read(blob)
	if err != nil {
		return nil, err
	}
	rules, err := policy.DecodeRules(data)
	if err != nil {
		return nil, err
	}
	if len(d.rules) == rulesKept {
		clear(d.rules)
	}
	d.rules[blob.Digest] = rules
	return rules, nil
}

// blob finds a blob of the record by its name.
func (d decisions) blob(r Record, name string) (BlobRef, error) {
	i := slices.IndexFunc(r.Blobs, func(blob BlobRef) bool { return blob.Name == name })
	if i < 0 {
		return BlobRef{}, fmt.Errorf("the decision has no %s", name)
	}
	return r.Blobs[i], nil
}

func (d decisions) read(blob BlobRef) ([]byte, error) {
	data, err := d.repo.read(plumbing.BlobObject, plumbing.NewHash(blob.Object), maxBlob)
	if err != nil || digestOf(data) != blob.Digest {
		return nil, errors.Join(errNoInputs, err)
	}
	return data, nil
}

// checkDecision evaluates a decision again from its inputs, and says what differs. The inputs are nil where it cannot be
// repeated: a decision about the declarations has none, those of an erased month are gone, and gates of another version of
// Purser are not its own.
func (b *branchLog) checkDecision(r Record) (*policy.Inputs, error) {
	if r.Type != TypeDecision || !slices.ContainsFunc(r.Blobs, func(blob BlobRef) bool { return blob.Name == InputsBlob }) {
		return nil, nil
	}
	var d Decision
	if err := json.Unmarshal(r.Predicate, &d); err != nil {
		return nil, err
	}
	if !slices.EqualFunc(d.Verdict.Gates, policy.Gates(), func(g policy.Result, name string) bool { return g.Gate == name }) {
		return nil, nil
	}
	in, err := b.decisions.inputs(r)
	if errors.Is(err, errNoInputs) || errors.Is(err, policy.ErrOtherGates) { // the former told of already, or erased
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if env := in.Candidate.Environment.Meta.Name; env != r.Environment {
		return &in, fmt.Errorf("its inputs are about environment %q, not %q", env, r.Environment)
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

// InputsOf reads from a clone of the audit repository what decisions follow from.
func InputsOf(clone string, records []Record) (_ []policy.Inputs, err error) {
	repo, err := openRepository(clone)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, repo.close()) }()
	read := newDecisions(repo)
	list := make([]policy.Inputs, len(records))
	for i, r := range records {
		if list[i], err = read.inputs(r); err != nil {
			return nil, fmt.Errorf("read the inputs of decision %s: %w", r.ID, err)
		}
	}
	return list, nil
}
