package evidence

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/purser-gitops/purser/backup"
	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/sources/forge"
)

// What people and backups did is told in a few words, also where it does not count.
func TestSummary(t *testing.T) {
	t.Parallel()
	payload := []byte(`{"verb":"approve"}`)
	review := policy.Vote{Kind: policy.ByReview, Person: "dba-1"}
	protection := func(p forge.Protection) Protection {
		return Protection{Source: "estate", Branch: "main", Protection: p}
	}
	for _, c := range []struct {
		typ, want string
		predicate any
	}{
		{TypeStatement, "approve by release-manager-1", Statement{Payload: payload, Person: "release-manager-1"}},
		{TypeStatement, "approve by nobody known, does not count: unknown key", Statement{Payload: payload, Refused: "unknown key"}},
		{TypeStatement, "by nobody known, does not count: no statement", Statement{Refused: "no statement"}},
		{TypeApproval, "by dba-1 (review), attested by the agent", Approval{Vote: review, Word: WordOf(review)}},
		{TypeProtection, "how the forge protects branch main of estate is unknown: the agent's token may not see it", protection(forge.Protection{})},
		{TypeProtection, "branch main of estate is protected; who may land changes there without a review is unknown: the agent's token may not see it",
			protection(forge.Protection{Protected: true})},
		{TypeProtection, "branch main of estate is not protected: whoever may write to the project can push to it, without a pull request",
			protection(forge.Protection{Known: true, AdminBypass: true, ForcePush: true})},
		{TypeProtection, "branch main of estate is protected, but administrators, or others that the rule names, may land changes without the 2 approvals it asks for, and somebody may rewrite it",
			protection(forge.Protection{Known: true, Protected: true, RequiredApprovals: 2, AdminBypass: true, ForcePush: true})},
		{TypeProtection, "branch main of estate is protected, but the forge asks for no approval", protection(forge.Protection{Known: true, Protected: true})},
		{TypeProtection, "branch main of estate is protected", protection(forge.Protection{Known: true, Protected: true, RequiredApprovals: 1})},
		{TypeVerification, "x in main passed L1", Verification{Store: "main", Passed: true, Verification: backup.Verification{ID: "x", Reached: backup.L1}}},
		{TypeVerification, "x did not pass", Verification{Store: "main", Verification: backup.Verification{ID: "x", Asked: backup.L1, Reached: backup.L0}}},
		{TypeRestoreTest, "x did not pass", RestoreTest{Store: "main", DrillReport: backup.DrillReport{ID: "x", RTO: time.Hour}}},
		{TypeRetention, "main: 0 objects deleted, 0 locked for longer; something is kept that could be deleted: the clocks differ",
			Retention{Store: "main", Phase: RetentionDone, Blocked: []string{"the clocks differ"}}},
		{TypeVeto, "by release-manager-1: orders are lost", Veto{By: "release-manager-1", Reason: "orders are lost"}},
		{TypeVeto, "lifted by owner-1: repaired", Veto{By: "owner-1", Reason: "repaired", Lifted: true}},
	} {
		predicate, err := json.Marshal(c.predicate)
		if err != nil {
			t.Fatal(err)
		}
		if got := (Record{Type: c.typ, Predicate: predicate}).Summary(); got != c.want {
			t.Errorf("summary of a %s: %q, want %q", c.typ, got, c.want)
		}
	}
}
