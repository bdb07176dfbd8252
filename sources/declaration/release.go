package declaration

// Release is release.yaml beside a kustomization: what people say about it.
type Release struct {
	Position `json:"-"`
	classAt  Position // of the value of Class

	// Version of the release, as people call it.
	Version string `json:"version" jsonschema:"required"`
	// Why this release exists.
	Change Change `json:"change"`
	// What its migration does to the schema of the database. Where the class asks for backups, anything but none also asks that the store takes one now.
	Migration string `json:"migration,omitempty" jsonschema:"enum=none,enum=additive,enum=breaking,default=none"`
	// Release class. It may raise the class of the environment and never lowers it: the one of highest rank holds.
	Class string `json:"class,omitempty" jsonschema:"format=name"`
	// Odoo modules that this release changes, by their technical names.
	Modules []string `json:"modules,omitempty" jsonschema:"minItems=1,uniqueItems=true,format=module"`
	// Files with signed in-toto statements (DSSE), relative to this one.
	Attestations []string `json:"attestations,omitempty" jsonschema:"minItems=1,uniqueItems=true,format=beside"`
}

// Change is why a [Release] exists.
type Change struct {
	// Ticket that asked for it.
	Ticket string `json:"ticket,omitempty"`
	// Reason in a sentence.
	Reason string `json:"reason,omitempty"`
	// Who notices, and what.
	Impact string `json:"impact,omitempty"`
	// How to go back.
	Rollback string `json:"rollback,omitempty"`
}
