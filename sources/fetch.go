package sources

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
)

// havesPerHead is how many first parents of each head are offered: after a
// force push the server may know only an older commit of ours.
const havesPerHead = 32

// obtain fetches the commits that are not here yet. known are commits that are
// here, besides the heads, from which they may descend. It gives the name of the
// pack that was stored, "" for none, and whether the remote was asked for one.
func (r *Repository) obtain(ctx context.Context, conn remote, adv *packp.AdvRefs, commits []plumbing.Hash, known ...plumbing.Hash) (pack string, asked bool, err error) {
	req := newRequest(adv)
	slices.SortFunc(commits, func(a, b plumbing.Hash) int { return bytes.Compare(a[:], b[:]) })
	for _, id := range slices.Compact(commits) {
		here, err := r.store.has(id)
		if err != nil {
			return "", false, err
		}
		if !here {
			req.Wants = append(req.Wants, id)
		}
	}
	if len(req.Wants) == 0 {
		return "", false, nil
	}
	if req.Haves, err = r.haves(known); err != nil {
		return "", false, err
	}
	answer, err := conn.pack(ctx, req)
	if err != nil {
		return "", true, err
	}
	id, err := receivePack(ctx, r.dir, answer, r.o.Limits)
	if cerr := answer.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("receive pack: %w", cerr)
	}
	if err != nil {
		if !errors.Is(err, io.ErrUnexpectedEOF) && ctx.Err() == nil {
			err = &contentError{err}
		}
		return "", true, err
	}
	r.store.reload()
	return filepath.Join(packDir(r.dir), "pack-"+id.String()), true, nil
}

// contentError says that an exchange went well and that what it brought is not
// acceptable, or cannot be stored.
type contentError struct{ err error }

func (e *contentError) Error() string { return e.err.Error() }

func (e *contentError) Unwrap() error { return e.err }

// discard removes a pack that turned out to be incomplete, so that the next
// Sync does not take its objects for known.
func (r *Repository) discard(pack string) {
	if pack == "" {
		return
	}
	removePacks([]string{pack})
	r.store.reload()
	r.store.cache.clear() // it may know objects that are gone
	clear(r.sizes)
}

// haves names commits that are here with all they refer to: the heads and those
// of old that are kept, and others.
func (r *Repository) haves(others []plumbing.Hash) ([]plumbing.Hash, error) {
	var haves []plumbing.Hash
	known := map[plumbing.Hash]bool{}
	for name, id := range r.heads() {
		if !strings.HasPrefix(name, remotePrefix) { // there may be thousands that no news descends from
			others = append(others, id)
		}
	}
	for _, id := range others {
		for range havesPerHead {
			if known[id] {
				break
			}
			known[id] = true
			haves = append(haves, id)
			c, err := r.store.commit(id)
			if err != nil {
				return nil, fmt.Errorf("offer known commits: %w", err)
			}
			if len(c.parents) == 0 {
				break
			}
			id = c.parents[0]
		}
	}
	return haves, nil
}
