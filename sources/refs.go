package sources

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
)

const (
	maxRefs      = 10_000    // refs brought under one prefix
	maxExchanges = 64        // fetches of refs in one Sync, when some must be told from others
	retryRefused = time.Hour // until a ref that was refused is tried again where it is
)

// Wanted is what to bring of a remote.
type Wanted struct {
	Branches []string
	// Refs are other refs: a name, "refs/pull/7/head", or what names begin with up to a slash,
	// "refs/purser/statements/". Of a prefix the first 10 000 by name are brought, and those known before. They are
	// strangers' words: one that cannot be read keeps nothing else back. A ref that is gone at the remote, or no longer
	// wanted, is forgotten, and so is a head that it had earlier. Nil leaves all as they are.
	Refs []string
}

// News is what [Repository.SyncAll] found.
type News struct {
	Heads []HeadChange
	Refs  []RefChange // by name
}

// RefChange is a ref, other than a wanted branch, that moved.
type RefChange struct {
	Ref  string // the remote's name, or a wanted prefix when Err says that there are too many below it
	From string // commit; "" when it was not known
	To   string // commit; "" when it is gone at the remote
	Err  error  // why To is not taken: too large, malformed, no commit. The ref stays at From
}

// refusal is why a ref is not fetched at every Sync.
type refusal struct {
	id    plumbing.Hash
	until time.Time
}

func (w Wanted) check() error {
	for _, b := range w.Branches {
		if err := plumbing.NewBranchReferenceName(b).Validate(); err != nil || b == "" {
			return fmt.Errorf("branch %q: not a branch name", b)
		}
	}
	for _, ref := range w.Refs {
		name := strings.TrimSuffix(ref, "/")
		if err := plumbing.ReferenceName(name).Validate(); err != nil || !strings.HasPrefix(name, "refs/") || strings.HasPrefix(name+"/", headsPrefix) {
			return fmt.Errorf("ref %q: want the name of a ref that is no branch, or the beginning of names up to a slash", ref)
		}
	}
	return nil
}

// wants tells which of the wanted names or prefixes stands for the ref; "" for none.
func (w Wanted) wants(ref string) string {
	for _, want := range w.Refs {
		if ref == want || strings.HasSuffix(want, "/") && strings.HasPrefix(ref, want) {
			return want
		}
	}
	return ""
}

// Ref gives the commit of a ref that SyncAll brought, by the remote's name.
func (r *Repository) Ref(name string) (commit string, ok bool) {
	id, ok := r.heads()[localName(name)]
	return id.String(), ok
}

// Refs gives the names of the refs that SyncAll brought and that begin with prefix, sorted.
func (r *Repository) Refs(prefix string) []string {
	var names []string
	for local := range r.heads() {
		if name, ok := remoteName(local); ok && strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// localName is where a ref of the remote is kept, apart from this copy's own refs.
func localName(ref string) string { return remotePrefix + strings.TrimPrefix(ref, "refs/") }

func remoteName(local string) (string, bool) {
	name, ok := strings.CutPrefix(local, remotePrefix)
	return "refs/" + name, ok
}

// refFetch brings refs in one Sync.
type refFetch struct {
	r         *Repository
	ctx       context.Context
	adv       *packp.AdvRefs
	conn      remote // on which no pack was asked for yet; nil: dial
	exchanges int
	taken     []RefChange // verified
	refused   []RefChange
}

// run compares, fetches, verifies and moves. What was brought before an error is kept.
func (f *refFetch) run(want []string) ([]RefChange, error) {
	refs := maps.Clone(f.r.heads())
	moved, changes := f.compare(refs, Wanted{Refs: want})
	err := f.bring(moved)
	for _, c := range f.taken {
		refs[localName(c.Ref)] = plumbing.NewHash(c.To)
		delete(f.r.refused, c.Ref)
	}
	for _, c := range f.refused {
		f.r.refused[c.Ref] = refusal{plumbing.NewHash(c.To), f.r.o.Now().Add(retryRefused)}
	}
	changes = append(append(changes, f.taken...), f.refused...)
	if !maps.Equal(refs, f.r.heads()) {
		if werr := f.r.setRefs(refs); werr != nil {
			return nil, errors.Join(err, werr)
		}
	}
	slices.SortFunc(changes, func(a, b RefChange) int { return strings.Compare(a.Ref, b.Ref) })
	if err != nil {
		err = &refsError{err}
	}
	return changes, err
}

// refsError says that refs could not be brought, which concerns no branch.
type refsError struct{ err error }

func (e *refsError) Error() string { return "bring refs: " + e.err.Error() }

func (e *refsError) Unwrap() error { return e.err }

// compare removes from refs what is gone or no longer wanted. It gives the refs to fetch, and what is to be reported
// without.
func (f *refFetch) compare(refs map[string]plumbing.Hash, want Wanted) (moved, changes []RefChange) {
	for local, id := range refs {
		ref, ok := remoteName(local)
		if !ok {
			continue
		}
		_, there := f.adv.References[ref]
		wanted := want.wants(ref) != ""
		if there && wanted {
			continue
		}
		delete(refs, local)
		if wanted {
			changes = append(changes, RefChange{Ref: ref, From: id.String()})
		}
	}
	maps.DeleteFunc(f.r.refused, func(ref string, _ refusal) bool {
		_, there := f.adv.References[ref]
		return !there
	})
	count := map[string]int{}
	for local := range refs {
		if ref, ok := remoteName(local); ok {
			count[want.wants(ref)]++
		}
	}
	tooMany := map[string]bool{}
	for _, ref := range slices.Sorted(maps.Keys(f.adv.References)) {
		by, to := want.wants(ref), f.adv.References[ref]
		from, known := refs[localName(ref)]
		if by == "" || known && from == to || plumbing.ReferenceName(ref).Validate() != nil {
			continue
		}
		if no, ok := f.r.refused[ref]; ok && no.id == to && f.r.o.Now().Before(no.until) {
			continue
		}
		if !known {
			if count[by] == maxRefs {
				tooMany[by] = true
				continue
			}
			count[by]++
		}
		c := RefChange{Ref: ref, To: to.String()}
		if known {
			c.From = from.String()
		}
		moved = append(moved, c)
	}
	for by := range tooMany {
		changes = append(changes, RefChange{Ref: by, Err: hint(
			fmt.Errorf("more than %d refs", maxRefs), "delete old ones at the remote: what was seen is recorded")})
	}
	return moved, changes
}

// bring fetches and verifies all, and where what comes cannot be stored, each half by itself, so that a bad ref keeps no
// other from coming.
func (f *refFetch) bring(batch []RefChange) error {
	if len(batch) == 0 {
		return nil
	}
	err := f.fetch(batch)
	var content *contentError
	switch {
	case err == nil:
		return nil
	case f.ctx.Err() != nil || !errors.As(err, &content):
		return err
	case len(batch) == 1:
		refused := batch[0]
		refused.Err = content.err
		f.refused = append(f.refused, refused)
		return nil
	}
	half := len(batch) / 2
	return errors.Join(f.bring(batch[:half]), f.bring(batch[half:]))
}

// fetch brings a batch in one exchange, or in none when everything is here already, and takes or refuses each ref of it.
func (f *refFetch) fetch(batch []RefChange) error {
	var commits, known []plumbing.Hash
	for _, c := range batch {
		commits = append(commits, plumbing.NewHash(c.To))
		if c.From != "" {
			known = append(known, plumbing.NewHash(c.From))
		}
	}
	conn, adv, err := f.connection(commits)
	if err != nil {
		return err
	}
	pack, asked, err := "", false, error(nil)
	if conn != nil {
		pack, asked, err = f.r.obtain(f.ctx, conn, adv, commits, known...)
		if conn != f.conn {
			f.r.hangUp(conn)
		} else if asked {
			f.conn = nil // Sync closes it
		}
	}
	if err != nil {
		return err
	}
	v := f.r.newVerifier(f.ctx)
	var taken, refused []RefChange
	for _, c := range batch {
		switch err := v.verify(plumbing.NewHash(c.To)); {
		case err == nil:
			taken = append(taken, c)
		case f.ctx.Err() != nil:
			return err
		default:
			c.Err = f.r.notCommit(c.Ref, plumbing.NewHash(c.To), err)
			refused = append(refused, c)
		}
	}
	if len(taken) == 0 {
		f.r.discard(pack)
	}
	f.taken, f.refused = append(f.taken, taken...), append(f.refused, refused...)
	return nil
}

// notCommit says what a ref points at that is no commit; otherwise it gives err, why the commit cannot be taken.
func (r *Repository) notCommit(ref string, id plumbing.Hash, err error) error {
	kind := r.store.kind(id)
	if kind == plumbing.InvalidObject || kind == plumbing.CommitObject {
		return err
	}
	return hint(fmt.Errorf("%s points at a %s, %s, and not at a commit", ref, kind, id), "delete it at the remote")
}

// connection is one for a pack; nil when no commit is missing.
func (f *refFetch) connection(commits []plumbing.Hash) (remote, *packp.AdvRefs, error) {
	missing := false
	for _, id := range commits {
		here, err := f.r.store.has(id)
		if err != nil {
			return nil, nil, err
		}
		missing = missing || !here
	}
	switch {
	case !missing:
		return nil, nil, nil
	case f.exchanges == maxExchanges:
		return nil, nil, fmt.Errorf("%d fetches were not enough to tell good refs from bad: the rest is tried at the next poll", maxExchanges)
	}
	f.exchanges++
	if f.conn != nil {
		return f.conn, f.adv, nil
	}
	return f.r.connect(f.ctx)
}
