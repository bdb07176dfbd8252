package backup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"filippo.io/age"

	"github.com/purser-gitops/purser/backup/filestore"
	"github.com/purser-gitops/purser/backup/postgres"
	"github.com/purser-gitops/purser/backup/seal"
	"github.com/purser-gitops/purser/backup/store"
)

// A Level says how thoroughly a backup was looked at. Levels are ordered as texts are; the empty one is none.
type Level string

const (
	// L0: the recorded manifest and every object that it names are in the store, unchanged as far as the store tells, and locked.
	L0 Level = "L0"
	// L1: everything was read to its end, opened with the keys, and parsed; all hashes are the recorded ones.
	L1 Level = "L1"
	// L2: it was restored, and database and filestore are what they were.
	L2 Level = "L2"
)

// A Finding is something by which a backup is not what it should be.
type Finding struct {
	Level  Level  `json:"level"`  // of the check that found it
	Object string `json:"object"` // key of an object of the backup, or a part of what was restored: database …, filestore …
	What   string `json:"what"`
	Remedy string `json:"remedy"`
}

func (f Finding) String() string { return fmt.Sprintf("%s: %s (%s)", f.Object, f.What, f.Remedy) }

// maxFindings bounds what is kept of findings, and of notes; the rest is counted.
const maxFindings = 200

// Findings are kept up to a number, and counted.
type Findings struct {
	Findings []Finding `json:"findings,omitempty"` // at most 200
	Further  int       `json:"further,omitempty"`  // so many more
	Notes    []Finding `json:"notes,omitempty"`    // what is no fault of the backup, but should be known; at most 200
}

// findings are written by several goroutines.
type findings struct {
	mu sync.Mutex
	*Findings
}

func (f *findings) add(level Level, object, remedy, format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.Findings.Findings) == maxFindings {
		f.Further++
		return
	}
	f.Findings.Findings = append(f.Findings.Findings, Finding{level, object, Short(fmt.Sprintf(format, args...)), remedy})
}

func (f *findings) note(level Level, object, remedy, format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.Notes) < maxFindings {
		f.Notes = append(f.Notes, Finding{level, object, Short(fmt.Sprintf(format, args...)), remedy})
	}
}

// Short bounds a text that quotes others, so that it fits into a record.
func Short(text string) string {
	if len(text) > maxText {
		return strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}

// found says whether a check of a level, or of one above it, has found something.
func (f *findings) found(level Level) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.ContainsFunc(f.Findings.Findings, func(finding Finding) bool { return finding.Level >= level })
}

// Err is the first of the findings as an error, nil for none. It is [ErrUnfit] unless all that was found is that a drill missed
// its objectives.
func (f Findings) Err() error {
	if len(f.Findings) == 0 {
		return nil
	}
	i := slices.IndexFunc(f.Findings, func(found Finding) bool { return found.Object != missedRPO && found.Object != missedRTO })
	if i < 0 {
		return errors.New(f.Findings[0].What)
	}
	return fmt.Errorf("%w: %s; findings: %d", ErrUnfit, f.Findings[i], len(f.Findings)+f.Further)
}

// What a drill that misses an objective is found by. It says nothing against the backup.
const (
	missedRPO = "RPO"
	missedRTO = "RTO"
)

// ErrUnfit says that a backup is not what it should be.
var ErrUnfit = errors.New("the backup is unfit")

// A Verification says what a backup was found to be.
type Verification struct {
	Environment string       `json:"environment"`
	ID          ID           `json:"id"`
	Manifest    store.Object `json:"manifest"` // that was recorded
	Asked       Level        `json:"asked"`
	// Reached is the highest level that was carried through; one in which something was found is not reached. A restore
	// reads as well: where it finds something, only L0 is reached.
	Reached  Level     `json:"reached"`
	Began    time.Time `json:"began"`
	Ended    time.Time `json:"ended"`
	Objects  int       `json:"objects"` // that were looked at
	Bytes    int64     `json:"bytes"`   // sealed, that were read
	Segments []Segment `json:"segments"`
	Findings
	// Unfinished says why not all was looked at; empty if it was. The backup may be good.
	Unfinished string `json:"unfinished,omitempty"`
}

// Passed says whether everything that was asked for was done, and nothing was found.
func (v *Verification) Passed() bool {
	return v.Unfinished == "" && len(v.Findings.Findings) == 0 && v.Reached >= v.Asked && v.Asked >= L0
}

// SegmentObjects is the part of a verification in which the store is asked for every object.
const SegmentObjects = "objects"

// examiner reads and looks at versions. Its Stat fails with [store.ErrMissing] or [store.ErrChanged] if the version is not
// there as the object says, in the latter case together with what is there.
type examiner interface {
	opener
	Stat(ctx context.Context, o store.Object) (store.Info, error)
	Now(ctx context.Context) (time.Time, error)
}

// A Stored is a backup as the evidence log knows it, where it is, and the keys that open it.
type Stored struct {
	Store       examiner
	Environment string
	ID          ID
	Manifest    store.Object         // as [Write] returned it
	Locks       map[string]time.Time // ends of locks that were extended, by key
	Identities  []age.Identity       // one of which opens every stream; level 0 needs none
}

// ProofOptions say how a backup is proven.
type ProofOptions struct {
	// Scratch is a folder that every user may pass through, with a path of 70 bytes at most. L1 takes some 400 bytes there for
	// each content of the filestore, L2 the size of dump, database and filestore.
	Scratch  string
	Programs postgres.Tools
	Jobs     int // processes that restore a database; 0 means 2
	// Absent is how many contents of attachments the backup may lack because the filestore did not have them either.
	Absent int64
	// Empty says that there need not be any business.
	Empty bool
	// RPO is after how much time without business before the snapshot that is noted; 0 for never.
	RPO      time.Duration
	Progress func(Progress)   // called about every second, of sealed bytes; nil for none
	Now      func() time.Time // nil means time.Now

	every time.Duration                   // between two calls of Progress
	free  func(dir string) (int64, error) // bytes; nil means those of the file system
}

func (o ProofOptions) withDefaults() ProofOptions {
	if o.Jobs <= 0 {
		o.Jobs = 2
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.free == nil {
		o.free = freeBytes
	}
	return o
}

// Verify proves a backup up to a level. What is wrong with the backup is in the Verification, also when there is an error:
// that says that not everything could be looked at, such as [context.DeadlineExceeded] or an unreachable store, and that the
// level is not reached. What is no fault of the backup is an error as well: [store.ErrSkew] for clocks that differ, and
// [seal.ErrIdentity] for identities none of which opens it. It changes nothing in the store.
func Verify(ctx context.Context, b Stored, level Level, o ProofOptions) (*Verification, error) {
	o = o.withDefaults()
	v := &Verification{Environment: b.Environment, ID: b.ID, Manifest: b.Manifest, Asked: level, Began: o.Now().UTC()}
	p := newProof(b, o, &v.Findings, &v.Segments)
	stop := p.meter.report(o.Progress, o.every)
	defer stop()
	err := verify(ctx, p, v)
	v.Bytes, _ = p.meter.totals()
	v.Objects, v.Ended = int(p.objects.Load()), o.Now().UTC()
	if err != nil {
		v.Unfinished = Short(err.Error())
		return v, fmt.Errorf("verify backup %s: %w", b.ID, err)
	}
	return v, nil
}

func verify(ctx context.Context, p *proof, v *Verification) error {
	switch v.Asked {
	case L0, L1, L2:
	default:
		return fmt.Errorf("%q is no level: they are %s, %s and %s", string(v.Asked), L0, L1, L2)
	}
	if err := p.segment(ctx, SegmentObjects, p.present); err != nil {
		return err
	}
	if !p.findings.found(L0) {
		v.Reached = L0
	}
	if p.m == nil || v.Asked == L0 {
		return nil
	}
	check := p.readable
	if v.Asked == L2 {
		check = p.restorable
	}
	if err := check(ctx); err != nil {
		return err
	}
	if v.Reached == L0 && !p.findings.found(L1) {
		v.Reached = v.Asked
	}
	return nil
}

// unfit says that an error is about what is stored, and not about the way there or the keys at hand.
func unfit(err error) bool {
	incomplete := (*filestore.IncompleteError)(nil)
	return damaged(err) || errors.Is(err, seal.ErrCorrupt) || errors.Is(err, errForeign) || errors.Is(err, filestore.ErrIndex) ||
		errors.Is(err, postgres.ErrArchive) || errors.As(err, &incomplete)
}
