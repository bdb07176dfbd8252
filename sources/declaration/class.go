package declaration

import (
	"slices"
	"time"
)

// DefaultClass is the class of an Environment that names none. Where it is not declared it has rank 0 and demands
// nothing.
const DefaultClass = "low"

// Whether commits must be signed.
const (
	SignaturesRequired = "required"
	SignaturesOptional = "optional"
)

// How the authors of a change are known.
const (
	AuthorshipSigned = "signed" // by signature; an unsigned commit's author is unknown
	AuthorshipForge  = "forge"  // as the forge reports them
)

// How people approve.
const (
	ByAny       = "any"       // by statement, or by a review on a forge
	ByStatement = "statement" // by statement only
)

// What an attestation is about.
const (
	AboutImages = "images" // the release's images, by digest
	AboutCommit = "commit" // the commit that is judged
)

// Whether what is live must be healthy.
const (
	LiveHealthRequired = "required"
	LiveHealthAny      = "any"
)

// ReleaseClass says what a release has to pass. The class of highest rank holds: the environment's, the release's, or
// one that the Estate's classification gives.
type ReleaseClass struct {
	Meta     Meta
	Spec     ReleaseClassSpec
	Position Position // zero for the built-in class low
}

// ReleaseClassSpec is the content of a [ReleaseClass].
type ReleaseClassSpec struct {
	// Place among the classes, unique: the highest one holds. The built-in class low has rank 0.
	Rank int `json:"rank" jsonschema:"required,minimum=0"`
	// Whether every commit of a change must be signed by a known, valid key.
	Signatures string `json:"signatures,omitempty" jsonschema:"enum=required,enum=optional,default=optional"`
	// Who has to approve. A person counts for one rule, and never for what they wrote.
	Approvals []Approval `json:"approvals,omitempty" jsonschema:"minItems=1"`
	// How authors are known. signed: by signature; the author of an unsigned commit is unknown, which denies. forge: the author, the pushers and the commit logins that the forge reports of the pull request.
	Authorship string `json:"authorship,omitempty" jsonschema:"enum=signed,enum=forge,default=signed"`
	// Whether the approval of a bot counts.
	Bots bool `json:"bots" jsonschema:"default=false"`
	// What release.yaml must say under change.
	Change ChangeDemand `json:"change"`
	// Where the release must have run before.
	Promotion PromotionDemand `json:"promotion"`
	// How the environment's calendar holds for this class.
	Calendar CalendarDemand `json:"calendar"`
	// What must be true of the images.
	Images ImageDemand `json:"images"`
	// Attestations that must lie beside the release.
	Tests []TestDemand `json:"tests,omitempty" jsonschema:"minItems=1"`
	// How recent backups and restore drills must be.
	Backup BackupDemand `json:"backup"`
	// Whether what is live now must be healthy. any is for classes that repair what is not.
	LiveHealth string `json:"liveHealth,omitempty" jsonschema:"enum=required,enum=any,default=any"`
	// What an override can do, and who looks at it afterwards.
	Override OverrideDemand `json:"override"`
}

// openable are the gates that an override can open where the class does not say: those that ask when a release may go, and
// what has to be ready. Those that ask who decides, and what may run at all (signatures, approvals, images, policy), have to
// be named: the people who would have to agree are asked by them.
var openable = []string{"change", "promotion", "calendar", "tests", "backup", "prune", "health", "pause"}

// Openable are the gates that an override can open for releases of the class.
func (c *ReleaseClass) Openable() []string {
	if c.Spec.Override.Gates == nil {
		return openable
	}
	return c.Spec.Override.Gates
}

// LetsOverride reports whether an override can open a gate for releases of the class.
func (c *ReleaseClass) LetsOverride(gate string) bool { return slices.Contains(c.Openable(), gate) }

// OrderRoles may give orders about an environment: override gates, pause, resume, abort, lift a veto.
var OrderRoles = []string{"release-manager", "governance-owner"}

// Reviewers are the roles of which whoever reviews an override holds one: those that the class names, or those of its
// approvals or, where nobody has to approve, those that may override.
func (c *ReleaseClass) Reviewers() []string {
	if len(c.Spec.Override.Review) > 0 {
		return c.Spec.Override.Review
	}
	var roles []string
	for _, a := range c.Spec.Approvals {
		roles = append(roles, a.Roles...)
	}
	if len(roles) == 0 {
		return OrderRoles
	}
	slices.Sort(roles)
	return slices.Compact(roles)
}

// Approval asks for the consent of some people.
type Approval struct {
	// How many different people.
	Count int `json:"count" jsonschema:"required,minimum=1,maximum=20"`
	// Roles of which each of them holds one.
	Roles []string `json:"roles" jsonschema:"required,minItems=1,uniqueItems=true,format=name"`
	// How they say it. statement: signed with a key of theirs (purser approve). any: so, or by a review, for which the forge's word is taken.
	By string `json:"by,omitempty" jsonschema:"enum=any,enum=statement,default=any"`
}

// Signed reports whether only what a person signed meets the demand: whoever runs a forge can make it say anything.
func (a Approval) Signed() bool { return a.By == ByStatement }

// OneMore adds one person of any of the roles: what approvals are asked for where it is not known who made a release.
func OneMore(approvals []Approval) []Approval {
	more := slices.Clone(approvals)
	if len(more) == 1 {
		more[0].Count++
		return more
	}
	var roles []string
	for _, a := range approvals {
		roles = append(roles, a.Roles...)
	}
	slices.Sort(roles)
	return append(more, Approval{Count: 1, Roles: slices.Compact(roles)})
}

// ChangeDemand says what a [Change] must tell.
type ChangeDemand struct {
	// Regular expression (RE2) that the ticket must match. Without it a release needs no ticket.
	Ticket string `json:"ticket,omitempty" jsonschema:"format=regexp"`
	// Whether a reason is needed.
	Reason bool `json:"reason" jsonschema:"default=false"`
	// Whether the impact must be told.
	Impact bool `json:"impact" jsonschema:"default=false"`
	// Whether the way back must be told.
	Rollback bool `json:"rollback" jsonschema:"default=false"`
}

// PromotionDemand says whether the same images must have run elsewhere first.
type PromotionDemand struct {
	// Whether the same images must have been live and healthy in the environment that promotion.from of the Environment names.
	Required bool `json:"required" jsonschema:"default=false"`
	// How long, at least. The Environment may ask for longer.
	Soak time.Duration `json:"soak,omitempty" jsonschema:"minimum=0s"`
}

// CalendarDemand says how calendars hold for a class.
type CalendarDemand struct {
	// Whether freezes and windows do not hold for this class.
	Exempt bool `json:"exempt" jsonschema:"default=false"`
	// How long the open window must last from now, at least.
	MinimumRemaining time.Duration `json:"minimumRemaining,omitempty" jsonschema:"minimum=1s"`
}

// ImageDemand says what must be true of a release's images.
type ImageDemand struct {
	// Whether every image must be named by its digest.
	Digests bool `json:"digests" jsonschema:"default=false"`
	// Whether a release without any image passes.
	AllowNone bool `json:"allowNone" jsonschema:"default=false"`
}

// TestDemand asks for one attestation: an in-toto statement, signed (DSSE).
type TestDemand struct {
	// Type of the statement's predicate.
	PredicateType string `json:"predicateType" jsonschema:"required,format=uri"`
	// What its subjects must be: every image of the release, or the commit.
	About string `json:"about,omitempty" jsonschema:"enum=images,enum=commit,default=images"`
	// Roles of which the signer holds one.
	Roles []string `json:"roles" jsonschema:"required,minItems=1,uniqueItems=true,format=name"`
	// Whether a bot may be the signer.
	Bots bool `json:"bots" jsonschema:"default=false"`
}

// BackupDemand says how recent an environment's backup and restore drill must be. A class that asks for either asks for a verified
// backup that is no older than the RPO of the environment's [BackupPolicy]; one that asks for neither judges no backups.
type BackupDemand struct {
	// Greatest age of the newest verified backup, as far as the RPO of the environment's BackupPolicy is not less, which holds also without it.
	MaxAge time.Duration `json:"maxAge,omitempty" jsonschema:"minimum=1s"`
	// Greatest age of the last restore drill, which must have passed within the RTO of the BackupPolicy. Without it drills are not judged.
	DrillMaxAge time.Duration `json:"drillMaxAge,omitempty" jsonschema:"minimum=1s"`
}

// OverrideDemand says what an override can do to the releases of a class.
type OverrideDemand struct {
	// Gates that an override can open. Without it: change, promotion, calendar, tests, backup, prune, health, pause; the others only where they are named. An empty list: none.
	Gates []string `json:"gates,omitzero" jsonschema:"uniqueItems=true,enum=signatures,enum=approvals,enum=change,enum=promotion,enum=calendar,enum=images,enum=tests,enum=backup,enum=policy,enum=prune,enum=health,enum=pause"`
	// Roles of which whoever reviews an override afterwards holds one. Without it: the roles of approvals or, where there are none, those that may order an override.
	Review []string `json:"review,omitempty" jsonschema:"minItems=1,uniqueItems=true,format=name"`
}
