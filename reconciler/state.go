package reconciler

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/purser-gitops/purser/reconciler/apply"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/landed"
	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/reconciler/upkeep"
	"github.com/purser-gitops/purser/sources"
)

// State is what the records say happened. It is a fold: the same records give the same state, on this
// machine or on a new one. What is not recorded did not happen.
type State struct {
	Governance   Governance                   `json:"governance"`
	Environments map[string]*EnvironmentState `json:"environments"`
	ClusterUIDs  map[string]string            `json:"clusterUIDs"`      // UID of kube-system, by cluster, as of the first plan
	Records      int                          `json:"records"`          // of the estate as a whole
	At           time.Time                    `json:"at"`               // of the last record
	Epoch        int                          `json:"epoch,omitempty"`  // of the records; it began with a possible gap. 0: the first
	EpochAt      time.Time                    `json:"epochAt,omitzero"` // when it began
	Statements   map[string]bool              `json:"statements"`       // IDs of all that counted, and with the key those of people that did not
	Junk         Junk                         `json:"junk,omitzero"`
	// Protections are those of the followed branches, by source and branch.
	Protections map[string]evidence.Protection `json:"protections,omitempty"`

	owners map[claim]string // object → environment that owns it; follows from the inventories
}

// Candidacy is what is known of what is offered, and of those who have a say in it, since something was approved.
type Candidacy struct {
	Verdict    *policy.Verdict    `json:"verdict,omitempty"` // about what is proposed
	JudgedAt   time.Time          `json:"judgedAt,omitzero"` // since when Verdict's answer is what it is
	Refused    *evidence.Refused  `json:"refused,omitempty"` // newest input that could not be proposed
	RefusedAt  time.Time          `json:"refusedAt,omitzero"`
	Offers     landed.Offers      `json:"offers"`
	Statements []policy.Statement `json:"statements,omitempty"` // of people who approve
	Approvals  []KnownApproval    `json:"approvals,omitempty"`
}

// Governance says which commit's declarations are in force.
type Governance struct {
	Approved *evidence.Revision `json:"approved,omitempty"`
	Since    time.Time          `json:"since"`

	Proposed   *evidence.Revision `json:"proposed,omitempty"` // newest commit that was offered and parsed
	ProposedAt time.Time          `json:"proposedAt,omitzero"`
	Candidacy
	Root []policy.Statement `json:"root,omitempty"` // of holders of root keys, since the approved commit
}

// EnvironmentState holds the pointers of one environment and what surrounds them. Folding a record replaces what its
// pointers, slices and maps refer to and never alters it: a copy of the struct stays as it is.
type EnvironmentState struct {
	Proposed *Pointer `json:"proposed,omitempty"` // newest release offered
	Approved *Pointer `json:"approved,omitempty"` // newest whose gates all passed
	Live     *Pointer `json:"live,omitempty"`     // newest fully rolled out and healthy
	Previous *Pointer `json:"previous,omitempty"` // live before Live

	Candidacy
	Blocked    *evidence.Refused `json:"blocked,omitempty"` // why what is approved cannot be planned
	BlockedAt  time.Time         `json:"blockedAt,omitzero"`
	Deployment Deployment        `json:"deployment"`
	Inventory  apply.Inventory   `json:"inventory"`
	Place      Place             `json:"place"` // of the inventory
	Health     *evidence.Health  `json:"health,omitempty"`
	HealthAt   time.Time         `json:"healthAt,omitzero"` // of the last transition
	// What is known to differ from the target, the record that says so, and the objects that were repaired lately.
	Drift       []evidence.Drifted `json:"drift,omitempty"`
	DriftRecord uint64             `json:"driftRecord,omitempty"`
	DriftSince  time.Time          `json:"driftSince,omitzero"` // something is known to differ
	Contests    map[string]Contest `json:"contests,omitempty"`  // by object key

	Soaks     []policy.Soak          `json:"soaks,omitempty"`     // newest last
	Overrides []policy.Override      `json:"overrides,omitempty"` // in force, or to be reviewed
	Hold      *policy.Hold           `json:"hold,omitempty"`
	Vetoes    map[string]policy.Veto `json:"vetoes,omitempty"` // by release
	Caught    *Caught                `json:"caught,omitempty"` // by a freeze: the release that was under way last
	Used      Used                   `json:"used,omitzero"`    // for releases that are approved and not live

	Backups upkeep.Backups `json:"backups,omitzero"`

	// SureEpoch is the newest epoch in which a release was planned, for which every object is looked at, or a person confirmed
	// that the log is not behind the cluster.
	SureEpoch int `json:"sureEpoch,omitempty"`

	Records int `json:"records"` // of this environment
}

// Place is where an environment's objects are, and as whom they are reached.
type Place struct {
	Cluster   string `json:"cluster"`
	Namespace string `json:"namespace"`
	Tenant    string `json:"tenant"`
}

func (p Place) String() string {
	return fmt.Sprintf("namespace %q of cluster %q as tenant %q", p.Namespace, p.Cluster, p.Tenant)
}

// Pointer names a release and where it came from.
type Pointer struct {
	Release  string            `json:"release"` // digest
	Revision evidence.Revision `json:"revision"`
	Origin   policy.Origin     `json:"origin"`
	Class    string            `json:"class,omitempty"`    // that it was approved as
	Deletes  bool              `json:"deletes,omitempty"`  // a person let it delete more than the limits
	Override string            `json:"override,omitempty"` // the statement that let it pass its calendar
	Left     bool              `json:"left,omitempty"`     // by a rollback: it is no way back, until it is approved again as any other release
	Images   []string          `json:"images,omitempty"`
	At       time.Time         `json:"at"`      // when the pointer moved here
	FirstAt  time.Time         `json:"firstAt"` // when the release was first proposed
}

// is reports whether the pointer is there, and names a release.
func (p *Pointer) is(release string) bool { return p != nil && p.Release == release }

// isBack reports whether the pointer names a release that is a way back.
func (p *Pointer) isBack(release string) bool { return p.is(release) && !p.Left }

// Deployment is the newest attempt to make a release live.
type Deployment struct {
	Number    int       `json:"number"` // 0: there was none yet
	Release   string    `json:"release,omitempty"`
	Phase     Phase     `json:"phase,omitempty"`
	Intent    *Intent   `json:"intent,omitempty"` // a plan without an outcome yet
	Repairs   int       `json:"repairs"`          // repair plans under this deployment
	AppliedAt time.Time `json:"appliedAt"`
	FailedAt  time.Time `json:"failedAt,omitzero"` // first, of the attempts to apply the same release in a row
	Error     string    `json:"error,omitempty"`
}

// Intent is a recorded plan whose outcome is not recorded yet.
type Intent struct {
	Record  uint64 `json:"record"`
	Release string `json:"release"`
	Purpose string `json:"purpose"`
}

// Phase of a deployment.
type Phase string

// Phases of a deployment. Only an applied one can become live.
const (
	PhasePlanned    Phase = "planned"
	PhaseApplied    Phase = "applied"
	PhaseFailed     Phase = "failed" // or interrupted or abandoned: the next attempt is a new deployment
	PhaseLive       Phase = "live"
	PhaseSuperseded Phase = "superseded"
	PhaseAbandoned  Phase = "abandoned" // nothing was changed; what was live before is still what runs
)

// NewState is the state before the first record.
func NewState() *State {
	return &State{
		Environments: map[string]*EnvironmentState{}, ClusterUIDs: map[string]string{}, Statements: map[string]bool{}, owners: map[claim]string{},
		Protections: map[string]evidence.Protection{},
	}
}

// Target is the digest of the release that repair aims at: the release under deployment once its first
// intent is recorded, else what is live. "" when the environment has neither.
func (e *EnvironmentState) Target() string {
	switch e.Deployment.Phase {
	case PhasePlanned, PhaseApplied, PhaseFailed:
		return e.Deployment.Release
	}
	if e.Live != nil {
		return e.Live.Release
	}
	return ""
}

// environment gives the state of an environment, new if it was never heard of.
func (s *State) environment(name string) *EnvironmentState {
	e := s.Environments[name]
	if e == nil {
		e = &EnvironmentState{}
		s.Environments[name] = e
	}
	return e
}

// candidacy is that of an environment, "" for the declarations.
func (s *State) candidacy(environment string) *Candidacy {
	if environment == "" {
		return &s.Governance.Candidacy
	}
	return &s.environment(environment).Candidacy
}

// recorded counts the records of an environment, "" being the estate as a whole.
func (s *State) recorded(environment string) int {
	if environment == "" {
		return s.Records
	}
	if e := s.Environments[environment]; e != nil {
		return e.Records
	}
	return 0
}

// Fold adds one record. A record that does not decode is an error: state must not be guessed.
func (s *State) Fold(r evidence.Record) error {
	if r.Environment == "" {
		s.Records++
	} else {
		s.environment(r.Environment).Records++
	}
	defer func() {
		if r.Time.After(s.At) {
			s.At = r.Time
		}
		if r.Epoch > 1 && r.Epoch > s.Epoch { // not r.Gap: at a year's turn the log itself writes the record that has it
			s.Epoch, s.EpochAt = r.Epoch, r.Time
		}
	}()
	fold, known := folds[r.Type]
	if !known {
		return nil // types that carry no state
	}
	if err := fold(s, r); err != nil {
		return fmt.Errorf("fold record %d (%s): %w", r.Index, r.Type, err)
	}
	return nil
}

var folds = map[string]func(*State, evidence.Record) error{
	evidence.TypeForcePush:  folding(foldForcePush),
	evidence.TypeChange:     folding(foldChange),
	evidence.TypeDecision:   folding(foldDecision),
	evidence.TypeRefused:    folding(foldRefused),
	evidence.TypeSuperseded: folding(foldSuperseded),
	evidence.TypePlan:       folding(foldPlan),
	evidence.TypeApply:      folding(foldApply),
	evidence.TypeDrift:      folding(foldDrift),
	evidence.TypeHealth:     folding(foldHealth),
	evidence.TypeLive:       folding(foldLive),
	evidence.TypeState:      foldState,
	evidence.TypeStart:      folding(foldStart),
	evidence.TypeStatement:  folding(foldStatement),
	evidence.TypeApproval:   folding(foldApproval),
	evidence.TypeProtection: folding(foldProtection),
	evidence.TypeVeto:       folding(foldVeto),
	evidence.TypeGone:       folding(foldGone),
	evidence.TypeFreeze:     folding(foldFreeze),

	evidence.TypeBackup:       foldBackups,
	evidence.TypeVerification: foldBackups,
	evidence.TypeRestoreTest:  foldBackups,
	evidence.TypeReplication:  foldBackups,
	evidence.TypeRetention:    foldBackups,
}

func folding[P any](fold func(*State, evidence.Record, P)) func(*State, evidence.Record) error {
	return func(s *State, r evidence.Record) error {
		var p P
		if err := json.Unmarshal(r.Predicate, &p); err != nil {
			return err
		}
		fold(s, r, p)
		return nil
	}
}

// foldState replaces everything: the first record of a year's branch carries the state of the last.
func foldState(s *State, r evidence.Record) error {
	next := NewState()
	var p evidence.State
	if err := json.Unmarshal(r.Predicate, &p); err != nil {
		return err
	}
	if err := json.Unmarshal(p.State, next); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(next.Environments)) {
		e := next.Environments[name]
		for _, item := range e.Inventory {
			object := claim{e.Place.Cluster, item.Ref.Key()}
			// An object of two environments, of which one is no longer declared, is that of the one that applied last.
			if other := next.Environments[next.owners[object]]; other == nil || other.Deployment.AppliedAt.Before(e.Deployment.AppliedAt) {
				next.owners[object] = name
			}
		}
	}
	*s = *next
	return nil
}

func foldBackups(s *State, r evidence.Record) error {
	return s.environment(r.Environment).Backups.Fold(r)
}

// foldForcePush notes for all that follows the branch that it lost something.
func foldForcePush(s *State, r evidence.Record, p evidence.ForcePush) {
	lost := func(approved *evidence.Revision, o *landed.Offers) {
		if approved == nil || approved.Source != p.Source {
			return
		}
		if at, err := sources.ParseRevision(approved.Revision); err == nil && at.Branch == p.Branch {
			o.Rewritten = r.Time
		}
	}
	lost(s.Governance.Approved, &s.Governance.Offers)
	for _, e := range s.Environments {
		if e.Approved != nil {
			lost(&e.Approved.Revision, &e.Offers)
		}
	}
}

func foldChange(s *State, r evidence.Record, p evidence.Change) {
	if r.Environment == "" {
		g := &s.Governance
		g.Proposed, g.ProposedAt, g.Verdict, g.Offers = &p.Revision, r.Time, nil, g.Offers.With(p.To, p.Landed, r.Time)
		g.Refused, g.RefusedAt = nil, time.Time{}
		return
	}
	e := s.environment(r.Environment)
	e.Proposed = &Pointer{Release: p.To, Revision: p.Revision, Origin: p.Origin, Images: p.Images, At: r.Time, FirstAt: r.Time}
	e.Verdict, e.Refused = nil, nil
	e.Offers = e.Offers.With(p.To, p.Landed, r.Time)
}

func foldDecision(s *State, r evidence.Record, p evidence.Decision) {
	if r.Environment == "" {
		s.Governance.judge(p.Verdict, r.Time)
		if p.Verdict.Answer == policy.Allow {
			offers := s.Governance.Offers.Approved()
			s.Governance = Governance{Approved: &p.Revision, Since: r.Time}
			s.Governance.Offers = offers
		}
		return
	}
	e := s.environment(r.Environment)
	if !e.Proposed.is(p.To) {
		return // about a release that is no longer proposed
	}
	e.judge(p.Verdict, r.Time)
	if p.Verdict.Answer == policy.Allow {
		if d := &e.Deployment; d.Number > 0 && d.Phase != PhaseLive && d.Release != p.To {
			d.Phase = PhaseSuperseded
		}
		approved := *e.Proposed
		approved.Revision, approved.At, approved.Class, approved.Origin = p.Revision, r.Time, p.Class, p.Origin
		approved.Deletes = p.Verdict.OverrideOf(policy.GatePrune) != ""
		approved.Override = p.Verdict.OverrideOf(policy.GateCalendar)
		if !e.underWay() {
			e.Used = Used{}
		}
		e.Used = e.Used.and(e)
		e.Approved, e.Offers, e.Approvals, e.Caught = &approved, e.Offers.Approved(), nil, nil
		if p.Origin == policy.OriginRollback && !e.Live.is(p.To) && e.Live != nil {
			left := *e.Live
			left.Left = true
			e.Live = &left
		}
		if p.Origin != policy.OriginRollback && e.Live.is(p.To) && e.Live.Left {
			live := *e.Live
			live.Left = false // it came back past every gate, before the rollback took it away
			e.Live = &live
		}
		for _, left := range p.Vetoes {
			e.veto(left, policy.Veto{Reason: "a rollback to " + p.To + " left it", By: "the agent", At: r.Time})
		}
		e.spend(p.Verdict, p.To, p.Class, r.Time)
	}
}

// judge takes one more verdict.
func (c *Candidacy) judge(v policy.Verdict, at time.Time) {
	if c.Verdict == nil || c.Verdict.Answer != v.Answer {
		c.JudgedAt = at
	}
	c.Verdict = &v
}

func foldRefused(s *State, r evidence.Record, p evidence.Refused) {
	if p.Stage == evidence.StagePlan {
		e := s.environment(r.Environment)
		e.Blocked, e.BlockedAt = &p, r.Time
		return
	}
	c := s.candidacy(r.Environment)
	c.Refused, c.RefusedAt = &p, r.Time
}

func foldSuperseded(s *State, r evidence.Record, p evidence.Superseded) {
	if g := &s.Governance; r.Environment == "" {
		g.Proposed, g.ProposedAt, g.Verdict, g.JudgedAt = nil, time.Time{}, nil, time.Time{}
		g.Refused, g.RefusedAt = nil, time.Time{}
		return
	}
	e := s.environment(r.Environment)
	if e.Deployment.Release == p.Release && e.Deployment.Phase != PhaseLive {
		e.Deployment.Phase = PhaseSuperseded
	}
}

func foldPlan(s *State, r evidence.Record, p evidence.Plan) {
	e := s.environment(r.Environment)
	if s.ClusterUIDs[p.Cluster] == "" {
		s.ClusterUIDs[p.Cluster] = p.ClusterUID
	}
	e.Place = Place{Cluster: p.Cluster, Namespace: p.Namespace, Tenant: p.Tenant}
	d := &e.Deployment
	if p.Purpose == evidence.PurposeRelease {
		e.Blocked, e.SureEpoch = nil, r.Epoch
		next := Deployment{Number: r.Deployment, Release: p.Release, Phase: PhasePlanned}
		if d.Release == p.Release {
			next.FailedAt = d.FailedAt
		}
		*d = next
		e.soakEnds(r.Time) // what is live is about to be replaced
	} else {
		d.Repairs++
	}
	d.Intent = &Intent{Record: r.Index, Release: p.Release, Purpose: p.Purpose}
	// What is about to be created, taken over or found as desired is owned from now on: a crash before the
	// outcome must not orphan it. Only the outcome says that it was applied: until then it may be somebody else's.
	var set apply.ChangeSet
	for _, item := range p.Items {
		switch item.Action {
		case apply.Created, apply.Configured:
			set = append(set, apply.Change{Ref: item.Ref, Action: item.Action, Digest: item.Digest, Error: "no outcome yet"})
		case apply.Unchanged:
			set = append(set, apply.Change{Ref: item.Ref, Action: item.Action, Digest: item.Digest})
		}
	}
	s.merge(r.Environment, set)
}

func foldApply(s *State, r evidence.Record, p evidence.Apply) {
	e := s.environment(r.Environment)
	d := &e.Deployment
	if d.Intent == nil || d.Intent.Record != p.Plan {
		return
	}
	d.Intent, d.Error = nil, p.Error
	set := changeSetOf(p.Items)
	s.merge(r.Environment, set)
	if p.Purpose != evidence.PurposeRelease {
		foldRepaired(e, set, r.Time)
		return
	}
	switch p.Outcome {
	case evidence.OutcomeApplied:
		d.Phase, d.AppliedAt, d.FailedAt = PhaseApplied, r.Time, time.Time{}
		e.Drift, e.DriftSince = nil, time.Time{} // another release runs: it starts anew
	case evidence.OutcomeAbandoned:
		d.Phase = PhaseAbandoned
	default:
		d.Phase = PhaseFailed
		if d.FailedAt.IsZero() {
			d.FailedAt = r.Time
		}
	}
}

// changeSetOf reads back what an apply record says was done.
func changeSetOf(items []evidence.Item) apply.ChangeSet {
	set := make(apply.ChangeSet, 0, len(items))
	for _, item := range items {
		set = append(set, apply.Change{Ref: item.Ref, Action: item.Action, Digest: item.Digest, Error: item.Error, Released: item.Released})
	}
	return set
}

func foldHealth(s *State, r evidence.Record, p evidence.Health) {
	e := s.environment(r.Environment)
	if e.Health == nil || e.Health.Release != p.Release || e.Health.To != p.To {
		e.HealthAt = r.Time // else it only tells of more images that ran
	}
	e.Health = &p
	e.soakHealth(p, r.Time)
}

func foldLive(s *State, r evidence.Record, p evidence.Live) {
	e := s.environment(r.Environment)
	live := Pointer{Release: p.Release, Revision: p.Revision, At: r.Time, FirstAt: r.Time}
	if e.Approved.is(p.Release) {
		live.Origin, live.FirstAt, live.Images = e.Approved.Origin, e.Approved.FirstAt, e.Approved.Images
	}
	if e.Live != nil && e.Live.Release != p.Release {
		e.Previous = e.Live
	}
	e.Live = &live
	e.Used = Used{}
	e.Deployment.Phase = PhaseLive
	e.soakLive(p, r.Time)
}

// merge brings a change set into the inventory of an environment, and into the index of owners.
func (s *State) merge(name string, set apply.ChangeSet) {
	e := s.environment(name)
	e.Inventory = e.Inventory.Merge(set)
	has := make(map[string]bool, len(e.Inventory))
	for _, item := range e.Inventory {
		has[item.Ref.Key()] = true
	}
	for _, c := range set {
		object := claim{e.Place.Cluster, c.Ref.Key()}
		if has[object.key] {
			s.inherit(object, name)
			s.owners[object] = name
		} else if s.owners[object] == name {
			delete(s.owners, object)
		}
	}
}

// inherit takes an object that an environment owns from now on out of the inventory of the one that owned it before.
func (s *State) inherit(object claim, name string) {
	before := s.Environments[s.owners[object]]
	if s.owners[object] == name || before == nil {
		return
	}
	before.Inventory = slices.DeleteFunc(slices.Clone(before.Inventory), func(i apply.Item) bool { return i.Ref.Key() == object.key })
}

// owner is the environment that owns an object of a cluster, "" when none does.
func (s *State) owner(cluster, key string) string { return s.owners[claim{cluster, key}] }
