package answer

import (
	"strings"

	"github.com/purser-gitops/purser/sources/forge"
)

// A Letter is one text for the forge: a commit status, or the comment on a pull request.
type Letter struct {
	Commit string // "" for a comment
	Status forge.Status
	Number int64 // of the pull request; 0 for a status
	Body   string
}

// Key is what a later letter replaces.
type Key struct {
	Commit, Context string
	Number          int64
}

// Key of the letter.
func (l Letter) Key() Key { return Key{l.Commit, l.Status.Context, l.Number} }

// text is what it says.
func (l Letter) text() string {
	return strings.Join([]string{string(l.Status.State), l.Status.Description, l.Body}, "\x00")
}

// Status is the commit status of an environment.
func Status(commit, environment string, state forge.StatusState, text string) Letter {
	return Letter{Commit: commit, Status: forge.Status{Context: "purser/" + environment, State: state, Description: clean(text, mostDescription)}}
}

// Letters are what is to be said, one text for each place.
type Letters map[Key]Letter

// Add adds a letter, unless there is one for its place.
func (s Letters) Add(l Letter) {
	if _, there := s[l.Key()]; !there {
		s[l.Key()] = l
	}
}
