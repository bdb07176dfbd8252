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

// readPin reads [Options.Since].
func (l *Log) readPin() error {
	if len(l.o.Since) == 0 {
		return nil
	}
	c, err := parseCheckpoint(l.o.Since)
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

// checkPin compares the pinned checkpoint with the records of this machine. One of a branch from before them was compared
// when they were fetched.
func (l *Log) checkPin() error {
	if l.pin == nil {
		return nil
	}
	at := slices.IndexFunc(l.state.Branches, func(b branchStart) bool { return b.Branch == l.pin.branch })
	if at < 0 {
		if newest, _ := l.names.year(l.head.Branch); l.pin.year < newest {
			return nil
		}
		return l.pin.broken("this machine has no records of that branch")
	}
	var have frontier
	err := l.eachBranch(func(branch string, _, size uint64) error {
		if branch != l.pin.branch {
			return nil
		}
		return l.archive.read(branch, 0, min(size, l.pin.Size), func(_ uint64, line []byte) error {
			have.add(tlog.RecordHash(line))
			return nil
		})
	})
	if err != nil {
		return err
	}
	for _, e := range l.spool.entries {
		if e.Branch == l.pin.branch && have.Size < l.pin.Size {
			have.add(e.leaf)
		}
	}
	switch {
	case have.Size < l.pin.Size:
		return l.pin.broken(fmt.Sprintf("it ends after %d", have.Size))
	case have.root() != l.pin.Root:
		return l.pin.broken("these are other records")
	}
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
