package sources

import (
	"fmt"
	"strings"
)

// Revision names one commit of a branch.
type Revision struct {
	Branch string // short name, such as "main"
	Commit string // 40 lower-case hex digits
}

// String gives "main@sha1:<40 hex>", the form used in records and statuses.
func (r Revision) String() string {
	return r.Branch + "@sha1:" + r.Commit
}

// ParseRevision reads what [Revision.String] wrote.
func ParseRevision(s string) (Revision, error) {
	branch, commit, ok := strings.Cut(s, "@sha1:")
	if !ok || branch == "" || !isHash(commit) {
		return Revision{}, fmt.Errorf("parse revision %q: want branch@sha1:<40 hex digits>", s)
	}
	return Revision{Branch: branch, Commit: commit}, nil
}

func isHash(s string) bool {
	if len(s) != 40 {
		return false
	}
	for _, c := range s {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
