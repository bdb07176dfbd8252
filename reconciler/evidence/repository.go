package evidence

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// repository reads a clone's objects. It trusts nothing: whatever it returns
// hashes to the ID that was asked for.
type repository struct {
	dir     string
	storage *filesystem.Storage
	temp    bool
}

// errMissing says that the clone does not have an object.
var errMissing = errors.New("object is not in the repository")

// errCorrupt says that an object's bytes are not those of its ID.
var errCorrupt = errors.New("object does not match its ID")

// openRepository opens a bare repository or a clone with a work tree.
func openRepository(dir string) (*repository, error) {
	for _, d := range []string{dir, filepath.Join(dir, ".git")} {
		if info, err := os.Stat(filepath.Join(d, "objects")); err == nil && info.IsDir() {
			return &repository{dir: d, storage: openStorage(d)}, nil
		}
	}
	return nil, fmt.Errorf("%s is not a Git repository", dir)
}

func openStorage(dir string) *filesystem.Storage {
	return filesystem.NewStorageWithOptions(osfs.New(dir), cache.NewObjectLRU(32*cache.MiByte), filesystem.Options{KeepDescriptors: true})
}

// fetchTemporary fetches refs into a repository of its own, most bytes of pack at most; discard removes it.
func (l *Log) fetchTemporary(ctx context.Context, want refs, most int64) (*repository, error) {
	dir, err := os.MkdirTemp(l.o.Dir, "tmp-fetch-*")
	if err != nil {
		return nil, fmt.Errorf("create fetch directory: %w", err)
	}
	r := &repository{dir: dir, storage: openStorage(dir), temp: true}
	err = r.storage.Init()
	if err == nil {
		err = l.remote.fetch(ctx, r.storage, want, most)
	}
	if err != nil {
		return nil, errors.Join(err, r.discard())
	}
	return r, nil
}

func (r *repository) close() error { return r.storage.Close() }

func (r *repository) discard() error {
	return errors.Join(r.close(), os.RemoveAll(r.dir))
}

// read gives an object's bytes; limit bounds them.
func (r *repository) read(typ plumbing.ObjectType, id plumbing.Hash, limit int64) ([]byte, error) {
	o, err := r.storage.EncodedObject(plumbing.AnyObject, id)
	if errors.Is(err, plumbing.ErrObjectNotFound) {
		return nil, fmt.Errorf("read %s: %w", id, errMissing)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", id, err)
	}
	if o.Type() != typ {
		return nil, fmt.Errorf("read %s: it is a %s, not a %s: %w", id, o.Type(), typ, errCorrupt)
	}
	if o.Size() > limit {
		return nil, fmt.Errorf("read %s: %d bytes: %w", id, o.Size(), ErrTooLarge)
	}
	reader, err := o.Reader()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", id, err)
	}
	defer reader.Close()
	data := make([]byte, o.Size())
	if _, err := io.ReadFull(reader, data); err != nil {
		return nil, fmt.Errorf("read %s: %w", id, err)
	}
	if plumbing.ComputeHash(typ, data) != id {
		return nil, fmt.Errorf("read %s: %w", id, errCorrupt)
	}
	return data, nil
}

func (r *repository) commit(id plumbing.Hash) (signedCommit, error) {
	data, err := r.read(plumbing.CommitObject, id, maxCommit)
	if err != nil {
		return signedCommit{}, err
	}
	return parseCommit(data)
}

func (r *repository) tree(id plumbing.Hash) ([]treeEntry, error) {
	data, err := r.read(plumbing.TreeObject, id, 64<<20)
	if err != nil {
		return nil, err
	}
	return parseTree(data)
}

// refs lists the repository's refs under their names on the audit remote: a
// clone's refs/remotes/<name>/x stand for refs/heads/x and win over a local
// branch, which may lag.
func (r *repository) refs() (refs, error) {
	iter, err := r.storage.IterReferences()
	if err != nil {
		return nil, fmt.Errorf("list refs: %w", err)
	}
	defer iter.Close()
	out, local := refs{}, refs{}
	err = iter.ForEach(func(ref *plumbing.Reference) error {
		if ref.Type() != plumbing.HashReference {
			return nil
		}
		name := ref.Name().String()
		if rest, ok := strings.CutPrefix(name, "refs/remotes/"); ok {
			if _, branch, ok := strings.Cut(rest, "/"); ok {
				out["refs/heads/"+branch] = ref.Hash()
			}
			return nil
		}
		local[name] = ref.Hash()
		return nil
	})
	for name, hash := range local {
		if _, ok := out[name]; !ok {
			out[name] = hash
		}
	}
	return out, err
}

// eachBlob walks a blob ref's history, newest first.
func (r *repository) eachBlob(ctx context.Context, tip plumbing.Hash, fn func(digest string, id plumbing.Hash) error) error {
	for !tip.IsZero() {
		if err := ctx.Err(); err != nil {
			return err
		}
		c, err := r.commit(tip)
		if err != nil {
			return err
		}
		entries, err := r.tree(c.tree)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := fn("sha256:"+e.name, e.hash); err != nil {
				return err
			}
		}
		tip = plumbing.ZeroHash
		if len(c.parents) > 0 {
			tip = c.parents[0]
		}
	}
	return nil
}

// files reads a commit's files with their slash-separated paths.
func (r *repository) files(id plumbing.Hash) (map[string][]byte, error) {
	c, err := r.commit(id)
	if err != nil {
		return nil, err
	}
	out := map[string][]byte{}
	return out, r.filesBelow(c.tree, "", out)
}

func (r *repository) filesBelow(tree plumbing.Hash, prefix string, out map[string][]byte) error {
	entries, err := r.tree(tree)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.dir {
			if err := r.filesBelow(e.hash, prefix+e.name+"/", out); err != nil {
				return err
			}
			continue
		}
		if out[prefix+e.name], err = r.read(plumbing.BlobObject, e.hash, maxBlob); err != nil {
			return err
		}
	}
	return nil
}

// maxCommit bounds a commit object, in bytes.
const maxCommit = 1 << 20
