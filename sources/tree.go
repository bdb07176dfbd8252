package sources

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"syscall"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
)

// Tree is a read-only view of the files of one commit, or of a working
// directory as it was when [WorkTree] looked. It never touches a checkout and is
// safe for concurrent use.
//
// Paths are slash-separated and relative to the root, which is "" or ".". A path
// with "..", a leading slash, a NUL or a ".git" element is refused.
type Tree struct {
	root   plumbing.Hash
	id     string // of root, hex
	src    objects
	limits Limits
	dirs   dirs
}

func newTree(root plumbing.Hash, src objects, limits Limits) *Tree {
	return &Tree{root: root, id: root.String(), src: src, limits: limits}
}

// Entry is one file, directory or link.
type Entry struct {
	Path   string // where it is in the tree, without links; "" for the root
	Name   string // last element of Path
	Hash   string // Git object id, hex: of the blob, of the tree, of the link's text
	IsDir  bool
	IsLink bool // from ReadDir: it is a link. From Lookup: the path's last element was one
}

// ID is the object id of the root tree, hex.
func (t *Tree) ID() string { return t.id }

// Lookup finds the file or directory at path, following links inside the tree.
// The error is [fs.ErrNotExist] when the tree has no such path, *[RefusedError]
// for what is not read, or [ErrDamaged].
func (t *Tree) Lookup(path string) (Entry, error) {
	at, n, linked, err := t.resolve(path)
	if err != nil {
		return Entry{}, err
	}
	e := entry(at, n)
	e.IsLink = linked
	return e, nil
}

// ReadFile gives the content of the file at path, following links. The errors
// are those of [Tree.Lookup]; a file above Limits.FileBytes and a Git LFS
// pointer are refused. The caller owns the result.
func (t *Tree) ReadFile(path string) ([]byte, error) {
	at, n, _, err := t.resolve(path)
	if err != nil {
		return nil, err
	}
	if n.isDir() {
		return nil, &fs.PathError{Op: "read", Path: path, Err: syscall.EISDIR}
	}
	data, err := t.src.blob(n.id, t.limits.FileBytes)
	var large *tooLargeError
	if errors.As(err, &large) {
		return nil, &RefusedError{at, "the file is too large: " + large.Error(),
			"keep large files out of the repository, or raise the limit in the agent's configuration"}
	}
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", at, err)
	}
	if isLFSPointer(data) {
		return nil, &RefusedError{at, "it is a Git LFS pointer, not the file itself",
			"commit the file as an ordinary blob (git lfs untrack, then git add --renormalize)"}
	}
	return bytes.Clone(data), nil
}

// ReadDir lists the directory at path, sorted by name. Links are listed as
// links and not followed; submodules are listed as directories that Lookup
// refuses. The errors are those of [Tree.Lookup].
func (t *Tree) ReadDir(path string) ([]Entry, error) {
	at, n, _, err := t.resolve(path)
	if err != nil {
		return nil, err
	}
	if !n.isDir() {
		return nil, &fs.PathError{Op: "readdir", Path: path, Err: syscall.ENOTDIR}
	}
	nodes, err := t.list(at, n.id)
	if err != nil {
		return nil, err
	}
	entries := make([]Entry, 0, len(nodes))
	for _, n := range nodes {
		entries = append(entries, entry(join(at, n.name), n))
	}
	return entries, nil
}

func (t *Tree) list(at string, id plumbing.Hash) ([]node, error) {
	nodes, err := t.src.tree(id)
	if err != nil {
		return nil, fmt.Errorf("read directory %q: %w", at, err)
	}
	if int64(len(nodes)) > t.limits.TreeEntries {
		return nil, &RefusedError{at, fmt.Sprintf("the directory has %d entries, more than the limit of %d", len(nodes), t.limits.TreeEntries),
			"keep fewer files in one repository, or raise the limit in the agent's configuration"}
	}
	return nodes, nil
}

func entry(at string, n node) Entry {
	_, name := splitLast(at)
	return Entry{Path: at, Name: name, Hash: n.id.String(), IsDir: n.isDir() || n.isSubmodule(), IsLink: n.isLink()}
}

// walk is a lookup under way: where it is, and what remains of the path.
type walk struct {
	dirs  []node // from the root to the current directory
	names []string
	rest  []string
	links int // links followed so far
	owed  int // how many elements of rest come from a link's target
}

func (w *walk) at() string { return path.Join(w.names...) }

// resolve finds p, which is at at without links. linked reports that p's last element is a link.
func (t *Tree) resolve(p string) (at string, n node, linked bool, err error) {
	n, found, known := t.peek(p)
	switch {
	case found:
		return p, n, false, nil
	case known:
		return "", node{}, false, absent(p)
	}
	return t.walk(p)
}

// walk goes to p from the root, over links.
func (t *Tree) walk(p string) (at string, n node, linked bool, err error) {
	rest, err := splitPath(p)
	if err != nil {
		return "", node{}, false, err
	}
	w := &walk{dirs: []node{{mode: filemode.Dir, id: t.root}}, rest: rest}
	for len(w.rest) > 0 {
		name, promised := w.rest[0], w.owed > 0
		w.rest, w.owed = w.rest[1:], max(0, w.owed-1)
		if name == ".." { // from a link's target only: splitPath refuses it in p
			if len(w.names) == 0 {
				return "", node{}, false, leavesTree(p)
			}
			w.dirs, w.names = w.dirs[:len(w.dirs)-1], w.names[:len(w.names)-1]
			continue
		}
		n, err := t.child(w, name)
		if err != nil {
			return "", node{}, false, explain(p, w, promised, err)
		}
		switch {
		case n.isSubmodule():
			return "", node{}, false, &RefusedError{join(w.at(), name), "it is a Git submodule",
				"copy the files into this repository, or declare the other repository as a source of its own"}
		case n.isLink():
			linked = linked || len(w.rest) == 0
			if err := t.follow(w, p, n); err != nil {
				return "", node{}, false, err
			}
		default:
			w.dirs, w.names = append(w.dirs, n), append(w.names, name)
		}
	}
	return w.at(), w.dirs[len(w.dirs)-1], linked, nil
}

// child finds name in the current directory.
func (t *Tree) child(w *walk, name string) (node, error) {
	dir := w.dirs[len(w.dirs)-1]
	if !dir.isDir() {
		return node{}, fs.ErrNotExist
	}
	nodes, err := t.list(w.at(), dir.id)
	if err != nil {
		return node{}, err
	}
	i, ok := findNode(nodes, name)
	if !ok {
		return node{}, fs.ErrNotExist
	}
	return nodes[i], nil
}

// follow puts the link's target in front of the remaining path.
func (t *Tree) follow(w *walk, asked string, link node) error {
	if w.links++; w.links > maxLinks {
		return &RefusedError{asked, fmt.Sprintf("more than %d links are on the way", maxLinks), "remove the loop of links"}
	}
	raw, err := t.src.blob(link.id, maxLinkBytes)
	if err != nil {
		return fmt.Errorf("read link %q: %w", join(w.at(), link.name), err)
	}
	target := string(raw)
	if target == "" || strings.HasPrefix(target, "/") {
		return leavesTree(join(w.at(), link.name))
	}
	var elements []string
	for _, e := range strings.Split(target, "/") {
		switch {
		case e == "" || e == ".":
		case e != ".." && badName(e):
			return leavesTree(join(w.at(), link.name))
		default:
			elements = append(elements, e)
		}
	}
	w.rest, w.owed = append(elements, w.rest...), len(elements)+w.owed
	return nil
}

// explain turns the absence of a link's target into a refusal: a link that
// leads nowhere is a mistake in the commit, not a path that is absent.
func explain(asked string, w *walk, promised bool, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if promised {
		return &RefusedError{asked, fmt.Sprintf("a link on the way leads to something that is not in %q", w.at()),
			"correct the link's target or remove the link"}
	}
	return absent(asked)
}

func absent(p string) error {
	return &fs.PathError{Op: "look up", Path: p, Err: fs.ErrNotExist}
}

func leavesTree(p string) error {
	return &RefusedError{p, "it leads out of the tree", "use a relative path that stays inside the repository"}
}

func splitPath(p string) ([]string, error) {
	if strings.HasPrefix(p, "/") {
		return nil, leavesTree(p)
	}
	if len(p) > maxPathBytes {
		return nil, &RefusedError{p[:80] + "…", fmt.Sprintf("the path is longer than %d bytes", maxPathBytes), "use shorter names"}
	}
	var names []string
	for _, e := range strings.Split(p, "/") {
		switch {
		case e == "" || e == ".":
		case e == "..":
			return nil, leavesTree(p)
		case badName(e):
			return nil, &RefusedError{p, "no file of a tree has such a path", "use an ordinary path below the root"}
		default:
			names = append(names, e)
		}
	}
	return names, nil
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// isLFSPointer follows https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md:
// a pointer is smaller than 1024 bytes and its first line names the version.
func isLFSPointer(data []byte) bool {
	return len(data) < 1024 &&
		(bytes.HasPrefix(data, []byte("version https://git-lfs.github.com/spec/")) ||
			bytes.HasPrefix(data, []byte("version https://hawser.github.com/spec/")))
}
