// Package declaration reads what an estate declares: the governance kinds
// (Estate, Cluster, Tenant, Environment, Person, ReleaseClass, Calendar, Policy)
// under the governance folder of a tree, the Release that lies beside a
// kustomization, and the agent's own AgentConfig.
//
// # Format
//
// A file is YAML and holds one or more documents separated by "---". A document
// has apiVersion (always [APIVersion]), kind, metadata (governance kinds only)
// and spec. Fields are those of the Go types, named by their json tags. The
// jsonschema tag of a field holds its rules (required, enum, minimum, maximum,
// default, minItems, uniqueItems, format); the strict decoder and [Schemas] both
// read it, so they cannot disagree. Durations are written as "90s", "10m",
// "1h30m"; times as RFC 3339.
//
// # Invariants
//
//   - Reading is pure: no clock, no network, no defaults from the machine.
//   - Everything that is wrong is reported at once, sorted by place, each with
//     file:line:column, what is wrong, why, and a remedy ([Errors]).
//   - Nothing is ignored in silence: an unknown field, a duplicate key, a null, an
//     empty document, an alias or a merge key is an error. Aliases are refused
//     rather than expanded, so a file costs what its size says.
//   - What could never let a release through is an error too: demands that there
//     are too few people for, calendars that never open, expressions of a wrong type.
//   - Keys, calendars and expressions are made ready once, here, and kept in the
//     [Set]: whoever asks them later meets no error of their text.
//   - A [Set] is given only when there is no error at all, with all defaults
//     applied: built-in ones, then the Estate's, then what a declaration says.
//   - A tree that cannot be read is an error that is not [Errors], and never an
//     empty set.
//   - No value of an AgentConfig that could be a secret enters an error.
package declaration

//go:generate go run ./schemagen -out ../../docs/schemas
