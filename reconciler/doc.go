// Package reconciler turns Git revisions into releases that run, and writes down what it did.
//
// The pipeline, per environment, is a chain of typed values:
//
//	Revision → Tree → Declarations → Release → Diff → Verdict → Plan → ChangeSet → Inventory → health.Report → evidence.Record
//
// and one file here is one stage of it:
//
//	source.go      poll the repositories; a moved branch wakes the environments that follow it
//	governance.go  the approved governance commit says which environments there are
//	propose.go     render the environment's path; a new digest is a proposed release
//	decide.go      ask the gates; an allow moves the approved pointer
//	deploy.go      may the approved release go on now, or does it wait
//	freeze.go      what a freeze does to a release that is approved and not live
//	attempt.go     one try to make an environment equal to a release: survey, intend, execute
//	survey.go      read the release, ask the cluster, plan
//	intent.go      record what is about to be done, and have it seen
//	execute.go     apply, and record the outcome
//	drift.go       what to compare with an unchanged release, and what of it is news
//	repair.go      record drift, and attempt to restore what may be restored now
//	observe.go     look at the health of what runs; healthy and fully applied moves the live pointer
//
// What the stages rest on:
//
//	agent.go       the agent: its parts, its loops, its end
//	reconcile.go   one reconciliation, stage after stage; queue.go, turns.go and outcome.go say who is next, and when again
//	state.go       what the records say happened; journal.go writes one and folds it
//	releases.go    the bytes of a release: in memory, in the keep refs, or rendered again
//	place.go       where an environment is, and that it is still there; owner.go, behind.go: whose objects are in the way
//	law.go         the governance in force, by which everything is judged
//	facts.go       what the gates are told, with attestations.go, soaks.go, approvals.go, protection.go
//	statements.go  what people say besides pull requests
//
// Beside the pipeline, answers.go, preview.go and progress.go tell forges what the gates say of open pull requests and what
// became of those that landed; status.go, explain.go, http.go, metrics.go and alerts.go tell people how things are.
//
// Beside it, too, backups.go does what is due with backups (backups_do.go), what people and releases order (backups_order.go),
// and tells the gates (backups_facts.go); control.go takes those orders, and backups_show.go, metrics_backup.go and alerts_backup.go
// tell people what is known of backups.
//
// Its sub-packages know nothing of each other but the gates, package policy, whose verdicts they record, raise or word:
// landed tells what landed and by whom, apply speaks to clusters, evidence keeps the records, answer writes to forges,
// alert tells Alertmanager, and upkeep, which knows evidence as well, what is due with backups.
//
// [Agent.reconcile] is the pipeline's table of contents. It is level-triggered: called again at any time, with any
// state, it does what is still to be done. Its outcome says when it runs again.
//
// Invariants:
//
//   - State is the fold of the records ([State.Fold]); journal.record is the only way to change it.
//   - An intent is durable before the first mutation, and a release's intent is seen in the audit remote
//     before it. Every intent gets exactly one outcome; at start, one without is recorded as interrupted.
//   - A read failure is never an empty desired state: whatever fails, the last good state stays desired, and
//     repair goes on.
//   - Nothing is deleted that is not in the inventory, and the inventory forgets nothing that still exists.
//   - One environment is reconciled by at most one worker at a time; a cluster that hangs holds only its own
//     workers; every operation ends by a deadline.
package reconciler
