package policy

import (
	"fmt"
	"time"

	"github.com/purser-gitops/purser/sources/declaration"
)

// Backup says how far the environment's backups can be trusted.
type Backup struct {
	Newest   time.Time `json:"newest"`            // point in time of the newest verified backup
	Verified bool      `json:"verified"`          // it was downloaded, opened and parsed
	Drill    time.Time `json:"drill"`             // of the last drill that passed
	Problem  string    `json:"problem,omitempty"` // why the last drill failed, or missed its objective
}

// backup passes when the newest backup is verified and young enough, and the last drill passed lately.
func backup(c Candidate, f Facts, now time.Time) Result {
	rule := c.Class.Spec.Backup
	switch b := f.Backup; {
	case rule == (declaration.BackupDemand{}):
		return allow("the class asks for no backup")
	case b == nil:
		return Result{Answer: Deny, Reason: "the state of the environment's backups is unknown", Hint: "declare backups for it"}
	case b.Problem != "":
		return Result{Answer: Deny, Reason: b.Problem}
	case !b.Verified:
		return Result{Answer: Deny, Reason: "the newest backup is not verified"}
	case rule.MaxAge > 0 && (now.Sub(b.Newest) > rule.MaxAge || now.Before(b.Newest)):
		return Result{Answer: Deny, Reason: fmt.Sprintf("the newest backup is of %s, and may be %s old", b.Newest.UTC().Format(time.RFC3339), rule.MaxAge)}
	case rule.DrillMaxAge > 0 && (now.Sub(b.Drill) > rule.DrillMaxAge || now.Before(b.Drill)):
		return Result{Answer: Deny, Reason: fmt.Sprintf("the last restore drill that passed is of %s, and may be %s old", b.Drill.UTC().Format(time.RFC3339), rule.DrillMaxAge)}
	}
	return allow("the newest backup is verified, the last drill passed")
}
