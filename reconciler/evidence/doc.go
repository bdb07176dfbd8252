// Package evidence keeps a writer's signed records in a transparency log on a
// Git branch, and verifies such logs.
//
// This comment is the format. Whoever knows Git, DSSE, in-toto, RFC 6962 and
// C2SP's signed notes can write a verifier from it.
//
// # Nouns
//
// A writer is one agent with one Ed25519 key. A record is a signed statement
// that something happened. A log is the records of one writer, in order. A
// branch holds the records of one year. An epoch is a stretch of records written
// from one evidence directory; a new one begins when that directory is lost. The
// spool holds records that the remote does not have yet.
//
// # Record
//
// A record is one file: one line of JSON and a newline, at most 64 MiB. It is a
// DSSE envelope (protocol v1) with payloadType "application/vnd.in-toto+json",
// standard base64 and exactly one signature; keyid is the key's OpenSSH
// fingerprint, "SHA256:…". The payload is an in-toto Statement v1 of
// predicateType
//
//	https://purser.dev/evidence/<type>/v1
//
// with the record's type, lower-case words joined by dashes. The predicate is
//
//	{"header": {…}, "body": …}
//
// where body depends on the type, and header is alike in all:
//
//	id           hex SHA-256 of the netstrings ("<length>:<bytes>,") of
//	             "purser-event-v1", type, environment, deployment in decimal, and
//	             every key: what happened has one ID, however often it is reported
//	key          list of strings that tells this happening from others
//	writer       name of the log's writer
//	branch       without refs/heads/
//	epoch        of the writer, from 1
//	gap          true in the first record of every epoch but the first: records
//	             before it may have been lost with a disk
//	seq          position in the branch, from 0; path and leaf index
//	time         RFC 3339 with nanoseconds, UTC: the writer's clock, which may
//	             move back; order is given by seq
//	environment  optional
//	deployment   optional: number of the attempt within the environment
//	blobs        optional: name, digest ("sha256:…"), size, ref, object (Git ID)
//	keep         optional: ref and commit, see below
//	previous     in the first record of a branch that continues another: branch,
//	             records (in all earlier branches together), checkpoint (final one
//	             of that branch, signed)
//
// A statement needs a subject; a record about nothing with a digest has the
// subject "event" with the record's ID. Unknown header fields are ignored.
//
// # Branch
//
// The default branch is audit/<year>; with several writers,
// audit/<writer>/<year>. The year is that of the first record's time and never
// goes back: once a record is in audit/2027, later ones are too. The first
// record of a further year is of type state: it carries what the writer folded
// from all records before, so older branches are needed for audits only. A
// record's index counts over all of the writer's branches: previous.records of
// the branch plus seq.
//
// The tree of every commit is exactly
//
//	checkpoint
//	records/00/00/00/00.json
//	records/00/00/00/01.json
//	…
//
// A record's path is its seq in eight decimal digits, cut into pairs: 100
// entries a directory, 100 million records a branch. Everything is a regular
// file (100644) or a directory. A commit has the commit before as its only
// parent, the first has none. It adds at least one record and replaces the
// checkpoint; nothing else changes. So a verifier computes the tree a commit
// must have from the records alone.
//
// Commits are signed with the writer's key as Git does with gpg.format=ssh
// (SSHSIG, namespace "git", SHA-512). Their trailers are Writer, Epoch, Branch
// and Log-Index: the seq, or first-last.
//
// # Checkpoint
//
// The file checkpoint is a C2SP tlog-checkpoint, a signed note with the text
//
//	purser.dev/log/<writer>/<branch>
//	<number of records>
//	<base64 of the root>
//
// Root is the Merkle tree hash of RFC 6962, section 2.1, over the exact bytes
// of the record files (as golang.org/x/mod/sumdb/tlog computes it). The note is
// signed by the writer's key under the origin as key name.
//
// # Beside the branch
//
// Blobs hold what is bulky or personal. Those of a month are on
// refs/purser/blobs/<yyyy-mm>, apart from the branch's history: deleting the ref
// erases them and leaves every proof intact. Each commit there holds only new
// blobs, as <sha256 in hex>, on top of whatever commit the ref had; all of the
// ref's history counts. A blob whose month's ref is gone is erased; one missing
// from a month that is there is a finding.
//
// Keep refs, refs/purser/keep/…, point to a parentless commit with the files of
// the newest record that names the ref.
//
// Commits on both are signed like those of the branch, and their trailers say
// which record they came with. They reach the remote before or together with
// that record: if one names a record that the branch does not have, the branch
// was cut back.
//
// # Writing
//
// [Log.Add] signs a record and writes it, with blobs and kept files, behind the
// others of the spool; [Log.Durable] waits until it is on disk. One flush serves
// all who wait, so many writers cost the disk little more than one. Nothing may
// rest on a record, and nothing is published, before it is durable.
//
// The spool is a row of segments: files of frames with length, checksum and
// index. How far it was flushed is noted beside them. At the next start a frame
// that is not whole is a write that never ended if it lies behind that note, and
// is dropped with what follows it; before the note the disk lost data, and the log
// does not open. Frames behind the note that are whole are written once more: what
// a flush that failed left in memory may never have reached the disk. For the same
// reason a flush is never tried again; after one that failed, the log refuses
// everything until it is opened anew. A segment is removed when all its records
// are published.
//
// [Log.Run] sends what is durable in one commit and one push that carries only new
// objects and moves all refs or none (blobs and keep refs first where the server
// cannot). Directories are sent as differences to those the server has, so what a
// push costs depends on the number of its records, not on the log's.
// Records that are written within 25 ms go together; under load there are four
// pushes a second, each with all that gathered. A closing log does not pause.
//
// Before a commit is sent it is written down, and it is sent unchanged until the
// remote shows it. The remote's tip is therefore the last acknowledged commit or
// the pending one; anything else means that the branch was rewound, replaced or
// written by another, and stops publishing until a person has looked. Nothing is
// ever forced or rebased. A record leaves the spool once the branch, listed
// again, shows the commit that holds its bytes. Over http a batch takes two
// requests: the push, which names the values that the refs must still have, and a
// listing of the branch and the blobs' months (ls-refs of protocol version 2; of
// everything where a server does not know it).
//
// The directory keeps, besides the spool, the published records in files of
// 10,000, the kept files, the right edge of both trees, and of every branch the
// newest acknowledged checkpoint, and the newest pin that was compared with the
// records; published blobs are on the remote alone. The checkpoint's one
// signature verifies the records of this machine when they are replayed. All of it
// but the spool can be rebuilt from the remote: an empty directory fetches and
// verifies the newest branch and begins an epoch.
//
// In memory the log holds some 300 bytes of a spooled record, the IDs of the
// newest 65,536 records (about 6 MB), and nothing of published ones.
//
// Tests follow a record, or end the process, with [Options].At. Its points are
//
//	added         the record has its place and is in the spool
//	durable       a flush ended well, those who wait are about to be told
//	before-push   the commit is written down, nothing of it was sent
//	pushed        the server accepted the push, nobody looked yet
//	acknowledged  the spool has forgotten the batch
//
// # Verifying
//
// [Verify] works on a clone without network. A decision that lets something in names the records of the approvals that it
// rests on; they are of its environment and later than the decision before that let something in there. A problem is tampered, incomplete or
// unreadable (exit codes 3, 4, 6). A log that is cut back consistently, with all
// refs, looks like a younger log: only a checkpoint kept elsewhere
// ([VerifyOptions].Pinned) shows it.
package evidence
