package forge

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A User is an account of the forge. The zero User is one that the forge does not name: a deleted account, a commit
// whose e-mail belongs to no account. It is nobody, and never an absence of an author.
type User struct {
	Login string `json:"login,omitempty"`
	ID    int64  `json:"id,omitempty"`
	// Bot is what the forge says. Gitea does not say it.
	Bot bool `json:"bot,omitempty"`
}

// Known reports whether the forge names the account.
func (u User) Known() bool { return u.Login != "" }

// Same reports whether both are one account. Names compare as forges compare them, without case.
func (u User) Same(v User) bool {
	if !u.Known() || !v.Known() {
		return false
	}
	if u.ID != 0 && v.ID != 0 {
		return u.ID == v.ID
	}
	return strings.EqualFold(u.Login, v.Login)
}

// A State is what a review says.
type State string

// States of reviews.
const (
	Approved         State = "approved"
	ChangesRequested State = "changesRequested"
	Commented        State = "commented"
	Dismissed        State = "dismissed" // GitHub forgets what a dismissed review said
)

// A Review is one review of a pull request.
type Review struct {
	ID    int64     `json:"id,omitempty"`
	User  User      `json:"user"`
	State State     `json:"state"`
	Head  string    `json:"head,omitempty"` // the commit that was reviewed; "" when the forge does not say
	At    time.Time `json:"at,omitzero"`    // zero when the forge does not say
	// Stale says that the review is not known to be about the head that was merged.
	Stale     bool `json:"stale,omitempty"`
	Dismissed bool `json:"dismissed,omitempty"`
}

// A Commit is one commit of a pull request as it was before the merge.
type Commit struct {
	SHA       string   `json:"sha"`
	Author    User     `json:"author"`    // the account that the forge links to the author's e-mail; zero: none
	Committer User     `json:"committer"` // likewise
	Emails    []string `json:"emails"`    // author, committer, co-authors: what the commit claims, in lower case

	parents        []string
	author, email  string // of the author
	date           time.Time
	message        string
	committerEmail string
}

// A PullRequest is what the forge says of one pull request.
type PullRequest struct {
	Number      int64     `json:"number"`
	URL         string    `json:"url"`
	State       string    `json:"state"` // merged or open
	Author      User      `json:"author"`
	MergedBy    User      `json:"mergedBy"` // like the next and MergeCommit only of a merged one
	MergedAt    time.Time `json:"mergedAt"`
	Base        string    `json:"base"`        // branch
	Head        string    `json:"head"`        // the head when it was merged; of an open one the head now
	HeadRef     string    `json:"headRef"`     // ref of the project under which the head can be fetched
	MergeCommit string    `json:"mergeCommit"` // where the branch stood after the merge
	// LandedBy moved the base branch there: who merged, or pushed a merge of their own. Zero when the forge does not say.
	LandedBy User     `json:"landedBy"`
	Commits  []Commit `json:"commits"` // oldest first
	// Pushers are the accounts that pushed to the head branch, as far as the forge's activity tells. With PushersKnown
	// every push that led from the branch's creation to Head is among them.
	Pushers      []User   `json:"pushers,omitempty"`
	PushersKnown bool     `json:"pushersKnown"`
	Reviews      []Review `json:"reviews"` // oldest first, those still standing and those not
	// Retargeted is when its base last became another branch; zero: never. What was reviewed until then was the difference
	// to something else.
	Retargeted time.Time `json:"retargeted,omitzero"`
	Digest     string    `json:"digest"` // sha256:… over the raw answers
	Asked      time.Time `json:"asked"`  // when the forge was asked

	headBranch string // in the project itself; "" for a fork
}

// An OpenPullRequest is one that is not merged yet.
type OpenPullRequest struct {
	Number  int64  `json:"number"`
	URL     string `json:"url"`
	Title   string `json:"title"`
	Author  User   `json:"author"`
	Base    string `json:"base"`    // branch
	Branch  string `json:"branch"`  // head branch, in the project or a fork
	Head    string `json:"head"`    // its commit
	HeadRef string `json:"headRef"` // ref of the project under which the head can be fetched
	Fork    bool   `json:"fork"`    // the head branch is in another project
	Draft   bool   `json:"draft"`
	// Updated is when something last happened to it, as the forge counts that; zero when it does not say.
	Updated time.Time `json:"updated,omitzero"`
}

// Protection says how the forge protects a branch at the time of asking.
type Protection struct {
	// Known is false when the token may not read the settings; then nothing else but Digest is to be believed.
	Known             bool   `json:"known"`
	Protected         bool   `json:"protected"`
	RequiredApprovals int    `json:"requiredApprovals"`
	DismissStale      bool   `json:"dismissStale"` // a push dismisses approvals
	AdminBypass       bool   `json:"adminBypass"`  // somebody can land a change without these approvals
	ForcePush         bool   `json:"forcePush"`    // somebody can rewrite the branch
	Digest            string `json:"digest"`       // sha256:… over the raw answers
}

// Approvals returns each account's approval that stands: its latest review that says more than a comment, if that is an
// approval, was not dismissed and was given after the pull request got its base. Accounts that the forge does not name have
// none. An approval may be stale.
func Approvals(pr *PullRequest) []Review {
	return slices.DeleteFunc(opinions(pr), func(r Review) bool {
		return r.State != Approved || r.Dismissed || !pr.Retargeted.IsZero() && !r.At.After(pr.Retargeted)
	})
}

// retargeted notes that the base became another branch.
func (pr *PullRequest) retargeted(at time.Time) error {
	if at.IsZero() {
		return fmt.Errorf("%w: pull request %d got another base, and nothing tells when", ErrUnknown, pr.Number)
	}
	if at.After(pr.Retargeted) {
		pr.Retargeted = at
	}
	return nil
}

// opinions returns each account's latest review that says more than a comment.
func opinions(pr *PullRequest) []Review {
	var latest []Review
	for _, r := range pr.Reviews {
		if r.State == Commented || !r.User.Known() {
			continue
		}
		found := false
		for i := range latest {
			if latest[i].User.Same(r.User) {
				found = true
				if supersedes(r, latest[i]) {
					latest[i] = r
				}
			}
		}
		if !found {
			latest = append(latest, r)
		}
	}
	return latest
}

// supersedes reports whether a, of the same account as b, is its opinion instead of b. Where the order is not known, an
// approval gives way.
func supersedes(a, b Review) bool {
	switch {
	case a.At.IsZero() || b.At.IsZero() || a.At.Equal(b.At) && a.ID == b.ID:
		return b.State == Approved && !b.Dismissed
	case !a.At.Equal(b.At):
		return a.At.After(b.At)
	}
	return a.ID > b.ID
}

// Contradicts says how an answer about a landed change cannot be newer than an earlier one, nil standing for no pull
// request: it comes from a cache, or a copy that lags behind. What was merged does not change any more, and an approval
// does not come back behind a later opinion of the same account.
func Contradicts(earlier, now *PullRequest) error {
	if earlier == nil {
		return nil
	}
	differs := func(what string) error {
		return hint(fmt.Errorf("%w: it said otherwise before about pull request %d: %s", ErrUnknown, earlier.Number, what),
			"let no cache stand before the forge; a new review, or a statement, counts in any case")
	}
	switch {
	case now == nil:
		return differs("that it landed")
	case now.Number != earlier.Number || now.Head != earlier.Head || now.MergeCommit != earlier.MergeCommit || !slices.EqualFunc(now.Commits, earlier.Commits, sameCommit):
		return differs("what was merged")
	case earlier.Author.Known() && now.Author.Known() && !now.Author.Same(earlier.Author):
		return differs("its author")
	}
	for _, user := range earlier.Pushers {
		if now.PushersKnown && !slices.ContainsFunc(now.Pushers, user.Same) {
			return differs("who pushed")
		}
	}
	for _, was := range opinions(earlier) {
		for _, is := range Approvals(now) {
			again := is.ID == was.ID && is.At.Equal(was.At) && was.Dismissed
			if is.User.Same(was.User) && (again || !was.At.IsZero() && newer(was, is)) {
				return differs("the last review of " + was.User.Login)
			}
		}
	}
	return nil
}

func sameCommit(a, b Commit) bool { return a.SHA == b.SHA }

// newer reports whether a was given after b.
func newer(a, b Review) bool {
	if a.At.Equal(b.At) {
		return a.ID > b.ID
	}
	return a.At.After(b.At)
}
