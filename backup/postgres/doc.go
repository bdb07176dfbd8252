// Package postgres reads one consistent point of an Odoo database, and restores it into a scratch server.
//
// # One point
//
// [Begin] takes two things. The guard is a lock on the row of Odoo's job base.autovacuum_job, so that Odoo does not collect
// attachments while they are copied: Odoo skips a job whose row it cannot lock. The snapshot is a read-only transaction
// that is exported, so that pg_dump, the fingerprints and the list of attachments are of the same moment. The guard comes
// first and goes last:
//
//	s, err := postgres.Begin(ctx, connection, tools, options)
//	defer s.Close()
//	s.Dump(ctx, w)           // beside it:
//	s.Facts(ctx)
//	s.Fingerprints(ctx)
//	s.Attachments(ctx)
//	s.End(ctx)               // rows that nobody needs any more may be vacuumed again
//	…copy the filestore…
//	s.Release(ctx)           // nil: the guard has been there all the time
//
// Odoo writes an attachment's file before the row, so that a copy of the filestore that begins after the snapshot and ends
// before the guard is released has every file of the snapshot.
//
// # Fingerprints
//
// A fingerprint says what the rows of a table are. Small tables are hashed whole. Of the others with an integer key the
// highest and lowest keys are noted and the rows in some ranges of keys are hashed, which costs little however large the
// table is; where the ranges lie differs from backup to backup. [Reader.Compare] says how another database differs.
// That the stream of the dump is whole is a matter of its own hash.
//
// # Scratch servers
//
// [Scratch] starts a server for a restore: without any network but a Unix socket, as a user without rights, in namespaces of
// its own, so that none of its processes outlives it. [Server.Restore] reads a dump from a stream.
package postgres
