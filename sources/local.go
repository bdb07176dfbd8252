package sources

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/go-git/go-billy/v5/osfs"
	gogit "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	gitcache "github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// LocalTree gives the files of any commit of a repository on this machine, read
// only and without network, for the CLI. dir is a bare repository, a work tree
// or a folder in one; the tree is always the repository's root. ref is anything
// that names a commit: a branch, a tag, HEAD~2, an object id. The revision's
// branch is the one that ref names or HEAD points at, otherwise ref itself.
func LocalTree(dir, ref string, limits Limits) (*Tree, Revision, error) {
	repo, storage, err := openLocal(dir)
	if err != nil {
		return nil, Revision{}, fmt.Errorf("open repository %s: %w", dir, err)
	}
	id, err := repo.ResolveRevision(plumbing.Revision(ref))
	if err != nil {
		return nil, Revision{}, hint(fmt.Errorf("find commit %q in %s: %w", ref, dir, err), "name a branch, a tag or a commit of this repository")
	}
	limits = limits.withDefaults()
	s := &store{dir: dir, limits: limits, cache: newCache(limits.CacheBytes), git: storage}
	c, err := s.commit(*id)
	if err != nil {
		return nil, Revision{}, fmt.Errorf("read commit %s of %s: %w", id, dir, err)
	}
	if _, err := s.tree(c.tree); err != nil {
		return nil, Revision{}, fmt.Errorf("read commit %s of %s: %w", id, dir, err)
	}
	return newTree(c.tree, s, limits), Revision{Branch: branchOf(repo, ref), Commit: id.String()}, nil
}

// looseInMemory is the largest loose object that is read before its size is compared with a limit, in bytes.
const looseInMemory = 1 << 20

// openLocal does not look for a work tree around a bare repository.
func openLocal(dir string) (*gogit.Repository, *filesystem.Storage, error) {
	bare := true
	for _, name := range []string{"HEAD", "objects", "refs"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			bare = false
		}
	}
	repo, err := gogit.PlainOpenWithOptions(dir, &gogit.PlainOpenOptions{DetectDotGit: !bare, EnableDotGitCommonDir: true})
	if errors.Is(err, gogit.ErrRepositoryNotExists) {
		return nil, nil, hint(ErrNoRepository, "run this in a clone, or name one")
	}
	if err != nil {
		return nil, nil, err
	}
	found, ok := repo.Storer.(*filesystem.Storage)
	if !ok {
		return nil, nil, errors.New("it is not kept in files")
	}
	// Once more, so that objects shared with another repository are found.
	storage := filesystem.NewStorageWithOptions(found.Filesystem(), gitcache.NewObjectLRUDefault(), filesystem.Options{AlternatesFS: osfs.New("/"), LargeObjectThreshold: looseInMemory})
	repo, err = gogit.Open(storage, nil)
	return repo, storage, err
}

func branchOf(repo *gogit.Repository, ref string) string {
	if ref == "HEAD" {
		if head, err := repo.Head(); err == nil && head.Name().IsBranch() {
			return head.Name().Short()
		}
	}
	return ref
}
