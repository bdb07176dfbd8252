package evidence

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources/forge"
)

// The record types. Environment is empty in the records of the estate as a whole: start, heartbeat,
// stop, force-push, and the change, decision and refused records of governance.
const (
	TypeStart      = "start"      // the agent began to write: version, epoch, whether records may be missing before it
	TypeHeartbeat  = "heartbeat"  // the agent is alive and idle
	TypeStop       = "stop"       // the agent ended in order
	TypeState      = "state"      // the whole state: opens each further yearly branch
	TypeForcePush  = "force-push" // a source branch moved to a commit that does not descend from the last one
	TypeChange     = "change"     // a release (or a governance commit) was proposed
	TypeDecision   = "decision"   // the gates answered about it
	TypeRefused    = "refused"    // input that is no release: it does not parse, render or fit the estate
	TypeSuperseded = "superseded" // an approved release was replaced before it was live, or declarations were taken back
	TypePlan       = "plan"       // intent: what is about to be changed in a cluster
	TypeApply      = "apply"      // outcome of exactly one plan
	TypeDrift      = "drift"      // what runs differs from its release, which is unchanged
	TypeHealth     = "health"     // what runs changed its health
	TypeLive       = "live"       // a release is fully applied and healthy
	TypeStatement  = "statement"  // a person said something outside a pull request
	TypeApproval   = "approval"   // a person approved what the next decision lets in
	TypeProtection = "protection" // a forge protects a branch in another way than before
	TypeVeto       = "veto"       // a release is to be kept away, until a person lifts it
	TypeGone       = "gone"       // objects of an environment that is declared no more do not exist any more
	TypeFreeze     = "freeze"     // a freeze caught a release between its approval and its being live

	TypeBackup       = "backup"       // a backup was made, or could not be
	TypeVerification = "verification" // a backup was looked at
	TypeRestoreTest  = "restore-test" // a restore was rehearsed
	TypeReplication  = "replication"  // a backup was copied to another store, or could not be
	TypeRetention    = "retention"    // what is about to be deleted and locked for longer in a store, or what of it was done
)

// Start opens a run of the agent.
type Start struct {
	Version     string `json:"version"`
	Renderer    string `json:"renderer"`
	PossibleGap bool   `json:"possibleGap"` // a new epoch: records of the last epoch may be lost with its disk
}

// State carries the fold of all earlier records. Its header names the branch they are in.
type State struct {
	State json.RawMessage `json:"state"`
}

// Heartbeat says that the agent lives. A silence longer than its interval is a gap to explain.
type Heartbeat struct {
	Environments int           `json:"environments"`
	Interval     time.Duration `json:"intervalNanoseconds"`
}

// Stop closes a run of the agent.
type Stop struct {
	Reason string `json:"reason"`
}

// Revision is a branch's commit in a source.
type Revision struct {
	Source   string `json:"source"`
	Revision string `json:"revision"` // main@sha1:…
}

// ForcePush says that history was rewritten: From is no ancestor of To.
type ForcePush struct {
	Source string `json:"source"`
	Branch string `json:"branch"`
	From   string `json:"from"`
	To     string `json:"to"`
}

// Change proposes a release. For governance, To is the commit.
type Change struct {
	From     string         `json:"from,omitempty"` // digest of the approved release, or governance commit; empty the first time
	To       string         `json:"to"`             // digest of the proposed release, or governance commit
	Revision Revision       `json:"revision"`
	Origin   policy.Origin  `json:"origin"`
	Landed   []string       `json:"landed,omitempty"` // first-parent commits since the approved revision that alter what its releases read, oldest first
	Images   []string       `json:"images,omitempty"` // role/container=reference, sorted
	Version  string         `json:"version,omitempty"`
	Ticket   string         `json:"ticket,omitempty"`
	Reason   string         `json:"reason,omitempty"`
	Diff     map[string]int `json:"diff,omitempty"` // objects by action; the field diff is the blob "diff"
	Renderer string         `json:"renderer,omitempty"`
}

// Decision is the gates' answer about moving from one release to another. An allow moves the approved
// pointer; so Revision is carried along.
type Decision struct {
	From     string         `json:"from,omitempty"`
	To       string         `json:"to"`
	Revision Revision       `json:"revision"`
	Origin   policy.Origin  `json:"origin"`
	Verdict  policy.Verdict `json:"verdict"`
	Class    string         `json:"class,omitempty"`
	Vetoes   []string       `json:"vetoes,omitempty"` // the releases that an allowed rollback leaves, kept away from now on
	// Approvals are the indices of the approval records that an allow rests on.
	Approvals []uint64 `json:"approvals,omitempty"`
	// Governance is the commit whose rules were asked. Everything that the verdict follows from is in the blobs "inputs" and
	// "rules" (see policy.Inputs); of governance's own changes there are none.
	Governance string `json:"governance,omitempty"`
}

// Refused is input that could not become a release. The last good state stays.
type Refused struct {
	Revision Revision `json:"revision"`
	Stage    string   `json:"stage"`             // declaration, render or plan
	Release  string   `json:"release,omitempty"` // of a plan that a person must make possible
	Errors   []string `json:"errors"`
}

// Stages that refuse.
const (
	StageDeclaration = "declaration"
	StageRender      = "render"
	StagePlan        = "plan" // the release is approved, and the cluster or what is in it does not let it in
)

// Superseded says that an approved release was never live, and what replaced it; without an environment, that declarations which
// were refused or not approved are no longer offered: the branch has again what is in force.
type Superseded struct {
	Release string `json:"release"`
	By      string `json:"by"`
}

// Purposes of a plan.
const (
	PurposeRelease = "release"
	PurposeRepair  = "repair"
)

// Item is one object of an inventory or a plan.
type Item struct {
	render.Ref
	Action string `json:"action,omitempty"`
	Digest string `json:"digest,omitempty"` // of the desired object
	Reason string `json:"reason,omitempty"` // why it was adopted or skipped
	Error  string `json:"error,omitempty"`  // why it failed
	// Released: the object bears our mark no longer, so it left the inventory without being deleted.
	Released bool `json:"released,omitempty"`
}

// Plan is an intent. It is durable before the first mutation.
type Plan struct {
	Release    string         `json:"release"`
	Revision   Revision       `json:"revision"`
	Purpose    string         `json:"purpose"`
	Cluster    string         `json:"cluster"`
	Namespace  string         `json:"namespace"`
	Tenant     string         `json:"tenant"`
	ClusterUID string         `json:"clusterUID"`      // UID of the namespace kube-system
	Attempt    int            `json:"attempt"`         // of this purpose within the deployment
	Summary    map[string]int `json:"summary"`         // objects by action
	Items      []Item         `json:"items"`           // all that the inventory does not hold like this already; the field diff is the blob "diff"
	Drift      *uint64        `json:"drift,omitempty"` // of a repair: index of the newest drift record it answers, where there is one
}

// Drift says what is new about the difference between the objects of an environment and the release that runs. All
// that is known to differ follows from the drift records since the release was applied, without what repairs wrote
// meanwhile. News that would make a record large take several. The field diff is the blob "diff"; values of Secrets are
// masked.
type Drift struct {
	Release string       `json:"release"`
	Policy  string       `json:"policy"`         // correct, report or suspended: what happens about it
	Found   string       `json:"found"`          // watch or comparison
	Objects []Drifted    `json:"objects"`        // that did not differ before, or in another way
	Gone    []render.Ref `json:"gone,omitempty"` // objects that differed and are as desired again, or are none of the release's, without a repair
	Known   int          `json:"known"`          // how many objects are known to differ, with and without these
}

// Gone are objects of an environment that is declared no more, which the API server says do not exist any more: somebody deleted
// them. Nobody owns them from now on.
type Gone struct {
	Objects []render.Ref `json:"objects"`
}

// How drift was found.
const (
	FoundByWatch      = "watch"
	FoundByComparison = "comparison"
)

// PolicySuspended stands in a drift record where the environment is suspended.
const PolicySuspended = "suspended"

// Drifted is one object that differs.
type Drifted struct {
	render.Ref
	Action string        `json:"action"`           // of the repair: created (it was deleted) or configured; skipped where none is possible now
	Diff   string        `json:"diff"`             // digest of the field diff: what tells one drift of the object from the next
	Fields []string      `json:"fields,omitempty"` // paths that differ, the first ones
	By     []FieldWriter `json:"by,omitempty"`     // who holds these fields, newest first; a deletion names nobody
	User   string        `json:"user"`             // who, where that is known; Unattributed where not
	Reason string        `json:"reason,omitempty"`
	// Contested: it was repaired several times in a row and changed again each time; repairs keep a growing distance.
	Contested bool `json:"contested,omitempty"`
}

// Unattributed is the user of a change that the API server's metadata tells a field manager of, at most.
const Unattributed = "unattributed"

// FieldWriter is a field manager that wrote an object.
type FieldWriter struct {
	Manager     string    `json:"manager"`
	Operation   string    `json:"operation,omitempty"` // Apply or Update
	Subresource string    `json:"subresource,omitempty"`
	Time        time.Time `json:"time,omitzero"` // the API server keeps none for some subresources
}

// Outcomes of a plan.
const (
	OutcomeApplied     = "applied"
	OutcomeFailed      = "failed"
	OutcomeInterrupted = "interrupted" // the agent ended between intent and outcome: some of it may have happened
	OutcomeAbandoned   = "abandoned"   // nothing was changed: the intent did not reach the audit remote in time
)

// Apply is the outcome of the plan with the index Plan.
type Apply struct {
	Plan    uint64         `json:"plan"`
	Release string         `json:"release"`
	Purpose string         `json:"purpose"`
	Outcome string         `json:"outcome"`
	Summary map[string]int `json:"summary"`
	Items   []Item         `json:"items"`
	Error   string         `json:"error,omitempty"`
}

// Health is a transition of what runs.
type Health struct {
	Release string `json:"release"`
	From    string `json:"from,omitempty"`
	To      string `json:"to"`
	Cause   string `json:"cause,omitempty"`
	Message string `json:"message,omitempty"`
	// Ran are the images that were seen to run so far: of which a pod was ready, or came to its end. Sorted.
	Ran []string `json:"ran,omitempty"`
}

// Live says that a release is fully applied and healthy.
type Live struct {
	Release  string        `json:"release"`
	Previous string        `json:"previous,omitempty"`
	Revision Revision      `json:"revision"`
	LeadTime time.Duration `json:"leadTimeNanoseconds"` // from the commit's first sight to live
	Images   []string      `json:"images,omitempty"`    // role/container=reference, sorted
}

// Statement is what a person said, word for word, with the signature that proves it. Its meaning counts only where it
// was accepted.
type Statement struct {
	ID        string `json:"id"`               // digest of the payload
	Payload   []byte `json:"payload"`          // JSON
	Signature string `json:"signature"`        // armored SSHSIG, namespace purser-statement
	Ref       string `json:"ref"`              // where the agent found it
	Commit    string `json:"commit,omitempty"` // that the ref pointed at, where it is unproven
	Person    string `json:"person,omitempty"`
	Key       string `json:"key,omitempty"` // fingerprint of the key
	// Refused says why it does not count; "" when it was accepted.
	Refused string `json:"refused,omitempty"`
	// Unproven: no key of somebody known signed it, or one that is revoked or has expired. Of these only some are recorded.
	Unproven bool `json:"unproven,omitempty"`
}

// Approval is one approval that a decision rests on. It is written before that, once for each decision that lets something
// in.
type Approval struct {
	policy.Vote
	Word   string `json:"word"`           // whose word it is: WordOfPerson or WordOfAgent
	Source string `json:"source"`         // of what was approved; its forge told of the review
	From   string `json:"from,omitempty"` // digest of the approved release, or governance commit
	To     string `json:"to"`             // digest of the release, or governance commit
	Class  string `json:"class,omitempty"`
}

// Whose word an approval is.
const (
	WordOfPerson = "signed by the person"
	WordOfAgent  = "attested by the agent" // a forge said so
)

// WordOf says whose word a vote is.
func WordOf(v policy.Vote) string {
	if v.Kind == policy.ByReview {
		return WordOfAgent
	}
	return WordOfPerson
}

// Protection says how a forge protects a branch that is followed, as far as the agent's token may see that. It is written
// when it changed.
type Protection struct {
	Source string `json:"source"`
	Branch string `json:"branch"`
	forge.Protection
}

// Same reports whether two snapshots say the same. What else the forge answered makes no difference.
func (p Protection) Same(o Protection) bool {
	p.Digest = o.Digest
	return p == o
}

// Hint says who may land changes that nobody reviewed; "" where nobody is known to.
func (p Protection) Hint() string {
	branch := fmt.Sprintf("branch %s of %s", p.Branch, p.Source)
	switch {
	case !p.Known && !p.Protected:
		return fmt.Sprintf("how the forge protects %s is unknown: the agent's token may not see it", branch)
	case !p.Known:
		return fmt.Sprintf("%s is protected; who may land changes there without a review is unknown: the agent's token may not see it", branch)
	case !p.Protected:
		return fmt.Sprintf("%s is not protected: whoever may write to the project can push to it, without a pull request", branch)
	}
	var may []string
	if p.RequiredApprovals == 0 {
		may = append(may, "the forge asks for no approval")
	} else if p.AdminBypass {
		may = append(may, fmt.Sprintf("administrators, or others that the rule names, may land changes without the %d approvals it asks for", p.RequiredApprovals))
	}
	if p.ForcePush {
		may = append(may, "somebody may rewrite it")
	}
	if len(may) == 0 {
		return ""
	}
	return fmt.Sprintf("%s is protected, but %s", branch, strings.Join(may, ", and "))
}

// Veto keeps a release away. Where it is the one that is being released, what was live before is approved again.
type Veto struct {
	Release   string `json:"release"`
	Reason    string `json:"reason"`
	By        string `json:"by"`                  // person, or the agent's writer
	Statement string `json:"statement,omitempty"` // that asked for it
	Lifted    bool   `json:"lifted,omitempty"`    // the veto is taken back
}

// Freeze says what a freeze did to a release that was approved before and is not live yet: nothing, where somebody
// ordered that; hold it back (pause); or give it up for what is live, until the gates let it in again (rollBack).
type Freeze struct {
	Release  string     `json:"release"`
	Calendar string     `json:"calendar"`
	Name     string     `json:"freeze"`
	Rule     string     `json:"rule"` // pause or rollBack
	Until    *time.Time `json:"until,omitempty"`
	To       string     `json:"to,omitempty"`       // what is approved again
	Override string     `json:"override,omitempty"` // the statement that lets the release go on
	Reason   string     `json:"reason"`
}
