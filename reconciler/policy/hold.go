package policy

import (
	"fmt"
	"strings"
	"time"
)

// Hold is a person's order to leave an environment as it is.
type Hold struct {
	Person string    `json:"person"`
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
}

// pause waits while a person holds the environment.
func pause(_ Candidate, f Facts, _ time.Time) Result {
	if h := f.Hold; h != nil {
		return Result{Answer: Wait, Reason: fmt.Sprintf("paused by %s since %s: %s", h.Person, h.Since.UTC().Format(time.RFC3339), h.Reason), Hint: "purser resume"}
	}
	return allow("nobody holds the environment")
}

// Caught is a release that a freeze took back while it was under way.
type Caught struct {
	Release string    `json:"release"`
	Freeze  string    `json:"freeze"`
	At      time.Time `json:"at"`
}

// Veto keeps one release away until a person lifts it.
type Veto struct {
	Reason string    `json:"reason"`
	By     string    `json:"by"` // person, or the agent
	At     time.Time `json:"at"`
}

// veto denies a release that failed before, or that somebody took back.
func veto(_ Candidate, f Facts, _ time.Time) Result {
	if v := f.Veto; v != nil {
		return Result{Answer: Deny, Reason: fmt.Sprintf("vetoed at %s by %s: %s", v.At.UTC().Format(time.RFC3339), v.By, v.Reason),
			Hint: "push another release, or purser lift"}
	}
	return allow("the release is not vetoed")
}

// ReviewDue is how long after an override was used somebody else has to have reviewed it.
const ReviewDue = 72 * time.Hour

// Override is a person's order to let one release pass in spite of some gates: the one that the statement names or, where
// it names none, the first that needs it. The time of its use starts the review's.
type Override struct {
	Statement Statement  `json:"statement"`
	Used      *time.Time `json:"used,omitempty"`
	Release   string     `json:"release,omitempty"` // that used it
	Class     string     `json:"class,omitempty"`   // of that release, when it was first used
	Opened    []string   `json:"opened,omitempty"`  // the gates that it opened
	Reviewer  string     `json:"reviewer,omitempty"`
}

// isFor reports whether a release can use the override. One that names no release is spent by the first.
func (o Override) isFor(release string) bool {
	switch {
	case o.Statement.To != "":
		return o.Statement.To == release
	case o.Used != nil:
		return o.Release != "" && o.Release == release
	}
	return true
}

// Due is when the override has to be reviewed; nil when it need not be, or was.
func (o Override) Due() *time.Time {
	if o.Used == nil || o.Reviewer != "" {
		return nil
	}
	due := o.Used.Add(ReviewDue)
	return &due
}

// review denies the next release after an override that nobody reviewed in time.
func review(_ Candidate, f Facts, now time.Time) Result {
	var open []string
	for _, o := range f.Overrides {
		due := o.Due()
		switch {
		case due == nil:
		case !now.Before(*due):
			return Result{Answer: Deny, Reason: fmt.Sprintf("the override %s by %s was to be reviewed by %s", short(o.Statement.ID), o.Statement.Person, due.UTC().Format(time.RFC3339)),
				Hint: fmt.Sprintf("purser review %s, by somebody else who may", short(o.Statement.ID))}
		default:
			open = append(open, fmt.Sprintf("%s until %s", short(o.Statement.ID), due.UTC().Format(time.RFC3339)))
		}
	}
	if len(open) > 0 {
		return allow("overrides to review: " + strings.Join(open, ", "))
	}
	return allow("no override waits for its review")
}
