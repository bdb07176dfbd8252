package sources

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
)

// havesPerHead is how many first parents of each head are offered: after a
// force push the server may know only an older commit of ours.
const havesPerHead = 32

// obtain fetches the commits that are not here yet.
// It gives the name of the pack that was stored, "" for none.
func (r *Repository) obtain(ctx context.Context, conn remote, adv *packp.AdvRefs, moved map[string]plumbing.Hash) (string, error) {
	req := newRequest(adv)
	for _, b := range slices.Sorted(maps.Keys(moved)) {
		here, err := r.store.has(moved[b])
		if err != nil {
			return "", err
		}
		if !here && !slices.Contains(req.Wants, moved[b]) {
			req.Wants = append(req.Wants, moved[b])
		}
	}
	if len(req.Wants) == 0 {
		return "", nil
	}
	var err error
	if req.Haves, err = r.haves(); err != nil {
		return "", err
	}
	pack, err := conn.pack(ctx, req)
	if err != nil {
		return "", err
	}
	id, err := receivePack(ctx, r.dir, pack, r.o.Limits)
	if cerr := pack.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("receive pack: %w", cerr)
	}
	if err != nil {
		return "", err
	}
	r.store.reload()
	return filepath.Join(packDir(r.dir), "pack-"+id.String()), nil
}

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

// haves names commits that are here with all they refer to.
func (r *Repository) haves() ([]plumbing.Hash, error) {
	var haves []plumbing.Hash
	known := map[plumbing.Hash]bool{}
	for _, id := range r.heads() {
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
