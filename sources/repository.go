package sources

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
)

// Options says where a repository comes from and what bounds it.
type Options struct {
	URL     string        // https, http, ssh, file, user@host:path or an absolute path; no credentials
	Auth    Auth          // read at every use
	Timeout time.Duration // for one Sync; default 2 minutes
	Limits  Limits
	Now     func() time.Time // default time.Now
	Logger  *slog.Logger     // default: discard
}

// Repository is a bare copy of the wanted branches of one remote. Its methods
// are safe for concurrent use; Sync runs one at a time.
type Repository struct {
	dir    string
	o      Options
	remote endpoint
	store  *store
	turn   chan struct{} // holds a token while no Sync runs

	mu      sync.RWMutex
	refs    map[string]plumbing.Hash // replaced as a whole, never altered
	sizes   map[plumbing.Hash]int64  // directories known to be complete; Sync's own
	refused map[string]refusal       // refs by the remote's name; Sync's own
	trees   []*Tree                  // of the commits asked for last, at most maxTrees
	depths  depths
}

// maxTrees is how many trees of a repository keep what was looked up in them: of a few branches before and after a
// push.
const maxTrees = 8

// HeadChange is one branch whose head moved.
type HeadChange struct {
	Branch string
	From   string // "" when the branch was seen for the first time
	To     string
	Forced bool // From is no ancestor of To: history was rewritten
}

// MissingError names wanted branches that the remote does not have. Their last
// good heads stay; the other branches moved as usual.
type MissingError struct{ Branches []string }

func (e *MissingError) Error() string {
	return "the remote has no branch " + strings.Join(e.Branches, ", ")
}

// Open opens the bare repository at dir and creates it when it is missing. It
// contacts nobody. What a killed process left behind is removed. The error is
// [ErrURL] for an address that cannot be used and [ErrDamaged] when a head's
// commit cannot be read.
func Open(dir string, o Options) (*Repository, error) {
	e, err := parseEndpoint(o.URL)
	if err != nil {
		return nil, fmt.Errorf("open source: %w", err)
	}
	if err := o.Auth.check(e); err != nil {
		return nil, fmt.Errorf("open source %s: %w", e, err)
	}
	o.Limits = o.Limits.withDefaults()
	if o.Timeout <= 0 {
		o.Timeout = 2 * time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if err := initBare(dir); err != nil {
		return nil, fmt.Errorf("open source %s: prepare %s: %w", e, dir, err)
	}
	refs, err := readRefs(dir)
	if err != nil {
		return nil, fmt.Errorf("open source %s: read refs: %w", e, err)
	}
	r := &Repository{dir: dir, o: o, remote: e, store: newStore(dir, o.Limits), turn: make(chan struct{}, 1), refs: refs, sizes: map[plumbing.Hash]int64{}, refused: map[string]refusal{}}
	r.turn <- struct{}{}
	for name, id := range refs {
		if _, err := r.store.commit(id); err != nil {
			return nil, errors.Join(hint(fmt.Errorf("open source %s: %s: %w", e, name, err),
				"delete "+dir+": it is fetched again"), r.store.close())
		}
	}
	return r, nil
}

// Close closes open files. No other method may run or follow.
func (r *Repository) Close() error {
	<-r.turn
	return r.store.close()
}

// Head gives the last good head of a branch.
func (r *Repository) Head(branch string) (Revision, bool) {
	id, ok := r.heads()[headsPrefix+branch]
	if !ok {
		return Revision{}, false
	}
	return Revision{Branch: branch, Commit: id.String()}, true
}

func (r *Repository) heads() map[string]plumbing.Hash {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.refs
}

// Tree gives the files of a commit. Commits with the same files share one.
func (r *Repository) Tree(commit string) (*Tree, error) {
	c, err := r.commit(commit)
	if err != nil {
		return nil, fmt.Errorf("read tree of %s: %w", commit, err)
	}
	if _, err := r.store.tree(c.tree); err != nil {
		return nil, fmt.Errorf("read tree of %s: %w", commit, err)
	}
	return r.recentTree(c.tree), nil
}

// recentTree gives the tree that was asked for before, or a new one in place of the one not asked for longest.
func (r *Repository) recentTree(root plumbing.Hash) *Tree {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.trees, func(t *Tree) bool { return t.root == root })
	t := newTree(root, r.store, r.o.Limits)
	switch {
	case i >= 0:
		t = r.trees[i]
		r.trees = slices.Delete(r.trees, i, i+1)
	case len(r.trees) == maxTrees:
		r.trees = slices.Delete(r.trees, 0, 1)
	}
	r.trees = append(r.trees, t)
	return t
}

// Sync asks the remote where the branches are, fetches what is new and moves
// the heads, all in one step. Without news it costs one request. On any error
// nothing moves, except that a [MissingError] names absent branches and the
// changes of the others are returned beside it. Other refs stay as they are.
func (r *Repository) Sync(ctx context.Context, branches []string) ([]HeadChange, error) {
	news, err := r.SyncAll(ctx, Wanted{Branches: branches})
	return news.Heads, err
}

// SyncAll is [Repository.Sync] that brings other refs too, see [Wanted]. They
// come after the heads and never keep these from moving: an error about them is
// returned beside the changes of the heads and of the refs that did move.
func (r *Repository) SyncAll(ctx context.Context, want Wanted) (News, error) {
	ctx, cancel := context.WithTimeout(ctx, r.o.Timeout)
	defer cancel()
	select {
	case <-r.turn:
		defer func() { r.turn <- struct{}{} }()
	case <-ctx.Done():
		return News{}, fmt.Errorf("sync %s: wait for the previous sync: %w", r.remote, ctx.Err())
	}
	var news News
	err := r.sync(ctx, want, &news)
	if err != nil {
		if ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
			err = fmt.Errorf("%w: %w", ctx.Err(), err)
		}
		err = fmt.Errorf("sync %s: %w", r.remote, err)
	}
	return news, err
}

func (r *Repository) sync(ctx context.Context, want Wanted, news *News) (err error) {
	defer func() { // go-git may panic on a hostile server's answers
		if p := recover(); p != nil {
			err = fmt.Errorf("unexpected answer: %v", p)
		}
	}()
	if err := want.check(); err != nil {
		return err
	}
	conn, adv, err := r.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { r.hangUp(conn) }()
	moved, missing := r.compare(adv, want.Branches)
	pack, asked, err := r.obtain(ctx, conn, adv, slices.Collect(maps.Values(moved)))
	if err != nil {
		return err
	}
	news.Heads, err = r.move(ctx, moved)
	if errors.Is(err, ErrDamaged) {
		r.discard(pack)
		return hint(err, "if it persists, delete "+r.dir+": it is fetched again")
	}
	if err != nil {
		return err
	}
	if want.Refs != nil {
		f := refFetch{r: r, ctx: ctx, adv: adv}
		if !asked {
			f.conn = conn
		}
		news.Refs, err = f.run(want.Refs)
	}
	if len(news.Heads)+len(news.Refs) > 0 {
		r.compact(ctx)
	}
	if len(missing) > 0 {
		err = errors.Join(err, &MissingError{missing})
	}
	return err
}

// connect begins a conversation.
func (r *Repository) connect(ctx context.Context) (remote, *packp.AdvRefs, error) {
	conn, err := dial(ctx, r.remote, r.o.Auth, r.store.has)
	if err != nil {
		return nil, nil, err
	}
	adv, err := conn.refs(ctx)
	if err != nil {
		r.hangUp(conn)
		return nil, nil, err
	}
	return conn, adv, nil
}

func (r *Repository) hangUp(conn remote) {
	if err := conn.Close(); err != nil {
		r.o.Logger.Debug("closing a connection failed", "source", r.remote.String(), "error", err)
	}
}

// compare gives the wanted branches that are elsewhere than our heads.
func (r *Repository) compare(adv *packp.AdvRefs, branches []string) (moved map[string]plumbing.Hash, missing []string) {
	refs := r.heads()
	moved = map[string]plumbing.Hash{}
	for _, b := range branches {
		id, ok := adv.References[headsPrefix+b]
		switch {
		case !ok:
			if !slices.Contains(missing, b) {
				missing = append(missing, b)
			}
		case refs[headsPrefix+b] != id:
			moved[b] = id
		}
	}
	return moved, missing
}

// move verifies the new commits and writes all heads in one step.
func (r *Repository) move(ctx context.Context, moved map[string]plumbing.Hash) ([]HeadChange, error) {
	if len(moved) == 0 {
		return nil, nil
	}
	old := r.heads()
	refs := maps.Clone(old)
	v := r.newVerifier(ctx)
	var changes []HeadChange
	for _, b := range slices.Sorted(maps.Keys(moved)) {
		id := moved[b]
		if err := v.verify(id); err != nil {
			return nil, fmt.Errorf("branch %s: commit %s: %w", b, id, err)
		}
		change := HeadChange{Branch: b, To: id.String()}
		if from, ok := old[headsPrefix+b]; ok {
			change.From = from.String()
			ancestor, err := r.ancestor(ctx, from, id)
			if err != nil {
				return nil, fmt.Errorf("branch %s: %w", b, err)
			}
			if change.Forced = !ancestor; change.Forced {
				refs[seenPrefix+from.String()] = from
			}
		}
		refs[headsPrefix+b] = id
		changes = append(changes, change)
	}
	if err := r.setRefs(refs); err != nil {
		return nil, err
	}
	return changes, nil
}

// setRefs replaces all refs in one step, on disk first.
func (r *Repository) setRefs(refs map[string]plumbing.Hash) error {
	if err := writeRefs(r.dir, refs); err != nil {
		return fmt.Errorf("write refs: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refs = refs
	return nil
}
