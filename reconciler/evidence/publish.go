package evidence

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
)

const (
	maxBatchRecords = 1_000
	maxBatchBytes   = 32 << 20 // of spool files, so that a push fits in memory
)

// Run publishes what Append spools until ctx or the log ends: at once when idle,
// otherwise everything that gathered during the last push in one. Failures are
// retried for ever, with growing pauses; see [Status]. One Run at a time; on a
// closed log it returns at once.
func (l *Log) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	run := &runner{cancel: cancel, done: make(chan struct{})}
	l.mu.Lock()
	busy, closing := l.run != nil, l.closing
	if !busy && !closing {
		l.run = run
	}
	l.mu.Unlock()
	switch {
	case closing:
		return nil
	case busy:
		return errors.New("run evidence log: it is running already")
	}
	defer func() {
		l.mu.Lock()
		l.run = nil
		l.mu.Unlock()
		close(run.done)
	}()
	pause := l.o.RetryMin
	for {
		done, err := l.publish(ctx)
		if ctx.Err() != nil || done && err == nil {
			return nil
		}
		if err == nil {
			pause = l.o.RetryMin
			select {
			case <-l.wake:
			case <-ctx.Done():
				return nil
			}
			continue
		}
		timer := time.NewTimer(pause/2 + rand.N(pause/2+1))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		pause = min(2*pause, l.o.RetryMax)
	}
}

// publish empties the spool. done says that the log is closing and nothing is
// left.
func (l *Log) publish(ctx context.Context) (done bool, err error) {
	for {
		l.mu.Lock()
		left, closing := len(l.spool.entries), l.closing
		l.mu.Unlock()
		if left == 0 {
			return closing, nil
		}
		start := time.Now()
		attempt, cancel := context.WithTimeout(ctx, l.o.Timeout)
		err := l.publishBatch(attempt)
		cancel()
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		l.report(err, time.Since(start))
		if err != nil {
			return false, err
		}
	}
}

// report keeps the outcome for Status and those who wait.
func (l *Log) report(err error, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.metrics.duration.Observe(took.Seconds())
		l.lastTime = l.o.Now()
		if l.lastErr != nil {
			l.o.Logger.Info("publishing evidence works again")
		}
	} else {
		l.metrics.failures.Inc()
		if l.lastErr == nil || l.lastErr.Error() != err.Error() {
			l.o.Logger.Error("publishing evidence failed, records wait in the spool", "records", len(l.spool.entries), "error", err)
		}
	}
	l.lastErr = err
	l.notify()
}

// publishBatch brings one commit to the remote: look where the remote is, write
// down the commit, send it, read the branch back, and only then forget the
// spooled copies. A crash or a lost answer at any point leaves the remote at the
// last acknowledged commit or at the pending one; both are recognised.
func (l *Log) publishBatch(ctx context.Context) error {
	if err := l.leaveBranch(); err != nil {
		return err
	}
	session, err := l.remote.openPush(ctx)
	if err != nil {
		return err
	}
	defer session.close()
	arrived, err := l.checkTip(session.refs)
	if err != nil {
		return err
	}
	b, err := l.makeBatch()
	if err != nil {
		return err
	}
	seen := session.refs
	if !arrived {
		if err := l.setPending(b.pending); err != nil {
			return err
		}
		if err := l.push(ctx, session, b); err != nil {
			return err
		}
		if seen, err = l.remote.list(ctx); err != nil {
			return fmt.Errorf("read back audit branch: %w", err)
		}
		if arrived, err = l.checkTip(seen); err != nil {
			return err
		}
		if !arrived {
			return errors.New("read back audit branch: the server accepted the push but does not show it")
		}
	}
	return l.acknowledge(b, seen)
}

// leaveBranch moves on to the next year's branch once the earlier one's records
// are all published.
func (l *Log) leaveBranch() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := l.spool.entries[0]
	if first.Branch == l.state.Published.Branch {
		return nil
	}
	next := l.state
	next.Published = position{Branch: first.Branch, Base: first.Index}
	next.Branches = append(slices.Clone(l.state.Branches), branchStart{Branch: first.Branch, Base: first.Index})
	if l.state.Published.Frontier.Size == 0 { // nothing was ever published under the earlier name
		next.Branches = next.Branches[len(next.Branches)-1:]
	}
	if err := next.save(l.o.Dir); err != nil {
		return err
	}
	l.state = next
	return l.archive.open(first.Branch, 0)
}

// setPending writes the commit down before it is sent.
func (l *Log) setPending(p *pendingPush) error {
	if l.state.Pending != nil {
		return nil
	}
	next := l.state
	next.Pending = p
	if err := next.save(l.o.Dir); err != nil {
		return err
	}
	l.mu.Lock()
	l.state = next
	l.mu.Unlock()
	return nil
}

// batch is one commit and what goes with it.
type batch struct {
	items   []spooled
	ids     []string
	after   position
	objects []object // of the branch
	pending *pendingPush
}

// makeBatch builds the pending commit again, or a new one from the beginning of
// the spool. The same spool gives the same objects.
func (l *Log) makeBatch() (*batch, error) {
	l.mu.Lock()
	entries := l.nextEntries()
	l.mu.Unlock()
	before := l.state.Published
	b := &batch{pending: l.state.Pending, after: position{
		Branch: before.Branch, Base: before.Base, Frontier: before.Frontier.clone(), Spine: before.Spine.clone(),
	}}
	var bases [depth]*object // the unfinished directories the remote has
	before.Spine.root(func(height int, tree object) { bases[height] = &tree })
	emit := func(height int, tree object) {
		tree.base, bases[height] = bases[height], nil
		b.objects = append(b.objects, tree)
	}
	for _, e := range entries {
		item, _, err := l.spool.read(e.Index)
		if err != nil {
			return nil, err
		}
		b.items = append(b.items, item)
		b.ids = append(b.ids, e.ID)
		b.objects = append(b.objects, newObject(plumbing.BlobObject, item.Envelope))
		b.after.Frontier.add(e.leaf)
		b.after.Spine.add(e.blob, emit)
	}
	records := b.after.Spine.root(emit)
	if b.pending == nil {
		if err := l.commitBatch(b, entries, records); err != nil {
			return nil, err
		}
	}
	point := newObject(plumbing.BlobObject, b.pending.Checkpoint)
	root := rootTree(point.hash, records)
	c, err := parseCommit(b.pending.Commit)
	if err != nil || c.tree != root.hash {
		return nil, damaged(statePath(l.o.Dir), errors.Join(err, errors.New("its pending commit is not that of the spool")))
	}
	b.after.Tip = b.pending.hash()
	b.objects = append(b.objects, point, root, object{typ: plumbing.CommitObject, hash: b.after.Tip, data: b.pending.Commit})
	return b, nil
}

// nextEntries are the records of the next commit. l.mu is held.
func (l *Log) nextEntries() []spoolEntry {
	entries := l.spool.entries
	if p := l.state.Pending; p != nil {
		return entries[:min(p.Records, len(entries))]
	}
	n, bytes := 0, int64(0)
	for n < min(len(entries), maxBatchRecords) && entries[n].Branch == entries[0].Branch {
		if bytes += entries[n].bytes; n > 0 && bytes > maxBatchBytes {
			break
		}
		n++
	}
	return entries[:n]
}

// commitBatch signs checkpoint and commit.
func (l *Log) commitBatch(b *batch, entries []spoolEntry, records plumbing.Hash) error {
	p, first, last := l.state.Published, entries[0], entries[len(entries)-1]
	signed, err := checkpoint{
		Origin: origin(l.o.Writer, p.Branch), Size: b.after.Frontier.Size, Root: b.after.Frontier.root(),
	}.sign(l.o.Key)
	if err != nil {
		return err
	}
	c := commit{
		tree:    rootTree(plumbing.ComputeHash(plumbing.BlobObject, signed), records).hash,
		writer:  l.o.Writer,
		when:    l.o.Now().UTC(),
		message: commitMessage(entries) + trailers(l.o.Writer, last.Epoch, p.Branch, logIndex(first.Seq, last.Seq)),
	}
	if !p.Tip.IsZero() {
		c.parents = []plumbing.Hash{p.Tip}
	}
	signedCommit, err := c.sign(l.o.Key)
	if err != nil {
		return err
	}
	b.pending = &pendingPush{Records: len(entries), Commit: signedCommit.data, Checkpoint: signed}
	return nil
}

// commitMessage says what is recorded, for people: types and environments.
func commitMessage(entries []spoolEntry) string {
	var types, environments []string
	for _, e := range entries {
		if !slices.Contains(types, e.Type) {
			types = append(types, e.Type)
		}
		if e.Environment != "" && !slices.Contains(environments, e.Environment) {
			environments = append(environments, e.Environment)
		}
	}
	subject := "Record " + strings.Join(types, ", ")
	if n := len(environments); n > 3 {
		subject += fmt.Sprintf(" for %d environments", n)
	} else if n > 0 {
		subject += " for " + strings.Join(environments, ", ")
	}
	return subject + "\n\n"
}

func logIndex(first, last uint64) string {
	if first == last {
		return fmt.Sprint(first)
	}
	return fmt.Sprintf("%d-%d", first, last)
}

// push sends the batch: keep refs and blobs with the branch where the server
// moves all or none, before it where not.
func (l *Log) push(ctx context.Context, session *pushSession, b *batch) error {
	aux, updates, err := l.besides(session.refs, b)
	if err != nil {
		return err
	}
	branch := refUpdate{name: "refs/heads/" + b.after.Branch, old: l.state.Published.Tip, new: b.after.Tip}
	if len(updates) == 0 || session.atomic() {
		pack, err := encodePack(distinct(append(aux, b.objects...)), session.thin())
		if err != nil {
			return err
		}
		return session.send(ctx, pack, append(updates, branch))
	}
	pack, err := encodePack(distinct(aux), false)
	if err != nil {
		return err
	}
	if err := session.send(ctx, pack, updates); err != nil {
		return err
	}
	second, err := l.remote.openPush(ctx)
	if err != nil {
		return err
	}
	defer second.close()
	if pack, err = encodePack(distinct(b.objects), second.thin()); err != nil {
		return err
	}
	return second.send(ctx, pack, []refUpdate{branch})
}

// besides builds what the records refer to outside the branch: blobs as new
// commits on their month's ref, and the newest commit of every keep ref.
func (l *Log) besides(have refs, b *batch) ([]object, []refUpdate, error) {
	months := map[string][]treeEntry{}
	kept := map[string]spooledKeep{}
	var objects []object
	var updates []refUpdate
	for _, item := range b.items {
		for _, blob := range item.Blobs {
			o := newObject(plumbing.BlobObject, blob.Data)
			objects = append(objects, o)
			name, err := hexDigest(blob.Digest)
			if err != nil {
				return nil, nil, err
			}
			months[blob.Ref] = append(months[blob.Ref], treeEntry{name: name, hash: o.hash})
		}
		for _, k := range item.Keep {
			kept[k.Ref] = k
		}
	}
	for ref, entries := range months {
		tree, c, err := l.blobCommit(have[ref], entries, b)
		if err != nil {
			return nil, nil, err
		}
		objects = append(objects, tree, c)
		updates = append(updates, refUpdate{name: ref, old: have[ref], new: c.hash})
	}
	for ref, k := range kept {
		files, err := fileTree(k.Files)
		if err != nil {
			return nil, nil, err
		}
		c := newObject(plumbing.CommitObject, k.Commit)
		if have[ref] == c.hash {
			continue
		}
		objects = append(append(objects, files...), c)
		updates = append(updates, refUpdate{name: ref, old: have[ref], new: c.hash})
	}
	return objects, updates, nil
}

// blobCommit holds only the new blobs; its history holds the month's others.
// So it is made without knowing them, and several writers can share a month.
func (l *Log) blobCommit(parent plumbing.Hash, entries []treeEntry, b *batch) (tree, signed object, err error) {
	slices.SortFunc(entries, func(x, y treeEntry) int { return strings.Compare(x.name, y.name) })
	tree = encodeTree(slices.CompactFunc(entries, func(x, y treeEntry) bool { return x.name == y.name }))
	c := commit{
		tree: tree.hash, writer: l.o.Writer, when: l.o.Now().UTC(),
		message: "Store blobs\n\n" + trailers(l.o.Writer, l.state.Epoch, b.after.Branch, fmt.Sprint(b.after.Frontier.Size-1)),
	}
	if !parent.IsZero() {
		c.parents = []plumbing.Hash{parent}
	}
	signed, err = c.sign(l.o.Key)
	return tree, signed, err
}

// distinct drops repeated objects: a pack must not hold one twice.
func distinct(objects []object) []object {
	seen := map[plumbing.Hash]bool{}
	return slices.DeleteFunc(objects, func(o object) bool {
		again := seen[o.hash]
		seen[o.hash] = true
		return again
	})
}

// acknowledge forgets the spooled copies of records that the remote shows.
// Until the state is saved it can be repeated.
func (l *Log) acknowledge(b *batch, seen refs) error {
	var envelopes [][]byte
	for _, item := range b.items {
		envelopes = append(envelopes, item.Envelope)
		for _, blob := range item.Blobs {
			if err := l.blobs.put(blob.Ref, blob.Digest, blob.Data); err != nil {
				return err
			}
		}
		for _, k := range item.Keep {
			if err := l.keeps.put(k.Ref, k.Files); err != nil {
				return err
			}
		}
	}
	if err := l.archive.append(envelopes, b.ids); err != nil {
		return err
	}
	next := l.state
	next.Published, next.Pending = b.after, nil
	if err := next.save(l.o.Dir); err != nil {
		return err
	}
	l.archive.commit(envelopes)
	l.mu.Lock()
	l.state = next
	err := l.spool.drop(len(b.items))
	l.mu.Unlock()
	if err != nil { // published all the same; the next start removes the files
		l.o.Logger.Warn("published records could not be removed from the spool", "error", err)
	}
	if err := l.blobs.forgetErased(seen); err != nil {
		l.o.Logger.Warn("erased blobs could not be removed from this machine", "error", err)
	}
	return nil
}
