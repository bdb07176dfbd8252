// Package store keeps the objects that backups are made of: in S3 with Object Lock ([S3]) or in a folder ([Directory]).
//
// An object is written once, under a key that nobody has used, and is from then on a version that is never changed. What
// an [Object] says of it goes into a backup's manifest; everything later is judged by that record and never by what the
// store says of itself.
//
//   - Create is conditional and atomic: either a whole object appears or none does, and one that is there is left alone.
//     Its answer may get lost; then Create finds out what became of the object.
//   - Open never ends well on bytes that differ from the record: it returns [io.EOF] only once size and SHA-256 are right.
//   - Stat tells what is there now and fails with [ErrChanged] if that is not what the record says: another size or
//     checksum, a lock that ends earlier, a delete marker or a newer version on top.
//   - List is complete or ends with an error.
//   - Nothing here shortens a lock or goes around one.
//
// A key is made of elements of letters, digits and "-", "_", "." that are separated by "/". It is never the folder of
// another key. Keys are relative to the store's prefix.
package store

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
)

var (
	// ErrExists says that there is an object under the key already.
	ErrExists = errors.New("the object exists")
	// ErrMissing says that the version is not there.
	ErrMissing = errors.New("the object is missing")
	// ErrChanged says that what is there is not what was written.
	ErrChanged = errors.New("the object is not what was written")
	// ErrLocked says that a lock forbids it.
	ErrLocked = errors.New("the object is locked")
	// ErrDenied says that the store does not let these credentials do it.
	ErrDenied = errors.New("the store denies it to these credentials")
	// ErrUnfit says that the bucket cannot keep backups: it has no versions or no Object Lock.
	ErrUnfit = errors.New("the bucket is unfit for backups")
	// ErrDetached says that the folder of a store is not at its path any more.
	ErrDetached = errors.New("the folder of the store was moved or unmounted since it was opened")
	// ErrUnanswered says that the store was silent for so long that it was given up.
	ErrUnanswered = errors.New("the store does not answer")
	// ErrSkew says that the store's clock and ours differ so much that locks would end at a wrong time.
	ErrSkew = errors.New("the clocks of the store and of this machine differ")
)

// Skew is [ErrSkew] with what two clocks show at the same time: the store's, and this machine's.
func Skew(there, here time.Time) error {
	what := "ahead of"
	if there.Before(here) {
		what = "behind"
	}
	return fmt.Errorf("%w: the store's shows %s, which is %s %s this machine's: set the wrong one right, and try again", ErrSkew,
		there.UTC().Format(time.RFC3339), there.Sub(here).Abs().Round(time.Second), what)
}

// An Object is one version as it was written.
type Object struct {
	Key         string    `json:"key"`
	Version     string    `json:"version"`
	Size        int64     `json:"size"`                 // bytes
	SHA256      string    `json:"sha256,omitempty"`     // of the content, hexadecimal; empty in lists
	Parts       string    `json:"parts,omitempty"`      // how S3 sums up an object of several parts: SHA-256 of theirs and their count
	LockedUntil time.Time `json:"lockedUntil,omitzero"` // zero without a lock, and in lists
}

// A Mode is how strict a lock is.
type Mode string

const (
	// Unlocked objects can be deleted at any time.
	Unlocked Mode = ""
	// Governance can be shortened by those with a special permission, which Purser never uses.
	Governance Mode = "governance"
	// Compliance can be shortened by nobody, nor can the object be deleted before its end.
	Compliance Mode = "compliance"
)

// A Lock protects one version until a time, in whole seconds.
type Lock struct {
	Mode  Mode      `json:"mode,omitempty"`
	Until time.Time `json:"until,omitzero"`
}

// whole rounds the end of a lock up to the second, which is what all stores keep, and checks it.
func (l Lock) whole(now time.Time) (Lock, error) {
	switch {
	case l.Mode == Unlocked && l.Until.IsZero():
		return l, nil
	case l.Mode != Governance && l.Mode != Compliance:
		return l, fmt.Errorf("a lock until %s needs a mode, %s or %s, not %q", l.Until.Format(time.RFC3339), Governance, Compliance, l.Mode)
	case !l.Until.After(now):
		return l, fmt.Errorf("a lock until %s has ended: at the store it is %s", l.Until.Format(time.RFC3339), now.Format(time.RFC3339))
	}
	l.Until = ceil(l.Until)
	return l, nil
}

func ceil(t time.Time) time.Time {
	if whole := t.UTC().Truncate(time.Second); whole.Before(t) {
		return whole.Add(time.Second)
	}
	return t.UTC().Truncate(time.Second)
}

// Info is what a store says of a version now.
type Info struct {
	Size         int64
	SHA256       string // as [Object.SHA256], if the store knows it: S3 does for objects of one part
	Parts        string // as [Object.Parts]
	Lock         Lock
	DeleteMarker bool   // hides the object from those who do not ask for the version
	Newer        string // version that is the current one instead
}

// differs says in which ways the version is not what the record says; what a record leaves out is not compared.
func (i Info) differs(o Object) error {
	var what []string
	add := func(format string, args ...any) { what = append(what, fmt.Sprintf(format, args...)) }
	if i.Size != o.Size {
		add("it has %d bytes instead of %d", i.Size, o.Size)
	}
	switch {
	case o.SHA256 == "":
	case i.SHA256 == "" && i.Parts == "":
		add("the store knows no checksum of it")
	case i.SHA256 != "" && i.SHA256 != o.SHA256 || i.Parts != o.Parts:
		add("its checksum is another one")
	}
	switch until := i.Lock.Until; {
	case o.LockedUntil.IsZero():
	case i.Lock.Mode == Unlocked:
		add("it is not locked")
	case until.Before(o.LockedUntil.Truncate(time.Second)):
		add("its lock ends %s instead of %s", until.Format(time.RFC3339), o.LockedUntil.Format(time.RFC3339))
	}
	if i.DeleteMarker {
		add("a delete marker hides it")
	}
	if i.Newer != "" {
		add("version %s has taken its place", i.Newer)
	}
	if what == nil {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrChanged, strings.Join(what, "; "))
}

// setSum takes a SHA-256 as S3 writes it: in base64 of the content, or of the parts' checksums and their count.
func (i *Info) setSum(sum string) {
	if strings.Contains(sum, "-") {
		i.Parts = sum
	} else if raw, err := base64.StdEncoding.DecodeString(sum); err == nil && len(raw) > 0 {
		i.SHA256 = hex.EncodeToString(raw)
	}
}

// longest bounds a key, in bytes: S3 has 1024 for it together with the store's prefix.
const longest = 700

func checkKey(key string) error {
	ok := key != "" && len(key) <= longest
	for element := range strings.SplitSeq(key, "/") {
		ok = ok && element != "" && element[0] != '.' && len(element) <= 200 && plain(element)
	}
	if !ok {
		return fmt.Errorf("%.100q is no key: it has elements of letters, digits, '-', '_' and '.', which do not begin with '.', between '/'", key)
	}
	return nil
}

// checkPrefix checks the beginning of keys; it may end anywhere.
func checkPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	return checkKey(strings.TrimSuffix(prefix, "/"))
}

func plain(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
	})
}

func checkObject(o Object) error {
	if o.Version == "" {
		return fmt.Errorf("object %s: no version is given", o.Key)
	}
	return checkKey(o.Key)
}

// within bounds a call that moves little, however slowly it moves.
func within(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %s: %w", limit, context.DeadlineExceeded))
}
