package expression

import (
	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
)

// Vars are the values of the variables. Only those that the kind of expression has are read. Maps and lists hold what
// decoded JSON holds (map[string]any, []any, string, int64, float64, bool, nil) and are not changed.
type Vars struct {
	Object      map[string]any   // the object that is judged
	OldObject   map[string]any   // the same object in the approved release; nil when it has none
	Objects     []map[string]any // all objects of the release
	Changes     []ObjectChange   // what differs from the approved release
	Paths       []string         // files that the landed changes touch
	Modules     []string         // modules that the release changes
	Environment Environment
	Tenant      Tenant
	Release     Release
}

// Environment is the variable environment.
type Environment struct{ Name, Purpose, Tenant, Cluster, Namespace, Class string }

// Tenant is the variable tenant.
type Tenant struct {
	Name       string
	Namespaces []string // names, or prefixes that end in *
}

// Release is the variable release: what release.yaml says, and the images of the release.
type Release struct {
	Version, Migration string
	Modules            []string
	Change             Change
	Images             map[string]string // reference by role/container or role/volume:name
}

// Change is the field change of a [Release].
type Change struct{ Ticket, Reason, Impact, Rollback string }

// ObjectChange is an element of the variable changes.
type ObjectChange struct {
	Action                       string // created, configured or deleted
	Group, Kind, Namespace, Name string
	Fields                       []FieldChange
}

// FieldChange is an element of the fields of an [ObjectChange]. Old and New are what decoded JSON holds.
type FieldChange struct {
	Path     string
	Old, New any
}

// variable is what an expression may call by name.
type variable struct {
	kind  *cel.Type
	value func(*Vars) any
}

var (
	object   = cel.MapType(cel.StringType, cel.DynType)
	textList = cel.ListType(cel.StringType)
)

// variables are all there are. Each kind of expression has some of them.
var variables = map[string]variable{
	"object": {object, func(v *Vars) any { return v.Object }},
	"oldObject": {cel.DynType, func(v *Vars) any {
		if v.OldObject == nil {
			return types.NullValue
		}
		return v.OldObject
	}},
	"objects":     {cel.ListType(object), func(v *Vars) any { return v.Objects }},
	"changes":     {cel.ListType(cel.ObjectType("ObjectChange")), func(v *Vars) any { return v.Changes }},
	"paths":       {textList, func(v *Vars) any { return v.Paths }},
	"modules":     {textList, func(v *Vars) any { return v.Modules }},
	"environment": {cel.ObjectType("Environment"), func(v *Vars) any { return &v.Environment }},
	"tenant":      {cel.ObjectType("Tenant"), func(v *Vars) any { return &v.Tenant }},
	"release":     {cel.ObjectType("Release"), func(v *Vars) any { return &v.Release }},
}

// activation gives CEL the values by name.
type activation struct{ vars *Vars }

func (a activation) ResolveName(name string) (any, bool) {
	v, ok := variables[name]
	if !ok {
		return nil, false
	}
	return v.value(a.vars), true
}

func (activation) Parent() cel.Activation { return nil }
