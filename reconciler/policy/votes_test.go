package policy

import (
	"slices"
	"testing"
)

// The votes of a verdict are those that it counts: one of each person, none more than are needed, and each names the landed
// changes that it is about.
func TestVotes(t *testing.T) {
	c, f := asked()
	review := reviewBy("dba-1")
	review.ID, review.Head = 5, "head"
	c.Landed[0].Pull = &Pull{Number: 7, Head: "head", Digest: "sha256:d1", At: now, Reviews: []Review{review}}
	second := c.Landed[0]
	second.Commit = "c2"
	c.Landed = append(c.Landed, second) // of the same pull request: a rebase
	f.Statements = []Statement{approveBy("release-manager-1"), approveBy("release-manager-2")}
	in := Inputs{Candidate: c, Facts: f, At: now}
	votes := in.Votes(Verdict{Answer: Allow})
	if len(votes) != 2 {
		t.Fatalf("the votes are %+v", votes)
	}
	both := []string{commitB, "c2"}
	for _, v := range votes {
		if !slices.Equal(v.Landed, both) {
			t.Errorf("%s counts for %v", v.Person, v.Landed)
		}
	}
	if s := votes[0]; s.Kind != ByStatement || s.Person != "release-manager-1" || s.Statement != "sha256:release-manager-1" {
		t.Errorf("the first is %+v", s)
	}
	r := votes[1]
	if r.Kind != ByReview || r.Person != "dba-1" || *r.Review != (VotedReview{ID: 5, Head: "head", Pull: 7, Merged: "head", Answer: "sha256:d1"}) || r.Seen != now {
		t.Errorf("the second is %+v, %+v", r, r.Review)
	}
	again := *r.Review
	again.Answer, again.Account = "sha256:d2", "renamed"
	if o := (Vote{Kind: ByReview, Person: "dba-1", Review: &again}); !r.Same(o) {
		t.Error("another answer of the forge makes it another vote")
	}
	again.ID = 6
	if o := (Vote{Kind: ByReview, Person: "dba-1", Review: &again}); r.Same(o) || r.Same(votes[0]) {
		t.Error("another review is the same vote")
	}
	if got := in.Votes(Verdict{Answer: Wait}); got != nil {
		t.Errorf("a verdict that waits rests on %+v", got)
	}
	in.Facts.Statements = nil // an override let it through
	if got := in.Votes(Verdict{Answer: Allow}); got != nil {
		t.Errorf("without enough of them it rests on %+v", got)
	}
}
