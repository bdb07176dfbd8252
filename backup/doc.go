// Package backup knows what a backup is: a set of write-once objects and the manifest that was written after them.
//
// # Keys
//
// All objects of an environment lie below its name:
//
//	ENV/backups/ID/{database,roles,configuration,attachments}  sealed streams (package seal)
//	ENV/backups/ID/manifest.json                               the [Manifest], plain JSON
//	ENV/filestore/GENERATION/NAME                              sealed packs of attachments (package filestore)
//
// An [ID] is 20261122T101500Z-ENV-RANDOM8: it sorts by the time at which the backup began. A generation is the month in
// which its packs were begun, such as 2026-11.
//
// # What makes a backup
//
// The manifest is written last and under a key that nobody has used. Without a manifest there is no backup; the objects of a
// backup that was broken off are a [Half], which is never listed as a backup.
//
// The manifest names each object by key and version, with its size, its SHA-256 sealed and plain, and its lock. It also says
// which environment and which backup it is of, and all its keys lie where these say: a manifest that was copied to another
// place is refused. Whoever can write to the store can write a manifest, so one proves nothing by itself: the evidence log
// has its version and SHA-256, and [Open] takes it by these.
//
// # One backup
//
// [Take] reads database and filestore at one moment: attachments are guarded against their collection and a snapshot of the
// database is taken; dump, roles, facts, fingerprints and the list of attachments come from it, each stream hashed, compressed,
// encrypted and stored as it comes; then the snapshot ends, and the contents that no pack has yet are copied. Packs of the
// backup before are used again within a month, if they are in the store as they were written, for the same recipients and as
// strictly locked; their locks are extended before the manifest is written. What a backup that was broken off had stored by
// then is in a journal in the scratch folder, and the next one uses it.
//
// # Replicas
//
// [Replicate] copies the sealed objects of a backup into another store, under the same keys, and opens none of them. Each is read
// by its recorded version and compared with its SHA-256 while it is written; what is there already and is the same is used. The
// manifest of the replica names that store and the versions there, and is written last: a replica is proven, restored and
// kept like the backup, by what the evidence log has of it.
//
// # Retention
//
// [Keep.Decide] says for each backup whether it is kept, why, how long its objects are to be locked, and what can be
// deleted. It deletes nothing: [Expire] carries that out, with the credentials of another identity.
package backup
