package identity

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxCoAuthors bounds the co-authors of one commit.
const maxCoAuthors = 256

// Parties are the addresses of those whom a commit claims to have a part in it. Claims cost nothing, so they can only
// make somebody an author.
type Parties struct {
	Author    string
	Committer string
	CoAuthors []string // each once, in the order of the message
}

// All gives every address once.
func (p Parties) All() []string {
	var all []string
	for _, e := range append([]string{p.Author, p.Committer}, p.CoAuthors...) {
		if !slices.Contains(all, e) {
			all = append(all, e)
		}
	}
	return all
}

// Committed is when the commit says that it was made, by the clock of whoever did: a signature covers it.
func (commit *Commit) Committed() (time.Time, error) {
	if commit.err != nil {
		return time.Time{}, commit.err
	}
	at := strings.Fields(commit.object.committer[strings.LastIndexByte(commit.object.committer, '>')+1:])
	if len(at) != 2 || len(at[0]) > 12 {
		return time.Time{}, errors.New("the commit's committer: no time after the address")
	}
	seconds, err := strconv.ParseInt(at[0], 10, 64)
	if err != nil || seconds < 0 {
		return time.Time{}, errors.New("the commit's committer: no time after the address")
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// coAuthorKeys are the trailers that name a co-author; Gitea's squash merges write the second one too.
var coAuthorKeys = []string{"co-authored-by", "co-committed-by"}

// Parties reads the addresses of a commit: author, committer and the co-authors named in the message. It finds
// all that git interpret-trailers finds, and also those outside the last paragraph, where a squash of several commits
// leaves them.
func (commit *Commit) Parties() (Parties, error) {
	c, err := commit.object, commit.err
	if err != nil {
		return Parties{}, err
	}
	var p Parties
	if p.Author, err = address(c.author); err != nil {
		return Parties{}, fmt.Errorf("the commit's author: %w", err)
	}
	if p.Committer, err = address(c.committer); err != nil {
		return Parties{}, fmt.Errorf("the commit's committer: %w", err)
	}
	lines := strings.Split(string(c.message), "\n")
	for i := 0; i < len(lines); i++ {
		key, value, ok := strings.Cut(lines[i], ":")
		if !ok || !slices.Contains(coAuthorKeys, fold(strings.TrimSpace(key))) {
			continue
		}
		for i+1 < len(lines) && strings.TrimLeft(lines[i+1], " \t") != lines[i+1] && strings.TrimSpace(lines[i+1]) != "" { // folded
			i++
			value += " " + strings.TrimSpace(lines[i])
		}
		email, err := address(value)
		if err != nil {
			email = strings.TrimSpace(value) // a bare address, or a name that is nobody's
		}
		if slices.Contains(p.CoAuthors, email) {
			continue
		}
		if len(p.CoAuthors) == maxCoAuthors {
			return Parties{}, fmt.Errorf("the commit names more than %d co-authors", maxCoAuthors)
		}
		p.CoAuthors = append(p.CoAuthors, email)
	}
	return p, nil
}

// address is what stands between the first < and the first > after it, as Git splits an identity.
func address(ident string) (string, error) {
	_, rest, open := strings.Cut(ident, "<")
	email, _, closed := strings.Cut(rest, ">")
	if !open || !closed {
		return "", errors.New("no address in angle brackets")
	}
	return strings.TrimSpace(email), nil
}
