package sources

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	gitcache "github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/storage/filesystem"
	"github.com/go-git/go-git/v5/storage/filesystem/dotgit"
)

// store reads the objects of a bare repository. go-git's object storage is not
// safe for concurrent use, so mu guards it; verified content is kept in cache,
// which most reads are served from.
type store struct {
	dir    string
	limits Limits
	cache  *cache

	mu  sync.Mutex
	git packedObjects
}

// packedObjects is what a store needs of go-git's object storage.
type packedObjects interface {
	EncodedObject(t plumbing.ObjectType, id plumbing.Hash) (plumbing.EncodedObject, error)
	HasEncodedObject(id plumbing.Hash) error
	Close() error
}

func newStore(dir string, limits Limits) *store {
	return &store{dir: dir, limits: limits, cache: newCache(limits.CacheBytes), git: openObjects(dir)}
}

// deltaBases bounds what go-git keeps to build other objects from.
const deltaBases = 4 * gitcache.MiByte

// openObjects reads the list of packs once: whoever adds or removes one calls
// reload. go-git's ExclusiveAccess would save a failing open per lookup, but with
// it HasEncodedObject does not find packed objects.
func openObjects(dir string) *filesystem.ObjectStorage {
	dg := dotgit.NewWithOptions(osfs.New(dir), dotgit.Options{KeepDescriptors: true})
	return filesystem.NewObjectStorageWithOptions(dg, gitcache.NewObjectLRU(deltaBases), filesystem.Options{KeepDescriptors: true})
}

// reload makes packs that were added since visible.
func (s *store) reload() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.git.Close() // descriptors opened for reading only
	s.git = openObjects(s.dir)
}

func (s *store) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.git.Close()
}

func (s *store) has(id plumbing.Hash) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.git.HasEncodedObject(id)
	if errors.Is(err, plumbing.ErrObjectNotFound) {
		return false, nil
	}
	if err != nil {
		return false, asDamage(err)
	}
	return true, nil
}

// read gives an object's content after checking type, size and hash.
func (s *store) read(id plumbing.Hash, want plumbing.ObjectType, limit int64) ([]byte, error) {
	data, err := s.readRaw(id, want, limit)
	var large *tooLargeError
	if errors.As(err, &large) {
		return nil, err
	}
	if errors.Is(err, plumbing.ErrObjectNotFound) {
		return nil, fmt.Errorf("%w: %s %s is missing", ErrDamaged, want, id)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s %s: %v", ErrDamaged, want, id, err)
	}
	if got := plumbing.ComputeHash(want, data); got != id {
		return nil, fmt.Errorf("%w: %s %s has other content than its name says", ErrDamaged, want, id)
	}
	return data, nil
}

func (s *store) readRaw(id plumbing.Hash, want plumbing.ObjectType, limit int64) (data []byte, err error) {
	defer func() { // go-git may panic on damaged packs
		if p := recover(); p != nil {
			data, err = nil, fmt.Errorf("read object: %v", p)
		}
	}()
	s.mu.Lock()
	defer s.mu.Unlock()
	obj, err := s.git.EncodedObject(want, id) // reads only small ones by itself
	if err != nil {
		return nil, err
	}
	if size := obj.Size(); size > limit {
		return nil, &tooLargeError{size, limit}
	}
	r, err := obj.Reader()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, limit+1))
}

// kind is what an object is; [plumbing.InvalidObject] where that cannot be told.
func (s *store) kind(id plumbing.Hash) (kind plumbing.ObjectType) {
	defer func() { // go-git may panic on damaged packs
		if recover() != nil {
			kind = plumbing.InvalidObject
		}
	}()
	s.mu.Lock()
	defer s.mu.Unlock()
	obj, err := s.git.EncodedObject(plumbing.AnyObject, id)
	if err != nil {
		return plumbing.InvalidObject
	}
	return obj.Type()
}

func (s *store) tree(id plumbing.Hash) ([]node, error) {
	if v, ok := s.cache.get(id, 't'); ok {
		return v.([]node), nil
	}
	raw, err := s.read(id, plumbing.TreeObject, s.limits.ObjectBytes)
	if err != nil {
		return nil, err
	}
	nodes, err := parseTree(raw)
	if err != nil {
		return nil, fmt.Errorf("tree %s: %w", id, err)
	}
	s.cache.put(id, 't', nodes, int64(3*len(raw)))
	return nodes, nil
}

func (s *store) blob(id plumbing.Hash, limit int64) ([]byte, error) {
	if v, ok := s.cache.get(id, 'b'); ok {
		data := v.([]byte)
		if int64(len(data)) > limit {
			return nil, &tooLargeError{int64(len(data)), limit}
		}
		return data, nil
	}
	data, err := s.read(id, plumbing.BlobObject, limit)
	if err != nil {
		return nil, err
	}
	s.cache.put(id, 'b', data, int64(len(data)))
	return data, nil
}
