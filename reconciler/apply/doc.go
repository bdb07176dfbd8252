// Package apply brings the objects of one release to one cluster and takes away what the release no longer has.
//
// # Nouns
//
// A Cluster is one API server and what all its users share: connection, discovery, kinds. A Client acts on it as one
// tenant (user "purser:tenant:<name>", impersonated). A Plan is what Apply would do, found by a server-side dry run of
// every object against its live state. An Inventory lists the objects an environment owns. A ChangeSet says, object by
// object, what was done. A Watcher sees what others do to the objects of environments.
//
// # Invariants
//
//   - Plan changes nothing. Live state that cannot be read is an error and never "absent".
//   - Apply does what the plan says. Each write names the version that the plan saw, or that there was none; when that no
//     longer holds the object is read again, and one that changed hands since the plan is not touched.
//   - What we own is what the inventory says, not what an object says of itself: whoever drops or alters our marks, or puts
//     another object in the place of ours, drifts. The marks help to find objects again, and keep us from the objects of
//     other agents, which no inventory of ours holds.
//   - Every object we apply bears the label purser.dev/environment and has the field manager "purser". Both are required,
//     together with a place in the inventory, before anything is deleted.
//   - Nothing is ever deleted in order to be created again, and data is never deleted.
//   - Apply returns the outcome of every object, also when it fails or is cancelled halfway.
//   - An object leaves the inventory only when it is seen to be gone, or is no longer ours.
//   - Values of Secrets appear in no diff, error or log line.
//   - A watch only ever says what to look at. What is done about it is decided by a Plan, which reads the live state.
//
// # Field managers
//
// Objects are applied without force first. Fields held by people's command line tools (kubectl and its subcommands) are
// taken over, and their ownership moves to us, so that a field that is not in Git disappears. A field held by anybody
// else is a conflict that names the manager, unless the inventory says that the object was last applied by us at this very
// digest: then somebody took our field, by whatever means, and that is drift to repair. The number of replicas belongs to an autoscaler where there is one: while we still own the field we
// repeat its live value, so that it never falls back to the default, and once the autoscaler has written it we say
// nothing about it any more.
//
// # Drift
//
// A Watcher watches the metadata of everything that bears our label and keeps digests of it. An object is suspect when the
// newest state seen is newer than the one that Plan or Apply last examined, and differs from it in what a foreign write of
// our fields alters: our entries in managedFields (the API server takes a field out of them when somebody else changes it),
// the entries of people's tools, our label and digest, the UID, the beginning of a deletion. Status, the replicas of an
// autoscaler, a rollout restart and what controllers annotate alter none of these. While an object differs from what is
// desired, or holds a field of ours that somebody wrote and wrote back, every write but of status counts.
//
// The order of events is that of resource versions, so no timing decides anything: an object that is missing from a watch
// which is complete up to a version newer than the examined one is gone, and an event that is not newer is old news. What
// Apply is writing is judged once its answer is known.
//
// Lost watches go on where they were; where they cannot, everything is loaded again, a few watches at a time, and compared
// with what was examined. Refusals are tried again with growing pauses, up to a quarter of an hour.
//
// # What is used of fluxcd/pkg/ssa
//
// Used: the order of kinds and the migration of managedFields. Not used, and why:
//
//   - ResourceManager.Apply, ApplyAll and ApplyAllStaged: with Force they delete the live object on any Invalid or
//     Conflict answer and only then find out whether the new one is acceptable; they apply one object after the other;
//     when one fails they return no change set for its stage, so that what was just created is forgotten; they take
//     every field over from everybody.
//   - ResourceManager.Diff: it ignores a failed read of the live object and so takes it for absent.
//   - WaitForSet: it polls with a background context and outlives a cancelled caller.
//   - errors.IsImmutableError: it is true for every Invalid and every Conflict answer.
//   - normalize: its way through the Go types silently drops misspelt fields; here the API server refuses them.
package apply
