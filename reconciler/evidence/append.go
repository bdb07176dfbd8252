package evidence

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
)

// Append signs a record and stores it durably; when it returns nil, the record
// survives a crash and Run will publish it. The record's time is the clock's,
// as it is; its place is given by Index, which only grows. A draft whose ID is
// among the newest 65,536 records returns that record and adds nothing.
//
// On an error nothing was recorded and the caller must not act. [ErrSpoolFull]
// passes when the remote takes records again; a full disk passes when there is
// room. After an error of unknown outcome every later Append fails until the
// log is opened again.
func (l *Log) Append(ctx context.Context, d Draft) (Record, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, fmt.Errorf("append record: %w", err)
	}
	if err := d.check(); err != nil {
		return Record{}, fmt.Errorf("append record: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	r, err := l.appendLocked(d)
	if err != nil {
		return Record{}, fmt.Errorf("append %s record: %w", d.Type, err)
	}
	l.signal()
	return r, nil
}

func (l *Log) appendLocked(d Draft) (Record, error) {
	if l.closing {
		return Record{}, ErrClosed
	}
	if l.broken != nil {
		return Record{}, l.broken
	}
	if index, ok := l.ids.find(eventID(d.Type, d.Environment, d.Deployment, d.Key)); ok {
		return l.recordAt(index)
	}
	if len(l.spool.entries) >= l.o.SpoolRecords || l.spool.bytes >= l.o.SpoolBytes {
		full := fmt.Errorf("%d records, %d bytes wait for the audit remote: %w", len(l.spool.entries), l.spool.bytes, ErrSpoolFull)
		return Record{}, errors.Join(full, l.lastErr)
	}
	now := l.o.Now().UTC()
	if err := l.turnYear(now); err != nil {
		return Record{}, err
	}
	return l.spoolRecord(d, now, nil)
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
	l.head = next
	_, err = l.spoolRecord(Draft{Type: TypeState, Key: []string{next.Branch}, Predicate: body}, now, &Previous{
		Branch: old.Branch, Records: next.Base, Checkpoint: string(signed),
	})
	if err != nil {
		l.head = old
	}
	return err
}

// spoolRecord signs the draft at the head and stores it.
func (l *Log) spoolRecord(d Draft, now time.Time, previous *Previous) (Record, error) {
	item := spooled{Index: l.head.index()}
	h := Header{
		ID:  eventID(d.Type, d.Environment, d.Deployment, d.Key),
		Key: d.Key, Writer: l.o.Writer, Branch: l.head.Branch, Seq: l.head.Frontier.Size,
		Epoch: l.state.Epoch, Gap: l.state.Epoch > 1 && item.Index == l.state.EpochStart,
		Time: now, Environment: d.Environment, Deployment: d.Deployment, Previous: previous,
	}
	if h.Seq >= maxRecords {
		return Record{}, &StalledError{What: "branch " + h.Branch + " is full", Hint: "continue on another branch"}
	}
	for _, b := range d.Blobs {
		ref := BlobRef{
			Name: b.Name, Digest: digestOf(b.Data), Size: int64(len(b.Data)),
			Ref:    blobPrefix + now.Format("2006-01"),
			Object: plumbing.ComputeHash(plumbing.BlobObject, b.Data).String(),
		}
		h.Blobs = append(h.Blobs, ref)
		item.Blobs = append(item.Blobs, spooledBlob{BlobRef: ref, Data: b.Data})
	}
	for _, k := range d.Keep {
		kept, err := l.keepCommit(k, h)
		if err != nil {
			return Record{}, err
		}
		item.Keep = append(item.Keep, kept)
		h.Keep = append(h.Keep, KeepRef{Ref: k.Ref, Commit: plumbing.ComputeHash(plumbing.CommitObject, kept.Commit).String()})
	}
	payload, err := encodeStatement(d.Type, h, d.Subjects, d.Predicate)
	if err != nil {
		return Record{}, err
	}
	if item.Envelope, err = seal(l.o.Key, payload); err != nil {
		return Record{}, err
	}
	r, err := parseStatement(payload, l.head.Base) // what every reader will see
	if err != nil {
		return Record{}, err
	}
	if err := l.spool.add(item, r); err != nil {
		var undone *undoneError
		if errors.As(err, &undone) {
			l.broken = fmt.Errorf("evidence spool is in doubt, restart the agent: %w", err)
		}
		return Record{}, err
	}
	l.head.Frontier.add(l.spool.entries[len(l.spool.entries)-1].leaf)
	l.ids.add(r.ID, r.Index)
	return r, nil
}

// keepCommit makes the parentless commit that a keep ref will point to.
func (l *Log) keepCommit(k Keep, h Header) (spooledKeep, error) {
	objects, err := fileTree(k.Files)
	if err != nil {
		return spooledKeep{}, fmt.Errorf("keep %s: %w", k.Ref, err)
	}
	c, err := commit{
		tree: objects[len(objects)-1].hash, writer: h.Writer, when: h.Time,
		message: fmt.Sprintf("Keep %s\n\n%s", k.Ref, trailers(h.Writer, h.Epoch, h.Branch, fmt.Sprint(h.Seq))),
	}.sign(l.o.Key)
	if err != nil {
		return spooledKeep{}, fmt.Errorf("keep %s: %w", k.Ref, err)
	}
	return spooledKeep{Ref: k.Ref, Commit: c.data, Files: k.Files}, nil
}

// trailers end the message of every commit. The verifier relies on Branch and
// Log-Index of commits on keep and blob refs: they show that a branch once went
// on further than it does.
func trailers(writer string, epoch int, branch, records string) string {
	return fmt.Sprintf("Writer: %s\nEpoch: %d\nBranch: %s\nLog-Index: %s\n", writer, epoch, branch, records)
}

// recordAt reads one record back. l.mu is held.
func (l *Log) recordAt(index uint64) (Record, error) {
	if n := len(l.spool.entries); n > 0 && index >= l.spool.entries[0].Index {
		e := l.spool.entries[index-l.spool.entries[0].Index]
		return e.Record, nil
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
	text, ok := cutDigest(digest)
	if raw, err := hex.DecodeString(text); !ok || err != nil || len(raw) != 32 {
		return "", fmt.Errorf("digest %q: want sha256: and 64 hex digits", digest)
	}
	return text, nil
}
