package evidence

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
)

// batch is one commit and what goes with it.
type batch struct {
	items   []spooled
	ids     []recordID
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
		item, err := e.read()
		if err != nil {
			return nil, err
		}
		b.items = append(b.items, item)
		b.ids = append(b.ids, e.id)
		b.objects = append(b.objects, object{typ: plumbing.BlobObject, hash: e.blob, data: item.Envelope})
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

// nextEntries are the records of the next commit, all durable. l.mu is held.
func (l *Log) nextEntries() []spoolEntry {
	entries := l.spool.ready()
	if p := l.state.Pending; p != nil {
		return entries[:min(p.Records, len(entries))]
	}
	n, bytes := 0, int64(0)
	for n < min(len(entries), maxBatchRecords) && entries[n].Branch == entries[0].Branch {
		if bytes += entries[n].size; n > 0 && bytes > maxBatchBytes {
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
