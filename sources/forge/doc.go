// Package forge asks a forge (Gitea, GitHub, GitLab) what it knows about a landed change, and answers there.
//
// A [PullRequest] is what the forge says of one merged request: who opened, committed, pushed, reviewed and merged it,
// and which commit each review was about. GitLab's merge requests are meant too. [Client.PullRequestOf] finds it for a
// landed commit; [Client.SetStatus] and [Client.Comment] write.
//
// Facts only: what they are worth is decided by the approvals gate. A forge says what its accounts did, not what a
// person signed.
//
// Invariants:
//
//   - No pull request (nil without error) is said only when the forge answered every question that could have brought
//     one. An answer that fails, is cut off, is not the forge's JSON, or can be read in two ways is an error, which
//     callers treat as unknown: [ErrUnknown] and everything that is not [ErrDenied], [ErrNotFound] or
//     [ErrAmbiguous].
//   - Every answer is bounded, and lists are read to their end or not at all: see [Limits].
//   - The token is read from its file for every request, goes to the configured host alone, since no redirect is
//     followed, and is in no error or log.
//   - What is read has a digest over the raw answers, for evidence.
package forge
