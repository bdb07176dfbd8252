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
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/revlist"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// fileRemote reads a repository on this machine; no git command is needed.
type fileRemote struct {
	git *filesystem.Storage
}

func openFile(e endpoint) (remote, error) {
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
	return &fileRemote{filesystem.NewStorageWithOptions(fs, gitcache.NewObjectLRU(16*gitcache.MiByte), filesystem.Options{KeepDescriptors: true})}, nil
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
	objects := untilDoneObjects{r.git, ctx}
	here, err := revlist.Objects(objects, r.present(req.Haves), nil)
	if err != nil {
		return nil, fmt.Errorf("find new objects: %w", err)
	}
	ids, err := revlist.Objects(objects, req.Wants, here)
	if err != nil {
		return nil, fmt.Errorf("find new objects: %w", err)
	}
	return streamPack(ctx, objects, ids), nil
}

func (r *fileRemote) present(ids []plumbing.Hash) []plumbing.Hash {
	var here []plumbing.Hash
	for _, id := range ids {
		if r.git.HasEncodedObject(id) == nil {
			here = append(here, id)
		}
	}
	return here
}

func (r *fileRemote) Close() error { return r.git.Close() }

// untilDoneObjects ends reads when ctx ends.
type untilDoneObjects struct {
	storer.EncodedObjectStorer
	ctx context.Context
}

func (s untilDoneObjects) EncodedObject(t plumbing.ObjectType, h plumbing.Hash) (plumbing.EncodedObject, error) {
	if err := s.ctx.Err(); err != nil {
		return nil, err
	}
	return s.EncodedObjectStorer.EncodedObject(t, h)
}

var errShallow = hint(errors.New("the remote repository is shallow"), "give Purser a repository with its whole history")
