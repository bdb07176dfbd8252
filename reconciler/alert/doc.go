// Package alert says what of an estate needs a person's attention, and tells it to Alertmanager.
//
// # Nouns
//
// A rule is one kind of trouble; docs/alerts.md has a section for each. [Estate] is what is known, in the words of this
// package; [Estate.Firing] gives the [Alert]s that fire at a time, and is pure. [Labels] identify an alert: their values
// come from the declarations and from fixed words, so their number is bounded by the estate. What is said for people,
// with reasons and remedies, is in the annotations.
//
// A [Sender] tells the configured Alertmanagers, each on its own, so that all members of a cluster of them hear everything
// and one that hangs delays no other. What it has to say is a set, not a queue: an alert that changes before it is sent is
// sent once.
//
// # Protocol
//
// POST /api/v2/alerts with a list of alerts, as in Alertmanager's own api/v2/openapi.yaml. A firing alert is repeated
// every [resendEvery] and ends by itself [validFor] later, so an agent that died leaves nothing behind, whatever
// resolve_timeout says. A resolved one is sent once with its end. The client of Alertmanager's own module is generated and
// brings go-openapi with ten modules for this one request; here it is net/http.
package alert
