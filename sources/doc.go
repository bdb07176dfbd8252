// Package sources is where facts come from: the commits of Git repositories.
//
// A [Repository] is a bare copy, on disk, of the wanted branches of one remote.
// A [Revision] names one commit of a branch. A [Tree] is a read-only view of the
// files of one commit, read straight from the object store without a checkout,
// or of a directory on disk ([WorkTree]). A [Poller] keeps a repository fresh;
// a webhook ([NewHooks]) only wakes it. Other refs of the remote, which anybody
// may be able to push, come beside the branches ([Wanted]). [CreateRef] is all
// that is ever written to a remote.
//
// Invariants:
//
//   - A branch's head moves only after the new commit and every tree and file
//     name under it are known to be in the object store. On any error nothing
//     moves and the last good head stays readable.
//   - A commit that was ever a head stays readable, also after a force push or
//     the deletion of its branch: refs/purser/seen/<commit> holds it.
//   - No other ref keeps a branch, or another ref, from coming. It is here only
//     while the remote has it.
//   - What cannot be read is an error, never an absence: [fs.ErrNotExist] means
//     that the tree says there is no such path, and nothing else.
//   - Every object is hashed as it is read, so damage on disk is an error.
//   - Everything read from a remote is bounded: see [Limits].
//   - No credential is in a URL, a log line or an error.
package sources
