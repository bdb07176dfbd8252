package sources

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/hash"
)

// WorkTree gives the view of a directory on disk that its commit would give,
// ignored files included and .git left out, with the same object ids. Files are
// hashed now and read later; one that changed in between is an error.
func WorkTree(dir string, limits Limits) (*Tree, error) {
	w := &workTree{dir: dir, limits: limits.withDefaults(), trees: map[plumbing.Hash][]node{}, files: map[plumbing.Hash]workFile{}}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open working directory: %w", err)
	}
	defer root.Close()
	id, err := w.scan(root, ".", 0)
	if err != nil {
		return nil, fmt.Errorf("read working directory %s: %w", dir, err)
	}
	return newTree(id, w, w.limits), nil
}

// workTree answers for objects that are files on disk.
type workTree struct {
	dir     string
	limits  Limits
	entries int64
	trees   map[plumbing.Hash][]node
	files   map[plumbing.Hash]workFile
}

type workFile struct {
	path string // relative to dir
	size int64
	link []byte // a link's target, nil for files
}

func (w *workTree) scan(root *os.Root, dir string, depth int) (plumbing.Hash, error) {
	if depth > maxDepth {
		return plumbing.ZeroHash, &RefusedError{filepath.ToSlash(dir), fmt.Sprintf("directories are nested more than %d deep", maxDepth), "use fewer levels"}
	}
	f, err := root.Open(dir)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	defer f.Close()
	infos, err := f.Readdir(-1)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	var nodes []node
	for _, info := range infos {
		if badName(info.Name()) {
			continue
		}
		n, ok, err := w.add(root, filepath.Join(dir, info.Name()), info, depth)
		if err != nil {
			return plumbing.ZeroHash, err
		}
		if ok {
			nodes = append(nodes, n)
		}
	}
	return w.addTree(nodes), nil
}

// add hashes one entry; ok is false for what Git does not keep either: empty
// directories, sockets, devices.
func (w *workTree) add(root *os.Root, p string, info fs.FileInfo, depth int) (n node, ok bool, err error) {
	if w.entries++; w.entries > w.limits.TreeEntries {
		return node{}, false, &RefusedError{filepath.ToSlash(p), fmt.Sprintf("the directory has more than %d files", w.limits.TreeEntries),
			"point at the estate's own directory"}
	}
	n.name = info.Name()
	switch mode := info.Mode(); {
	case mode.IsDir():
		n.mode = filemode.Dir
		n.id, err = w.scan(root, p, depth+1)
		return n, len(w.trees[n.id]) > 0, err
	case mode.Type() == fs.ModeSymlink:
		n.mode = filemode.Symlink
		target, err := root.Readlink(p)
		if err != nil {
			return node{}, false, err
		}
		n.id = plumbing.ComputeHash(plumbing.BlobObject, []byte(target))
		w.files[n.id] = workFile{path: p, size: int64(len(target)), link: []byte(target)}
		return n, true, nil
	case mode.IsRegular():
		n.mode = filemode.Regular
		if mode&0o100 != 0 {
			n.mode = filemode.Executable
		}
		var size int64
		n.id, size, err = hashFile(root, p)
		if old, seen := w.files[n.id]; err == nil && (!seen || old.link != nil) {
			w.files[n.id] = workFile{path: p, size: size}
		}
		return n, err == nil, err
	}
	return node{}, false, nil
}

func hashFile(root *os.Root, p string) (plumbing.Hash, int64, error) {
	f, err := root.Open(p)
	if err != nil {
		return plumbing.ZeroHash, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return plumbing.ZeroHash, 0, err
	}
	h := plumbing.NewHasher(plumbing.BlobObject, info.Size())
	n, err := io.Copy(h, io.LimitReader(f, info.Size()+1))
	if err == nil && n != info.Size() {
		err = errChanged(p)
	}
	return h.Sum(), n, err
}

// addTree computes the id of a tree as Git does: directories sort as if their
// names ended in a slash.
func (w *workTree) addTree(nodes []node) plumbing.Hash {
	key := func(n node) string {
		if n.isDir() {
			return n.name + "/"
		}
		return n.name
	}
	slices.SortFunc(nodes, func(a, b node) int { return strings.Compare(key(a), key(b)) })
	raw := make([]byte, 0, len(nodes)*(hash.Size+32))
	for _, n := range nodes {
		raw = fmt.Appendf(raw, "%o %s\x00", uint32(n.mode), n.name)
		raw = append(raw, n.id[:]...)
	}
	id := plumbing.ComputeHash(plumbing.TreeObject, raw)
	slices.SortFunc(nodes, byName)
	w.trees[id] = nodes
	return id
}

func (w *workTree) tree(id plumbing.Hash) ([]node, error) {
	nodes, ok := w.trees[id]
	if !ok {
		return nil, fmt.Errorf("tree %s: %w", id, ErrDamaged)
	}
	return nodes, nil
}

func (w *workTree) blob(id plumbing.Hash, limit int64) ([]byte, error) {
	file, ok := w.files[id]
	if !ok {
		return nil, fmt.Errorf("blob %s: %w", id, ErrDamaged)
	}
	if file.size > limit {
		return nil, &tooLargeError{file.size, limit}
	}
	if file.link != nil {
		return file.link, nil
	}
	root, err := os.OpenRoot(w.dir)
	if err != nil {
		return nil, asDamage(err)
	}
	defer root.Close()
	f, err := root.Open(file.path)
	if err != nil {
		return nil, asDamage(err)
	}
	defer f.Close()
	var buf bytes.Buffer
	if _, err := io.Copy(&buf, io.LimitReader(f, file.size+1)); err != nil {
		return nil, asDamage(err)
	}
	if plumbing.ComputeHash(plumbing.BlobObject, buf.Bytes()) != id {
		return nil, errChanged(file.path)
	}
	return buf.Bytes(), nil
}

func errChanged(p string) error {
	return hint(fmt.Errorf("file %s changed while it was read", p), "run the command again")
}

// asDamage keeps what failed as text only, so that a file that vanished never
// looks like a path that the tree does not have.
func asDamage(err error) error {
	if errors.Is(err, ErrDamaged) {
		return err
	}
	return fmt.Errorf("%w: %v", ErrDamaged, err)
}
