package sources

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	gitcache "github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// fileRemote reads a repository on this machine; no git command is needed.
type fileRemote struct {
	git  *filesystem.Storage
	have func(plumbing.Hash) (bool, error) // whether the copy has an object
}

func openFile(e endpoint, have func(plumbing.Hash) (bool, error)) (remote, error) {
	dir := e.path
	if _, err := os.Stat(filepath.Join(dir, "objects")); err != nil {
		dir = filepath.Join(dir, ".git")
	}
	if info, err := os.Stat(filepath.Join(dir, "objects")); err != nil || !info.IsDir() {
		return nil, hint(fmt.Errorf("%w: %s is not a Git repository", ErrNoRepository, e.path), "name a bare repository or a clone")
	}
	if _, err := os.Stat(filepath.Join(dir, "shallow")); err == nil {
		return nil, errShallow
	}
	fs := osfs.New(dir, osfs.WithBoundOS())
	return &fileRemote{
		git:  filesystem.NewStorageWithOptions(fs, gitcache.NewObjectLRU(64*gitcache.MiByte), filesystem.Options{KeepDescriptors: true}),
		have: have,
	}, nil
}

func (r *fileRemote) refs(context.Context) (*packp.AdvRefs, error) {
	refs, err := r.git.IterReferences()
	if err != nil {
		return nil, fmt.Errorf("list branches: %w", err)
	}
	adv := packp.NewAdvRefs()
	err = refs.ForEach(func(ref *plumbing.Reference) error {
		if ref.Type() == plumbing.HashReference {
			adv.References[ref.Name().String()] = ref.Hash()
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list branches: %w", err)
	}
	return adv, nil
}

func (r *fileRemote) pack(ctx context.Context, req *packp.UploadPackRequest) (io.ReadCloser, error) {
	w := &newObjects{ctx: ctx, git: r.git, have: r.have, seen: map[plumbing.Hash]bool{}}
	for todo := req.Wants; len(todo) > 0; {
		id := todo[len(todo)-1]
		parents, err := w.commit(id)
		if err != nil {
			return nil, &contentError{fmt.Errorf("find new objects: commit %s: %w", id, err)}
		}
		todo = append(todo[:len(todo)-1:len(todo)-1], parents...)
	}
	return streamPack(ctx, r.git, w.ids), nil
}

// newObjects collects what the copy lacks. An object that the copy has is there
// with all it refers to, so the walk ends at it.
type newObjects struct {
	ctx  context.Context
	git  *filesystem.Storage
	have func(plumbing.Hash) (bool, error)
	seen map[plumbing.Hash]bool
	ids  []plumbing.Hash
}

// add reports whether id is new and to be followed.
func (w *newObjects) add(id plumbing.Hash) (bool, error) {
	if w.seen[id] {
		return false, nil
	}
	w.seen[id] = true
	if have, err := w.have(id); have || err != nil {
		return false, err
	}
	w.ids = append(w.ids, id)
	return true, w.ctx.Err()
}

func (w *newObjects) commit(id plumbing.Hash) (parents []plumbing.Hash, err error) {
	if ok, err := w.add(id); !ok {
		return nil, err
	}
	c, err := object.GetCommit(w.git, id)
	if err != nil {
		return nil, err
	}
	return c.ParentHashes, w.tree(c.TreeHash, 0)
}

func (w *newObjects) tree(id plumbing.Hash, depth int) error {
	if ok, err := w.add(id); !ok {
		return err
	}
	if depth > maxDepth {
		return fmt.Errorf("directories are nested more than %d deep", maxDepth)
	}
	t, err := object.GetTree(w.git, id)
	if err != nil {
		return fmt.Errorf("tree %s: %w", id, err)
	}
	for _, e := range t.Entries {
		switch e.Mode {
		case filemode.Submodule:
		case filemode.Dir:
			err = w.tree(e.Hash, depth+1)
		default:
			_, err = w.add(e.Hash)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *fileRemote) Close() error { return r.git.Close() }

var errShallow = hint(errors.New("the remote repository is shallow"), "give Purser a repository with its whole history")
