package policy

import (
	"slices"
	"time"
)

// A Vote is one approval that the gate approvals counted.
type Vote struct {
	Kind      string       `json:"kind"`
	Person    string       `json:"person"`
	Statement string       `json:"statement,omitempty"` // ID
	Review    *VotedReview `json:"review,omitempty"`
	Commit    string       `json:"commit,omitempty"` // that the person signed
	// Landed are the landed changes that it counted for; none where it was about the release as a whole.
	Landed []string  `json:"landed,omitempty"`
	Seen   time.Time `json:"seen"` // a review: when the forge told; all others: when the agent first saw it
}

// Kinds of votes.
const (
	ByReview    = "review"    // the forge says so, and the agent attests to that
	ByStatement = "statement" // the person signed it
	BySignature = "signature" // a rollback: the person signed the commit
)

// VotedReview is a review that counted.
type VotedReview struct {
	ID      int64  `json:"id,omitempty"` // that the forge gave it
	Account string `json:"account"`      // login
	Head    string `json:"head"`         // the commit that was reviewed
	Pull    int64  `json:"pull"`         // number of the pull request
	URL     string `json:"url"`
	Merged  string `json:"merged"` // head of the pull request when it was merged
	Answer  string `json:"answer"` // digest of what the forge answered
}

// Same reports whether two votes are one: of the same person, by the same statement, review or signature. What the forge
// answered besides, when it was seen and for what it counted make no difference.
func (v Vote) Same(o Vote) bool {
	if v.Kind != o.Kind || v.Person != o.Person || v.Statement != o.Statement || v.Commit != o.Commit || (v.Review == nil) != (o.Review == nil) {
		return false
	}
	if v.Review == nil {
		return true
	}
	a, b := *v.Review, *o.Review
	a.Answer, a.URL, a.Account = b.Answer, b.URL, b.Account // a renamed account, a moved project
	return a == b
}

// Covers reports whether two votes are one, and count for the same landed changes.
func (v Vote) Covers(o Vote) bool { return v.Same(o) && slices.Equal(v.Landed, o.Landed) }

// joinVotes adds the votes for a landed change to those for others.
func joinVotes(votes, more []Vote, landed string) []Vote {
	for _, v := range more {
		i := slices.IndexFunc(votes, v.Same)
		if i < 0 {
			i = len(votes)
			votes = append(votes, v)
		}
		votes[i].Landed = append(votes[i].Landed, landed)
	}
	return votes
}

// Votes are the approvals that a verdict rests on; none where it allows nothing, or rests on an override instead.
func (in Inputs) Votes(v Verdict) []Vote { return counted(in.Candidate, in.Facts, in.At, v) }

// Votes are the approvals that a verdict about declarations rests on, besides root keys.
func (a Amendment) Votes(f Facts, now time.Time, v Verdict) []Vote {
	return counted(a.candidate(), f, now, v)
}

func counted(c Candidate, f Facts, now time.Time, v Verdict) []Vote {
	if v.Answer != Allow || c.Class == nil {
		return nil
	}
	r, votes := voted(c, f, now)
	if r.Answer != Allow {
		return nil
	}
	return votes
}
