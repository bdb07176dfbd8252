package declaration

import "github.com/purser-gitops/purser/sources/expression"

// Estate says what holds for everything in the estate. There is at most one.
type Estate struct {
	Meta     Meta
	Spec     EstateSpec
	Position Position
}

// EstateSpec is the content of an [Estate].
type EstateSpec struct {
	// Roles that people can hold. Default: developer, release-manager, dba, governance-owner, store-operations.
	Roles []string `json:"roles,omitempty" jsonschema:"minItems=1,uniqueItems=true,format=name"`
	// Who may change the declarations.
	Governance Governance `json:"governance"`
	// What gives a release its class, beside its environment and itself. The class of highest rank holds.
	Classification []Classification `json:"classification,omitempty" jsonschema:"minItems=1"`
	// Values for every Environment that does not say otherwise.
	Defaults Defaults `json:"defaults"`
}

// defaultRoles are those of an estate that names none.
var defaultRoles = []string{"developer", "release-manager", "dba", "governance-owner", "store-operations"}

// Governance says what a change of the declarations has to pass. Without approvals nobody has to consent.
type Governance struct {
	// Who has to approve. A person counts for one rule, and never for what they wrote; a bot never counts.
	Approvals []Approval `json:"approvals,omitempty" jsonschema:"minItems=1"`
	// Whether every commit must be signed by a known, valid key.
	Signatures string `json:"signatures,omitempty" jsonschema:"enum=required,enum=optional,default=optional"`
	// How authors are known. signed: by signature; the author of an unsigned commit is unknown, which denies. forge: the author, the pushers and the commit logins that the forge reports of the pull request.
	Authorship string `json:"authorship,omitempty" jsonschema:"enum=signed,enum=forge,default=signed"`
}

// Classification gives releases a class by what they change.
type Classification struct {
	// Name of the rule, unique in the estate.
	Name string `json:"name" jsonschema:"required,format=name"`
	// CEL expression that is true of the releases that the rule is about. One that cannot be evaluated denies.
	Expression string `json:"expression" jsonschema:"required,format=cel"`
	// Class that they get.
	Class string `json:"class" jsonschema:"required,format=name"`

	Program *expression.Program `json:"-"` // Expression, ready to be asked
}

// Defaults are the parts of an [EnvironmentSpec] that an Estate can preset.
type Defaults struct {
	// Release class.
	Class string `json:"class,omitempty" jsonschema:"default=low,format=name"`
	// Calendar that says when releases may be approved. Without one: always.
	Calendar string `json:"calendar,omitempty" jsonschema:"format=name"`
	// BackupPolicy of every Environment. Without one: an Environment is backed up only if it names one.
	Backup string `json:"backup,omitempty" jsonschema:"format=name"`
	// How often and how long to reconcile.
	Reconcile Reconcile `json:"reconcile"`
	// What to do about drift: correct repairs it, report only tells.
	Drift string `json:"drift,omitempty" jsonschema:"enum=correct,enum=report,default=correct"`
	// How much a plan may delete without waiting for a person.
	Prune Prune `json:"prune"`
	// When an environment counts as healthy.
	Health Health `json:"health"`
}
