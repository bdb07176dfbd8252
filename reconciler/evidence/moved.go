package evidence

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"golang.org/x/mod/sumdb/tlog"
)

// errNotRead stands for what nobody has looked at.
var errNotRead = errors.New("the agent says more when it is started again, and stays down then until the branch is back")

// moved says what became of the branch and how to bring it back. It reads nothing of what is there now, which may be
// large and anybody's: see [Log.missing].
func (l *Log) moved(have refs) *StalledError { return l.strayed(have, 0, errNotRead) }

// missing is like moved and also says what a directory that began anew from what is there would not know any more. It
// fetches the branch, within bounds of time and size.
func (l *Log) missing(ctx context.Context, have refs) *StalledError {
	p := l.state.Published
	if p.Tip.IsZero() {
		return l.moved(have)
	}
	ctx, cancel := context.WithTimeout(ctx, l.o.Timeout)
	defer cancel()
	left, err := l.remaining(ctx, have["refs/heads/"+p.Branch])
	return l.strayed(have, left, err)
}

// strayed words what is known: how many of the branch's records are still there, or why nobody knows.
func (l *Log) strayed(have refs, left uint64, unknown error) *StalledError {
	p := l.state.Published
	tip := have["refs/heads/"+p.Branch]
	if p.Tip.IsZero() {
		return &StalledError{
			What: fmt.Sprintf("branch %s of the audit remote is at %s, this writer never pushed to it", p.Branch, tip),
			Hint: "find out who writes there; give every writer a branch of its own: audit/<writer>/<year>",
		}
	}
	from, words := p.Base+left, []string{l.o.Remote.URL, fmt.Sprintf("%s:refs/heads/%s", p.Tip, p.Branch)}
	switch {
	case len(have) == 0: // the earlier years are gone, too
		from, words = 0, append(words, "refs/purser/*:refs/purser/*")
	case errors.Is(unknown, errOtherRecords):
		words = slices.Insert(words, 0, fmt.Sprintf("--force-with-lease=refs/heads/%s:%s", p.Branch, tip))
	}
	command := "git push"
	for _, word := range words {
		command += " " + quote(word)
	}
	if !tip.IsZero() && !errors.Is(unknown, errOtherRecords) {
		command += fmt.Sprintf(", or if Git rejects that because the branch was written anew, with --force-with-lease=refs/heads/%s:%s before the address", p.Branch, tip)
	}
	return &StalledError{
		What: whatMoved(p, tip, len(have) == 0, left, unknown),
		Hint: fmt.Sprintf("find out who changed it, and first bring the branch back, from any clone that has commit %s: %s; the agent then goes on by itself. "+
			"Starting from an empty directory instead forgets %s; vetoes, revocations and approvals among that no longer hold, and declarations of before come back into force",
			p.Tip, command, l.forgotten(from, unknown)),
	}
}

// quote is a word as a shell reads it.
func quote(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }

func whatMoved(p position, tip plumbing.Hash, empty bool, left uint64, unknown error) string {
	switch {
	case empty:
		return fmt.Sprintf("the audit remote is empty, this writer left branch %s at %s", p.Branch, p.Tip)
	case tip.IsZero():
		return fmt.Sprintf("branch %s of the audit remote is gone, this writer left it at %s", p.Branch, p.Tip)
	case unknown == nil:
		return fmt.Sprintf("branch %s of the audit remote is at %s, this writer left it at %s: it was rewound, to the first %d of %d records", p.Branch, tip, p.Tip, left, p.Frontier.Size)
	}
	return fmt.Sprintf("branch %s of the audit remote is at %s, this writer left it at %s: it was rewound, replaced or written by another", p.Branch, tip, p.Tip)
}

// errOtherRecords says that a branch does not have what this machine published there.
var errOtherRecords = errors.New("its records are not the first of those on this machine")

// A pack of a branch that was rewound is no larger than this many bytes and so many times what is held here of it: commits
// and directories come on top of the records.
const packFloor, packFactor = 64 << 20, 8

// remaining is how many of the branch's records, as this machine has them, a commit on the remote still has.
func (l *Log) remaining(ctx context.Context, tip plumbing.Hash) (uint64, error) {
	if tip.IsZero() {
		return 0, nil
	}
	p := l.state.Published
	most, err := l.archive.bytes()
	if err != nil {
		return 0, err
	}
	r, err := l.fetchTemporary(ctx, refs{"refs/heads/" + p.Branch: tip}, packFloor+packFactor*most)
	if err != nil {
		return 0, err
	}
	defer func() { _ = r.discard() }() // swept at the next start at the latest
	c, err := r.commit(tip)
	if err != nil {
		return 0, err
	}
	entries, err := r.tree(c.tree)
	if err != nil {
		return 0, err
	}
	point, ok := find(entries, "checkpoint")
	if !ok {
		return 0, fmt.Errorf("%w: it has no checkpoint", errOtherRecords)
	}
	data, err := r.read(plumbing.BlobObject, point, maxCheckpoint)
	if err != nil {
		return 0, err
	}
	there, err := openCheckpoint(data, l.o.Trusted, l.o.Writer, p.Branch)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%w: %w", errOtherRecords, err)
	case there.Size >= p.Frontier.Size:
		return 0, fmt.Errorf("%w: it has %d, %d were published from here", errOtherRecords, there.Size, p.Frontier.Size)
	}
	root, err := l.rootOf(p.Branch, there.Size)
	if err == nil && root != there.Root {
		err = errOtherRecords
	}
	return there.Size, err
}

// rootOf is the root of the first published records of a branch, as this machine has them.
func (l *Log) rootOf(branch string, size uint64) (tlog.Hash, error) {
	var have frontier
	err := l.archive.read(branch, 0, size, func(_ uint64, line []byte) error {
		have.add(tlog.RecordHash(line))
		return nil
	})
	return have.root(), err
}

// byPeople are the types of records that say what somebody wants, and that nothing else brings back.
var byPeople = []string{TypeStatement, TypeVeto}

// mostForgotten is how many records of people are named.
const mostForgotten = 5

// forgotten tells of the records of this machine from an index on.
func (l *Log) forgotten(from uint64, unknown error) string {
	if unknown != nil {
		return fmt.Sprintf("an unknown part of what was recorded here (%v)", unknown)
	}
	var since time.Time
	var named []string
	counts := map[string]int{}
	total := 0
	err := l.Replay(func(r Record) error {
		if r.Index < from {
			return nil
		}
		if total++; since.IsZero() {
			since = r.Time
		}
		counts[r.Type]++
		if slices.Contains(byPeople, r.Type) {
			named = append(named, fmt.Sprintf("%d: %s about %s", r.Index, r.Type, cmp.Or(r.Environment, "the estate")))
		}
		return nil
	})
	if err != nil {
		return fmt.Sprintf("an unknown part of what was recorded here (%v)", err)
	}
	var kinds []string
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		kinds = append(kinds, fmt.Sprintf("%s %d", kind, counts[kind]))
	}
	text := fmt.Sprintf("the %d records since %s, from record %d on (%s", total, since.UTC().Format(time.RFC3339), from, strings.Join(kinds, ", "))
	if more := len(named) - mostForgotten; more > 0 {
		named = append(named[more:], fmt.Sprintf("%d earlier ones", more))
	}
	if len(named) > 0 {
		text += "; by people: " + strings.Join(named, ", ")
	}
	return text + ")"
}
