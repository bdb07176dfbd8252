package evidence

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Options configure a log. Dir, Remote.URL, Writer, Key and Trusted are
// required; the rest have defaults.
type Options struct {
	Dir     string // of this log alone; holds the spool and a copy of what is published
	Remote  Remote
	Branch  string // default "audit/<year>"; below audit/, may hold <year> and <writer>
	Writer  string // name of this log's only writer
	Key     *Key
	Trusted *Trusted // must include Key
	// Init allows a new log where the audit remote has no branch of it. Without
	// it an empty remote is refused: it may be the wrong or an emptied one.
	Init bool
	// Pinned is a signed checkpoint that the log must contain, as the branch's file checkpoint has it; nil for none. A log that
	// was set back to before it is not opened.
	Pinned []byte
	// State gives what the caller folded from all records so far; it opens the
	// branch of a new year. It is called inside Add, on its goroutine, and must
	// not call the log. A caller that adds and folds under one lock of its own
	// can read its fold there without taking the lock again.
	State func() (json.RawMessage, error)

	SpoolRecords int           // unpublished records at most; default 10,000
	SpoolBytes   int64         // default 256 MiB
	Timeout      time.Duration // of one exchange with the remote; default 1 min
	RetryMin     time.Duration // pause after a first failed push; default 1 s, doubled up to
	RetryMax     time.Duration // default 1 min
	Now          func() time.Time
	Logger       *slog.Logger
	Registerer   prometheus.Registerer // nil for no metrics
	// At, if not nil, is called at the points that the package comment names,
	// on the goroutine that got there: a test may end the process there.
	At func(point string)
}

// Log is one writer's evidence. It is safe for concurrent use.
type Log struct {
	o        Options
	names    branchNames
	lock     *os.File
	remote   *remote
	metrics  *metrics
	archive  *archive
	keeps    keepStore
	wake     chan struct{} // capacity 1: something to publish, or closing
	flushing chan struct{} // capacity 1: held by the one who flushes the spool
	pace     pace
	pin      *pin         // nil for none; never changes
	known    *pushSession // refs and capabilities of the remote after the last batch, or nil; used by Run alone

	mu       sync.Mutex
	state    state
	head     position // after the newest record; no Tip, no Spine
	spool    *spool
	ids      idWindow
	seen     uint64        // records below are on the remote; state notes it a little later
	shown    uint64        // records below were on the remote when the log was opened, or may have been; never changes
	broken   error         // why nothing can be added any more
	lastErr  error         // of the newest publishing attempt
	failedAt time.Time     // of the first that failed since the last that did not
	lastTime time.Time     // of the newest successful one
	changed  chan struct{} // closed and replaced when any of this changes
	run      *runner       // nil until Run is called
	closing  bool          // no further records
	closed   bool
}

// runner lets Close end Run.
type runner struct {
	cancel  context.CancelFunc
	closing chan struct{} // closed when the log is closing
	done    chan struct{}
}

// Status is what a health page shows of a log.
type Status struct {
	Branch      string
	Epoch       int
	Records     uint64    // added, over all branches
	Published   uint64    // of these seen on the remote
	Spooled     int       // those that are not, and those that were seen just now
	LastPublish time.Time // zero before the first
	Err         error     // of the newest publishing attempt; a *StalledError needs a human
	FailedAt    time.Time // of the first attempt that failed since the last that did not; zero when that was the newest
}

func (o Options) withDefaults() Options {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&o.Timeout, time.Minute)
	set(&o.RetryMin, time.Second)
	set(&o.RetryMax, time.Minute)
	if o.Branch == "" {
		o.Branch = "audit/" + yearWord
	}
	if o.SpoolRecords == 0 {
		o.SpoolRecords = 10_000
	}
	if o.SpoolBytes == 0 {
		o.SpoolBytes = 256 << 20
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func (o Options) check() error {
	switch {
	case o.Dir == "" || o.Remote.URL == "":
		return errors.New("evidence: directory and audit remote are required")
	case !namePattern.MatchString(o.Writer):
		return fmt.Errorf("evidence: writer %q is not a name", o.Writer)
	case o.Key == nil || o.Trusted == nil:
		return errors.New("evidence: signing key and trusted keys are required")
	}
	if _, err := o.Trusted.find(o.Key.ID(), o.Writer); err != nil {
		return &StalledError{What: "the signing key would not be believed", Err: err, Hint: "add its public line to the trusted keys"}
	}
	return branchNames{o.Branch, o.Writer}.check()
}

// Open opens the log in o.Dir. In a new directory it fetches and verifies the
// newest branch and continues it in a new epoch; where the remote has none it
// returns [ErrNotInitialized] unless o.Init. In a known directory it works
// without the remote. It returns a *[StalledError] when the remote shows
// another history than the directory, or is empty against it, and [ErrLocked]
// when another process has the directory. Close the log to free it.
func Open(ctx context.Context, o Options) (*Log, error) {
	o = o.withDefaults()
	if err := o.check(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("create evidence directory: %w", err)
	}
	lock, err := lockDir(o.Dir)
	if err != nil {
		return nil, err
	}
	l := &Log{
		o: o, lock: lock,
		names:    branchNames{o.Branch, o.Writer},
		archive:  &archive{dir: filepath.Join(o.Dir, "records")},
		keeps:    keepStore{dir: filepath.Join(o.Dir, "keep")},
		wake:     make(chan struct{}, 1),
		flushing: make(chan struct{}, 1),
		pace:     pace{linger: pushLinger, interval: pushInterval},
		changed:  make(chan struct{}),
	}
	if err := l.open(ctx); err != nil {
		l.free()
		return nil, err
	}
	return l, nil
}

func (l *Log) open(ctx context.Context) (err error) {
	for _, dir := range []string{"", "keep"} {
		if err := sweep(filepath.Join(l.o.Dir, dir)); err != nil {
			return err
		}
	}
	if l.remote, err = newRemote(l.o.Remote, l.o.Timeout); err != nil {
		return err
	}
	if err := l.readPin(); err != nil {
		return err
	}
	l.state, err = loadState(l.o.Dir)
	known := !errors.Is(err, fs.ErrNotExist)
	if err != nil && known {
		return err
	}
	if l.spool, err = openSpool(filepath.Join(l.o.Dir, "spool"), l.state.Published.index(), l.o.Trusted); err != nil {
		return err
	}
	if known {
		err = l.resume(ctx)
	} else {
		err = l.begin(ctx)
		l.shown = l.head.index()
	}
	if err != nil {
		return err
	}
	if l.metrics, err = newMetrics(l.o.Registerer, l); err != nil {
		return err
	}
	l.signal()
	return nil
}

// resume continues from the directory. An unreachable remote does not stop it.
func (l *Log) resume(ctx context.Context) error {
	p := l.state.Published
	if l.state.Writer != l.o.Writer {
		return &StalledError{
			What: fmt.Sprintf("evidence directory %s belongs to writer %q, not %q", l.o.Dir, l.state.Writer, l.o.Writer),
			Hint: "give every writer a directory of its own",
		}
	}
	if _, ok := l.names.year(p.Branch); !ok {
		return &StalledError{
			What: fmt.Sprintf("evidence directory %s is on branch %s, which is not of the form %s", l.o.Dir, p.Branch, l.o.Branch),
			Hint: "restore the branch setting, or start a log of its own in a new directory",
		}
	}
	acknowledged := l.spool.durable
	if err := l.restore(); err != nil {
		return err
	}
	if n := l.head.index(); acknowledged > n {
		return damaged(l.spool.dir, fmt.Errorf("%d records were acknowledged, it ends after %d", acknowledged, n))
	}
	if err := l.checkPin(); err != nil {
		return err
	}
	l.shown = p.index()
	if l.state.Pending != nil {
		l.shown += uint64(l.state.Pending.Records) // unless the remote says otherwise
	}
	refs, err := l.remote.list(ctx)
	if err != nil {
		l.o.Logger.Warn("audit remote is unreachable, recording to the spool", "error", err)
		l.lastErr = err
		return nil
	}
	arrived, err := l.checkTip(refs)
	if err != nil {
		return l.missing(ctx, refs)
	}
	if !arrived {
		l.shown = p.index()
	}
	return nil
}

// restore drops spooled records that were published, and derives the head and
// the recent IDs.
func (l *Log) restore() error {
	if err := l.archive.open(l.state.Published.Branch, l.state.Published.Frontier.Size); err != nil {
		return err
	}
	published := l.state.Published.index()
	n := 0
	for n < len(l.spool.entries) && l.spool.entries[n].Index < published {
		n++
	}
	if err := l.spool.drop(n); err != nil {
		return err
	}
	if err := l.recallIDs(); err != nil {
		return err
	}
	l.head = position{Branch: l.state.Published.Branch, Base: l.state.Published.Base, Frontier: l.state.Published.Frontier.clone()}
	for _, e := range l.spool.entries {
		if e.Branch != l.head.Branch {
			l.head = position{Branch: e.Branch, Base: l.head.index()}
		}
		if e.Index != l.head.index() || e.Seq != l.head.Frontier.Size {
			return damaged(e.segment.file.Name(), fmt.Errorf("record %d follows record %d", e.Index, l.head.index()-1))
		}
		l.head.Frontier.add(e.leaf)
		l.ids.add(e.id, e.Index)
	}
	l.spool.durable = max(l.spool.durable, l.head.index()) // published or read from disk
	return nil
}

// recallIDs reads the IDs of the newest published records.
func (l *Log) recallIDs() error {
	first := uint64(0)
	if n := l.state.Published.index(); n > idWindowSize {
		first = n - idWindowSize
	}
	return l.eachBranch(func(branch string, base, size uint64) error {
		from := min(max(base, first)-base, size)
		ids, err := l.archive.ids(branch, from, size)
		for i, id := range ids {
			l.ids.add(id, base+from+uint64(i))
		}
		return err
	})
}

// eachBranch lists the published branches held here, oldest first.
func (l *Log) eachBranch(fn func(branch string, base, size uint64) error) error {
	for i, b := range l.state.Branches {
		end := l.state.Published.index()
		if i+1 < len(l.state.Branches) {
			end = l.state.Branches[i+1].Base
		}
		if err := fn(b.Branch, b.Base, end-b.Base); err != nil {
			return err
		}
	}
	return nil
}

// checkTip compares the remote's branch with what this log left there. It says
// whether the pending push has arrived. Anything else on the branch is not this
// log's: it stalls.
func (l *Log) checkTip(refs refs) (arrived bool, err error) {
	p := l.state.Published
	tip := refs["refs/heads/"+p.Branch]
	if l.state.Pending != nil && tip == l.state.Pending.hash() {
		return true, nil
	}
	if tip == p.Tip {
		return false, nil
	}
	return false, l.moved(refs)
}

// Epoch is the writer's epoch, from 1. gap says that this epoch began without
// the directory of the one before, so that records of it may be missing; the
// epoch's first record says so too.
func (l *Log) Epoch() (epoch int, gap bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.Epoch, l.state.Epoch > 1
}

// published is the index after the last record known to be on the remote. l.mu is
// held.
func (l *Log) published() uint64 { return max(l.seen, l.state.Published.index()) }

// Status is a snapshot.
func (l *Log) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Status{
		Branch: l.head.Branch, Epoch: l.state.Epoch,
		Records: l.head.index(), Published: l.published(),
		Spooled:     len(l.spool.entries),
		LastPublish: l.lastTime, Err: errors.Join(l.broken, l.lastErr), FailedAt: l.failedAt,
	}
}

// Published waits until the remote's branch, read back, holds the record. It
// returns a *[StalledError] at once when publishing needs a human, and keeps
// waiting through outages until ctx ends.
func (l *Log) Published(ctx context.Context, index uint64) error {
	for {
		l.mu.Lock()
		published, head, err, changed, closed := l.published(), l.head.index(), l.lastErr, l.changed, l.closed
		broken := l.broken
		if index < l.spool.durable {
			broken = nil // it can be published all the same
		}
		l.mu.Unlock()
		var stalled *StalledError
		switch {
		case index < published:
			return nil
		case index >= head:
			return fmt.Errorf("wait for record %d: there are %d records", index, head)
		case errors.As(err, &stalled):
			return fmt.Errorf("wait for record %d: %w", index, err)
		case broken != nil:
			return fmt.Errorf("wait for record %d: %w", index, broken)
		case closed:
			return fmt.Errorf("wait for record %d: %w", index, ErrClosed)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("wait for record %d: %w", index, ctx.Err()), err)
		}
	}
}

// Unshown says that the remote had never shown the record when the log was opened,
// so that nothing can have been done before which had to wait for that. It is false
// also where nobody can know, because the remote was out of reach.
func (l *Log) Unshown(index uint64) bool { return index >= l.shown }

// notify wakes everyone who waits for a change. l.mu is held.
func (l *Log) notify() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// signal wakes Run.
func (l *Log) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Close refuses further records, makes those there are durable, waits until Run
// has published what is spooled, ends Run when ctx ends first, and frees the
// directory. What is still spooled is published after the next Open.
func (l *Log) Close(ctx context.Context) error {
	l.mu.Lock()
	if l.closing {
		l.mu.Unlock()
		return nil
	}
	l.closing = true
	run := l.run
	l.mu.Unlock()
	err := l.settle(context.WithoutCancel(ctx))
	l.signal()
	if run != nil {
		close(run.closing)
		select {
		case <-run.done:
		case <-ctx.Done():
			run.cancel()
			<-run.done
			err = errors.Join(err, fmt.Errorf("publish the rest of the spool: %w", ctx.Err()))
		}
	}
	l.mu.Lock()
	l.closed = true
	l.notify()
	l.mu.Unlock()
	l.free()
	return err
}

func (l *Log) free() {
	if l.remote != nil {
		l.remote.close()
	}
	if l.spool != nil {
		l.spool.close()
	}
	l.metrics.unregister()
	_ = l.lock.Close() // ends the lock
}
