package policy

import (
	"fmt"
	"strings"
	"time"
)

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
