// Package evidence keeps a writer's signed records in a transparency log on a
// Git branch.
package evidence
