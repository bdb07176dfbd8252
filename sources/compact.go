package sources

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/idxfile"
)

const (
	maxPacks  = 40       // packs before small ones are joined
	smallPack = 16 << 20 // bytes
)

// compact joins small packs, of which every fetch leaves one, so that lookups
// stay fast over years. It is housekeeping: a failure is logged and changes
// nothing.
func (r *Repository) compact(ctx context.Context) {
	small, err := smallPacks(r.dir)
	if err != nil || len(small) <= maxPacks {
		return
	}
	if err := joinPacks(ctx, r.dir, small, r.o.Limits); err != nil {
		r.o.Logger.Warn("joining small packs failed, it is tried again after the next fetch", "source", r.remote.String(), "error", err)
		return
	}
	r.store.reload()
	removePacks(small)
	r.store.reload()
}

// removePacks ignores failures: what stays is only space.
func removePacks(packs []string) {
	for _, p := range packs {
		_ = os.Remove(p + ".idx") // first: a pack without one is removed at Open
		_ = os.Remove(p + ".pack")
	}
}

// smallPacks gives the names, without suffix, of the packs below smallPack.
func smallPacks(dir string) ([]string, error) {
	packs, err := filepath.Glob(filepath.Join(packDir(dir), "pack-*.pack"))
	if err != nil {
		return nil, err
	}
	var small []string
	for _, p := range packs {
		info, err := os.Stat(p)
		if err != nil {
			return nil, err
		}
		if info.Size() < smallPack {
			small = append(small, strings.TrimSuffix(p, ".pack"))
		}
	}
	return small, nil
}

// joinPacks writes one pack with the objects of all the given ones.
func joinPacks(ctx context.Context, dir string, packs []string, limits Limits) error {
	git := openObjects(dir)
	defer git.Close()
	ids, err := packedIDs(packs)
	if err != nil {
		return err
	}
	limits.PackBytes, limits.PackObjects = 1<<40, int64(len(ids)) // these bytes are ours already
	pack := streamPack(ctx, git, ids)
	joined, err := receivePack(ctx, dir, pack, limits)
	_ = pack.Close()
	if err != nil {
		return err
	}
	return sameIDs(joined, dir, ids)
}

// packedIDs gives the ids of all objects of the packs, each once.
func packedIDs(packs []string) ([]plumbing.Hash, error) {
	seen := map[plumbing.Hash]bool{}
	var ids []plumbing.Hash
	for _, p := range packs {
		index, err := readIndex(p + ".idx")
		if err != nil {
			return nil, fmt.Errorf("read pack index: %w", err)
		}
		entries, err := index.Entries()
		if err != nil {
			return nil, fmt.Errorf("read pack index: %w", err)
		}
		for {
			e, err := entries.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				return nil, errors.Join(fmt.Errorf("read pack index: %w", err), entries.Close())
			}
			if !seen[e.Hash] {
				seen[e.Hash] = true
				ids = append(ids, e.Hash)
			}
		}
		if err := entries.Close(); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

func readIndex(name string) (*idxfile.MemoryIndex, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	index := idxfile.NewMemoryIndex()
	return index, idxfile.NewDecoder(f).Decode(index)
}

// sameIDs checks that the new pack holds exactly the objects that were to be
// joined: an object altered on disk would have got another id.
func sameIDs(pack plumbing.Hash, dir string, ids []plumbing.Hash) error {
	index, err := readIndex(filepath.Join(packDir(dir), "pack-"+pack.String()+".idx"))
	if err != nil {
		return fmt.Errorf("read pack index: %w", err)
	}
	for _, id := range ids {
		if ok, err := index.Contains(id); err != nil || !ok {
			return fmt.Errorf("%w: object %s was not read back", ErrDamaged, id)
		}
	}
	return nil
}
