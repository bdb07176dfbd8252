package evidence

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
)

// Add signs a record, gives it its place in the order and writes it to the spool,
// from where a crash of the process cannot take it, but one of the machine can:
// nothing may rest on it before [Log.Durable] returns nil. The record's time is
// the clock's, as it is; its place is given by Index, which only grows. A draft
// whose ID is among the newest 65,536 records returns that record and adds
// nothing.
//
// On an error nothing was recorded. [ErrSpoolFull] passes when the remote takes
// records again; a full disk passes when there is room. After an error of unknown
// outcome every later Add fails until the log is opened again.
func (l *Log) Add(d Draft) (Record, error) {
	p, err := prepare(d)
	if err != nil {
		return Record{}, fmt.Errorf("add record: %w", err)
	}
	l.mu.Lock()
	r, err := l.addLocked(p)
	l.mu.Unlock()
	if err != nil {
		return Record{}, fmt.Errorf("add %s record: %w", d.Type, err)
	}
	l.signal()
	l.at("added")
	return r, nil
}

// prepared is a draft with all that does not depend on its place.
type prepared struct {
	Draft
	id    recordID
	body  json.RawMessage
	blobs []BlobRef       // no Ref yet
	trees []plumbing.Hash // of Keep
}

func prepare(d Draft) (prepared, error) {
	p := prepared{Draft: d}
	if err := d.check(); err != nil {
		return p, err
	}
	p.id = eventID(d.Type, d.Environment, d.Deployment, d.Key)
	p.Key = append([]string{}, d.Key...)
	if d.Predicate == nil {
		p.Predicate = struct{}{}
	}
	body, err := marshal(p.Predicate)
	if err != nil {
		return p, fmt.Errorf("encode predicate: %w", err)
	}
	p.body = body[:len(body)-1] // without its newline
	p.Subjects = slices.Clone(d.Subjects)
	for i, s := range p.Subjects {
		p.Subjects[i].Digest = maps.Clone(s.Digest)
	}
	if len(d.Subjects) == 0 {
		// in-toto wants at least one subject: the happening itself.
		p.Subjects = []Subject{{Name: "event", Digest: map[string]string{"sha256": p.id.String()}}}
	}
	for _, b := range d.Blobs {
		p.blobs = append(p.blobs, BlobRef{
			Name: b.Name, Digest: digestOf(b.Data), Size: int64(len(b.Data)),
			Object: plumbing.ComputeHash(plumbing.BlobObject, b.Data).String(),
		})
	}
	for _, k := range d.Keep {
		objects, err := fileTree(k.Files)
		if err != nil {
			return p, fmt.Errorf("keep %s: %w", k.Ref, err)
		}
		p.trees = append(p.trees, objects[len(objects)-1].hash)
	}
	return p, nil
}

func (l *Log) addLocked(p prepared) (Record, error) {
	if l.closing {
		return Record{}, ErrClosed
	}
	if l.broken != nil {
		return Record{}, l.broken
	}
	if index, ok := l.ids.find(p.id); ok {
		return l.recordAt(index)
	}
	if len(l.spool.entries) >= l.o.SpoolRecords || l.spool.bytes >= l.o.SpoolBytes {
		full := fmt.Errorf("%d records, %d bytes wait for the audit remote: %w", len(l.spool.entries), l.spool.bytes, ErrSpoolFull)
		return Record{}, errors.Join(full, l.lastErr)
	}
	now := l.o.Now().UTC().Round(0) // without the monotonic clock, which no reader sees
	if err := l.turnYear(now); err != nil {
		return Record{}, err
	}
	return l.spoolRecord(p, now, nil)
}

// turnYear opens the branch of a later year with a state record. A clock that
// moved back never reopens an earlier one.
func (l *Log) turnYear(now time.Time) error {
	year, _ := l.names.year(l.head.Branch)
	if !l.names.yearly() || now.Year() <= year {
		return nil
	}
	old, next := l.head, position{Branch: l.names.name(now.Year()), Base: l.head.index()}
	if old.Frontier.Size == 0 {
		l.head = next // nothing was ever recorded under the earlier name
		return nil
	}
	signed, err := checkpoint{
		Origin: origin(l.o.Writer, old.Branch), Size: old.Frontier.Size, Root: old.Frontier.root(),
	}.sign(l.o.Key)
	if err != nil {
		return err
	}
	var body State
	if l.o.State != nil {
		if body.State, err = l.o.State(); err != nil {
			return fmt.Errorf("fold state for branch %s: %w", next.Branch, err)
		}
	}
	p, err := prepare(Draft{Type: TypeState, Key: []string{next.Branch}, Predicate: body})
	if err != nil {
		return err
	}
	l.head = next
	_, err = l.spoolRecord(p, now, &Previous{Branch: old.Branch, Records: next.Base, Checkpoint: string(signed)})
	if err != nil {
		l.head = old
	}
	return err
}

// spoolRecord signs the draft at the head and writes it to the spool. The record
// it returns is what every reader will see.
func (l *Log) spoolRecord(p prepared, now time.Time, previous *Previous) (Record, error) {
	r := Record{Index: l.head.index(), Type: p.Type, Subjects: p.Subjects, Predicate: p.body, Header: Header{
		ID: p.id.String(), Key: p.Key, Writer: l.o.Writer, Branch: l.head.Branch, Seq: l.head.Frontier.Size,
		Epoch: l.state.Epoch, Time: now, Environment: p.Environment, Deployment: p.Deployment, Previous: previous,
		Blobs: p.blobs,
	}}
	r.Gap = r.Epoch > 1 && r.Index == l.state.EpochStart
	if r.Seq >= maxRecords {
		return Record{}, &StalledError{What: "branch " + r.Branch + " is full", Hint: "continue on another branch"}
	}
	var item spooled
	for i, b := range p.Draft.Blobs {
		r.Blobs[i].Ref = blobPrefix + now.Format("2006-01")
		item.Blobs = append(item.Blobs, spooledBlob{Ref: r.Blobs[i].Ref, Digest: r.Blobs[i].Digest, Data: b.Data})
	}
	for i, k := range p.Draft.Keep {
		c, err := l.keepCommit(k.Ref, p.trees[i], r.Header)
		if err != nil {
			return Record{}, err
		}
		item.Keep = append(item.Keep, spooledKeep{Ref: k.Ref, Commit: c.data, Files: k.Files})
		r.Keep = append(r.Keep, KeepRef{Ref: k.Ref, Commit: c.hash.String()})
	}
	payload, err := encodeStatement(r)
	if err != nil {
		return Record{}, err
	}
	if item.Envelope, err = seal(l.o.Key, payload); err != nil {
		return Record{}, err
	}
	e, err := newSpoolEntry(r, item.Envelope)
	if err != nil {
		return Record{}, err
	}
	if err := l.spool.add(e, item); err != nil {
		if errors.Is(err, errInDoubt) {
			l.broken = err
		}
		return Record{}, err
	}
	l.head.Frontier.add(e.leaf)
	l.ids.add(e.id, r.Index)
	return r, nil
}

// keepCommit makes the parentless commit that a keep ref will point to.
func (l *Log) keepCommit(ref string, tree plumbing.Hash, h Header) (object, error) {
	c, err := commit{
		tree: tree, writer: h.Writer, when: h.Time,
		message: fmt.Sprintf("Keep %s\n\n%s", ref, trailers(h.Writer, h.Epoch, h.Branch, fmt.Sprint(h.Seq))),
	}.sign(l.o.Key)
	if err != nil {
		return object{}, fmt.Errorf("keep %s: %w", ref, err)
	}
	return c, nil
}

// Durable waits until the record and all before it survive a loss of power. One
// flush serves all who wait: the first makes it, the others wait for it or, where
// it began before their record was added, for the next. After a flush that failed
// nothing can be known of what it should have brought to the disk: Durable fails
// for those records, and every later Add, until the log is opened again.
func (l *Log) Durable(ctx context.Context, index uint64) error {
	if done, err := l.isDurable(index); done || err != nil {
		return err
	}
	select {
	case l.flushing <- struct{}{}:
		defer func() { <-l.flushing }()
	case <-ctx.Done():
		return fmt.Errorf("make record %d durable: %w", index, ctx.Err())
	}
	if done, err := l.isDurable(index); done || err != nil { // by the flush that was waited for
		return err
	}
	if err := l.flush(); err != nil {
		return fmt.Errorf("make record %d durable: %w", index, err)
	}
	l.at("durable")
	return nil
}

// isDurable fails when the record will never be.
func (l *Log) isDurable(index uint64) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch head := l.head.index(); {
	case index < l.spool.durable:
		return true, nil
	case index >= head:
		return false, fmt.Errorf("make record %d durable: there are %d records", index, head)
	case l.broken != nil:
		return false, fmt.Errorf("make record %d durable: %w", index, l.broken)
	}
	return false, nil
}

// flush makes durable what was added so far, of which something is not. l.flushing
// is held; others can add meanwhile.
func (l *Log) flush() error {
	l.mu.Lock()
	w := l.spool.unflushed()
	l.mu.Unlock()
	err := w.run()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		err = l.spool.flushed(w.upTo)
	}
	if err != nil {
		l.broken = inDoubt(err)
		l.o.Logger.Error("evidence cannot be made durable, restart the agent", "error", err)
		l.notify()
		return l.broken
	}
	return nil
}

// settle makes everything durable that was added so far.
func (l *Log) settle(ctx context.Context) error {
	l.mu.Lock()
	head, durable := l.head.index(), l.spool.durable
	l.mu.Unlock()
	if head <= durable {
		return nil
	}
	return l.Durable(ctx, head-1)
}

// at tells a test how far a record has come.
func (l *Log) at(point string) {
	if l.o.At != nil {
		l.o.At(point)
	}
}

// trailers end the message of every commit. The verifier relies on Branch and
// Log-Index of commits on keep and blob refs: they show that a branch once went
// on further than it does.
func trailers(writer string, epoch int, branch, records string) string {
	return fmt.Sprintf("Writer: %s\nEpoch: %d\nBranch: %s\nLog-Index: %s\n", writer, epoch, branch, records)
}

// recordAt reads one record back. l.mu is held.
func (l *Log) recordAt(index uint64) (Record, error) {
	if e, ok := l.spool.find(index); ok {
		return e.record()
	}
	var found Record
	err := l.eachBranch(func(branch string, base, size uint64) error {
		if index < base || index >= base+size {
			return nil
		}
		return l.archive.read(branch, index-base, index-base+1, func(_ uint64, line []byte) (err error) {
			found, err = openRecord(line, l.o.Trusted, base)
			return err
		})
	})
	if err != nil {
		return Record{}, fmt.Errorf("read record %d: %w", index, err)
	}
	if found.Type == "" {
		return Record{}, fmt.Errorf("read record %d: not held here", index)
	}
	return found, nil
}

// hexDigest cuts "sha256:" off.
func hexDigest(digest string) (string, error) {
	text, ok := strings.CutPrefix(digest, "sha256:")
	if raw, err := hex.DecodeString(text); !ok || err != nil || len(raw) != 32 {
		return "", fmt.Errorf("digest %q: want sha256: and 64 hex digits", digest)
	}
	return text, nil
}
