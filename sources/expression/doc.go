// Package expression compiles and evaluates the expressions of policies and of classification, in CEL
// (https://cel.dev). An expression is a pure function of its variables: it reads no clock, no file and no network, it
// always ends, and what it may cost is limited.
//
// # Kinds and their variables
//
//	object rule     object, oldObject, environment, tenant, release
//	release rule    objects, environment, tenant, release
//	classification  changes, paths, modules, release, environment
//
// object and the elements of objects are Kubernetes objects, whose fields are known only when they are evaluated;
// oldObject is one as well, or null. The others have fixed fields (see [Environment], [Tenant], [Release] and
// [ObjectChange]); a field that they do not have is an error of the expression. Every field is there: a text that
// nobody wrote is empty, and has() says whether it is not.
//
// # Language
//
// CEL's operators and macros (has, all, exists, exists_one, map, filter), optional fields (object.metadata.?labels,
// object.?spec[?"key"], orValue), the functions of the standard library but those about calendars, charAt, lowerAscii,
// upperAscii, split, substring and trim of its strings extension, and quantities of Kubernetes:
//
//	quantity("500m"), isQuantity("4Gi"), a.isLessThan(b), a.isGreaterThan(b), a.compareTo(b)
//
// The pattern of matches must be written out. The result must be true or false by its type; what is read from an object
// can be compared: object.spec.paused == true.
//
// # Failure
//
// An expression fails when a field or key is missing, when a value has another type than an operation needs, or when it
// costs more than [CostLimit]. Whoever asked must then deny: there is no answer. Errors never hold values, which may be
// secret.
package expression
