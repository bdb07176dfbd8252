package sources

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
	"github.com/go-git/go-git/v5/plumbing/transport"
)

// havesPerHead is how many first parents of each head are offered: after a
// force push the server may know only an older commit of ours.
const havesPerHead = 32

// obtain fetches the commits that are not here yet.
func (r *Repository) obtain(ctx context.Context, conn remote, adv *packp.AdvRefs, moved map[string]plumbing.Hash) error {
	req := newRequest(adv)
	for _, b := range slices.Sorted(maps.Keys(moved)) {
		here, err := r.store.has(moved[b])
		if err != nil {
			return err
		}
		if !here && !slices.Contains(req.Wants, moved[b]) {
			req.Wants = append(req.Wants, moved[b])
		}
	}
	if len(req.Wants) == 0 {
		return nil
	}
	var err error
	if req.Haves, err = r.haves(); err != nil {
		return err
	}
	pack, err := conn.pack(ctx, req)
	if errors.Is(err, transport.ErrEmptyUploadPackRequest) {
		return errors.New("ask for a pack: the server sent none")
	}
	if err != nil {
		return err
	}
	id, err := receivePack(ctx, r.dir, pack, r.o.Limits)
	cerr := pack.Close()
	if err != nil {
		return err
	}
	if cerr != nil && !errors.Is(cerr, sideband.ErrMaxPackedExceeded) {
		return fmt.Errorf("receive pack: %w", cerr)
	}
	r.o.Logger.Debug("Stored a pack.", "source", r.remote.String(), "pack", id.String())
	r.store.reload()
	return nil
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
