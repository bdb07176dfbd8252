package evidence

import (
	"context"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
)

// rebuildFactor is how many times Options.Timeout fetching and verifying a branch
// may take.
const rebuildFactor = 60

// begin fills a new directory: from the remote's newest branch, or, with Init,
// from nothing.
func (l *Log) begin(ctx context.Context) error {
	if len(l.spool.entries) > 0 {
		return &StalledError{
			What: fmt.Sprintf("evidence directory %s has lost its state.json but holds %d unpublished records", l.o.Dir, len(l.spool.entries)),
			Hint: "restore state.json; or move the spool away and keep it, the next start then declares a gap",
		}
	}
	if err := l.spool.forget(); err != nil {
		return err
	}
	if err := os.RemoveAll(l.archive.dir); err != nil { // left by a start that did not finish
		return fmt.Errorf("clear archive: %w", err)
	}
	have, err := l.remote.list(ctx)
	if err != nil {
		return fmt.Errorf("begin evidence log: %w", err)
	}
	branch, found := l.newestBranch(have)
	switch {
	case l.pin != nil && have["refs/heads/"+l.pin.branch].IsZero():
		return l.pin.broken("the audit remote has no such branch")
	case found:
		err = l.rebuild(ctx, have, branch)
	case l.o.Init:
		name := l.names.name(l.o.Now().UTC().Year())
		l.state = state{Writer: l.o.Writer, Epoch: 1, Published: position{Branch: name}, Branches: []branchStart{{Branch: name}}}
	default:
		return &StalledError{
			What: fmt.Sprintf("no branch %s on the audit remote", l.o.Branch), Err: ErrNotInitialized,
			Hint: "check the remote's address; if this log is really new, start once with --init",
		}
	}
	if err != nil {
		return err
	}
	if err := l.state.save(l.o.Dir); err != nil {
		return err
	}
	return l.restore()
}

func (l *Log) newestBranch(have refs) (name string, found bool) {
	newest := -1
	for ref := range have {
		branch, ok := strings.CutPrefix(ref, "refs/heads/")
		if !ok {
			continue
		}
		if year, ok := l.names.year(branch); ok && year > newest {
			newest, name = year, branch
		}
	}
	return name, newest >= 0
}

// rebuild fetches the branch, verifies all of it and continues it in a new
// epoch.
func (l *Log) rebuild(ctx context.Context, have refs, branch string) error {
	branches := l.sincePin(have, branch)
	want := refs{}
	for _, name := range branches {
		want["refs/heads/"+name] = have["refs/heads/"+name]
	}
	for ref, hash := range have {
		if strings.HasPrefix(ref, keepPrefix) {
			want[ref] = hash
		}
	}
	// A year of records may take long; no single exchange elsewhere does.
	ctx, cancel := context.WithTimeout(ctx, rebuildFactor*l.o.Timeout)
	defer cancel()
	l.o.Logger.Info("rebuilding evidence directory from the audit remote", "branch", branch)
	r, err := l.fetchTemporary(ctx, want, math.MaxInt64)
	if err != nil {
		return fmt.Errorf("rebuild evidence directory: %w", err)
	}
	defer func() { _ = r.discard() }() // swept at the next start at the latest
	b := rebuilder{log: l, branch: branch}
	newest, _ := l.names.year(branch)
	later := func(name string) bool { // what was kept for it outlives the branch
		year, mine := l.names.year(name)
		return mine && year > newest
	}
	v := newVerifier(r, l.o.Trusted, VerifyOptions{branches: branches, later: later, Pinned: l.o.Pinned, OnRecord: b.take})
	report, err := v.run(ctx)
	if err != nil {
		return fmt.Errorf("rebuild evidence directory: %w", err)
	}
	if v.broken != "" {
		return l.pin.broken(v.broken)
	}
	if len(report.Problems) > 0 {
		return &StalledError{
			What: fmt.Sprintf("the audit remote does not verify: %s", report.Problems[0]), // which names its branch
			Hint: "run purser evidence verify on a clone; what is missing, bring back from a clone that has it (git push)",
		}
	}
	if err := b.flush(); err != nil {
		return err
	}
	kept := false
	for ref, hash := range want {
		if !strings.HasPrefix(ref, keepPrefix) {
			continue
		}
		files, err := r.files(hash)
		if err != nil {
			return fmt.Errorf("rebuild evidence directory: read %s: %w", ref, err)
		}
		if err := l.keeps.put(ref, files); err != nil {
			return err
		}
		kept = true
	}
	if kept {
		if err := syncDir(l.keeps.dir); err != nil {
			return fmt.Errorf("store kept files: %w", err)
		}
	}
	if b.last.Writer != l.o.Writer {
		return &StalledError{
			What: fmt.Sprintf("branch %s is the log of writer %q, not %q", branch, b.last.Writer, l.o.Writer),
			Hint: "give every writer a branch of its own: audit/<writer>/<year>",
		}
	}
	signed, err := checkpoint{Origin: origin(l.o.Writer, branch), Size: b.frontier.Size, Root: b.frontier.root()}.sign(l.o.Key)
	if err != nil {
		return err
	}
	base := b.last.Index - b.last.Seq
	l.state = state{
		Writer: l.o.Writer, Epoch: b.last.Epoch + 1,
		Published: position{
			Branch: branch, Base: base, Tip: want["refs/heads/"+branch],
			Frontier: b.frontier, Spine: b.spine,
		},
		Branches: []branchStart{{Branch: branch, Base: base, Checkpoint: signed}},
	}
	if l.pin != nil {
		l.state.Pinned = &l.pin.checkpoint
	}
	l.state.EpochStart = l.state.Published.index()
	return nil
}

// sincePin are the branches to fetch, oldest first: the newest and, for the pinned checkpoint, those from its year on.
func (l *Log) sincePin(have refs, newest string) []string {
	names := []string{newest}
	if l.pin == nil {
		return names
	}
	for ref := range have {
		name, ok := strings.CutPrefix(ref, "refs/heads/")
		if year, mine := l.names.year(name); ok && mine && name != newest && year >= l.pin.year {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// rebuilder turns verified records into archive and edges.
type rebuilder struct {
	log       *Log
	branch    string
	last      Record
	frontier  frontier
	spine     spine
	envelopes [][]byte
	ids       []recordID
}

func (b *rebuilder) take(r Record, envelope []byte) error {
	if r.Branch != b.branch {
		return nil // of a year before, which was fetched for the pinned checkpoint
	}
	if b.frontier.Size == 0 {
		if err := b.log.archive.open(b.branch, 0); err != nil {
			return err
		}
	}
	e, err := newSpoolEntry(r, envelope)
	if err != nil {
		return err
	}
	b.frontier.add(e.leaf)
	b.spine.add(e.blob, nil)
	b.last = r
	b.envelopes, b.ids = append(b.envelopes, envelope), append(b.ids, e.id)
	if len(b.envelopes) >= maxBatchRecords {
		return b.flush()
	}
	return nil
}

func (b *rebuilder) flush() error {
	if len(b.envelopes) == 0 {
		return nil
	}
	if err := b.log.archive.append(b.envelopes, b.ids); err != nil {
		return err
	}
	b.log.archive.commit(b.envelopes)
	b.envelopes, b.ids = nil, nil
	return nil
}
