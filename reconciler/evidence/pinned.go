package evidence

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// pin is a checkpoint that the log must contain.
type pin struct {
	checkpoint
	branch string
	year   int
}

// readPin reads [Options.Pinned].
func (l *Log) readPin() error {
	if len(l.o.Pinned) == 0 {
		return nil
	}
	c, err := parseCheckpoint(l.o.Pinned)
	if err != nil {
		return &StalledError{What: "the pinned checkpoint cannot be read", Err: err, Hint: "purser evidence checkpoint prints that of a clone"}
	}
	branch, ok := strings.CutPrefix(c.Origin, origin(l.o.Writer, ""))
	year, known := l.names.year(branch)
	if !ok || !known {
		return &StalledError{
			What: fmt.Sprintf("the pinned checkpoint is of the log %q, not of writer %q on %s", c.Origin, l.o.Writer, l.o.Branch),
			Hint: "pin one of this log; purser evidence checkpoint prints that of a clone",
		}
	}
	l.pin = &pin{checkpoint: c, branch: branch, year: year}
	return nil
}

// broken is the error for a log that does not contain the pinned checkpoint.
func (p pin) broken(why string) *StalledError {
	return &StalledError{
		What: fmt.Sprintf("the log does not contain the pinned checkpoint of %d records on %s: %s", p.Size, p.branch, why),
		Hint: "the audit remote was set back, or is another one: bring its branches back from a clone that has them (git push). Only who accepts that all " +
			"that came after is forgotten, vetoes, revocations and approvals among it, pins the checkpoint that is there: purser evidence checkpoint",
	}
}

// checkPin compares the pinned checkpoint with the records of this machine. Where they are not here, the checkpoint with
// which their branch ended serves, or that an earlier start compared the same pin.
func (l *Log) checkPin() error {
	if l.pin == nil {
		return nil
	}
	at := slices.IndexFunc(l.state.Branches, func(b branchStart) bool { return b.Branch == l.pin.branch })
	newest, _ := l.names.year(l.head.Branch)
	switch {
	case at < 0 && l.pin.year >= newest:
		return l.pin.broken("this machine has no records of that branch")
	case at < 0:
		end, err := l.endBefore()
		if err != nil {
			return err
		}
		return l.checkPinByEnd(end)
	case l.pin.branch != l.archive.branch && l.absent(l.pin.branch):
		return l.checkPinByEnd(l.state.Branches[at].Checkpoint)
	}
	have, err := l.leading(l.pin.branch, l.pin.Size)
	if err != nil {
		return err
	}
	if err := l.pin.check(have.Size, have.root()); err != nil {
		return err
	}
	return l.rememberPin()
}

// check compares the pin with the end of as many records as there are, at most its own size.
func (p pin) check(size uint64, root tlog.Hash) error {
	switch {
	case size < p.Size:
		return p.broken(fmt.Sprintf("it ends after %d", size))
	case root != p.Root:
		return p.broken("these are other records")
	}
	return nil
}

// leading is the frontier of a branch's first records, published or spooled, size at most.
func (l *Log) leading(name string, size uint64) (have frontier, err error) {
	err = l.eachBranch(func(branch string, _, records uint64) error {
		if branch != name {
			return nil
		}
		return l.archive.read(branch, 0, min(records, size), func(_ uint64, line []byte) error {
			have.add(tlog.RecordHash(line))
			return nil
		})
	})
	for _, e := range l.spool.entries {
		if e.Branch == name && have.Size < size {
			have.add(e.leaf)
		}
	}
	return have, err
}

// endBefore is the signed checkpoint with which the pinned branch ended, as the oldest branch of this machine, which
// continued it, says; nil where it does not say.
func (l *Log) endBefore() ([]byte, error) {
	oldest := l.state.Branches[0]
	if l.head.index() == oldest.Base || oldest.Branch != l.archive.branch && l.absent(oldest.Branch) {
		return nil, nil
	}
	l.mu.Lock()
	first, err := l.recordAt(oldest.Base)
	l.mu.Unlock()
	if err != nil || first.Previous == nil || first.Previous.Branch != l.pin.branch {
		return nil, err
	}
	return []byte(first.Previous.Checkpoint), nil
}

// checkPinByEnd compares the pin with the signed checkpoint with which its branch ended, nil where that is not known.
func (l *Log) checkPinByEnd(signed []byte) error {
	if signed != nil {
		end, err := openCheckpoint(signed, l.o.Trusted, l.o.Writer, l.pin.branch)
		if err != nil {
			return fmt.Errorf("read last checkpoint of %s: %w", l.pin.branch, err)
		}
		if end.Size <= l.pin.Size {
			return l.pin.check(end.Size, end.Root)
		}
	}
	if l.state.Pinned != nil && *l.state.Pinned == l.pin.checkpoint {
		return nil
	}
	return &StalledError{
		What: fmt.Sprintf("the pinned checkpoint of %d records on %s cannot be compared: this machine does not have that branch's records", l.pin.Size, l.pin.branch),
		Hint: "compare it with a clone (purser evidence verify --since), then pin the newest checkpoint of that clone (purser evidence checkpoint)",
	}
}

// rememberPin notes that the pin was compared, so that the records are not needed for it again.
func (l *Log) rememberPin() error {
	if l.state.Pinned != nil && *l.state.Pinned == l.pin.checkpoint {
		return nil
	}
	next := l.state
	next.Pinned = &l.pin.checkpoint
	if err := next.save(l.o.Dir); err != nil {
		return err
	}
	l.state = next
	return nil
}

// Vouched reports whether somebody pinned a checkpoint that covers all that there was when this epoch began, and so
// confirmed that nothing of it is missing.
func (l *Log) Vouched() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pin == nil {
		return false
	}
	for _, b := range l.state.Branches {
		if b.Branch == l.pin.branch {
			return b.Base+l.pin.Size >= l.state.EpochStart
		}
	}
	return false
}
