// Package rules checks the rules for Prometheus in examples/monitoring with Prometheus' own parser. There is nothing in it
// but a test.
package rules
