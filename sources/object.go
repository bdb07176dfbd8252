package sources

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
)

// objects gives the content of Git objects by their id, each verified against
// it. An object that is not there is [ErrDamaged], never fs.ErrNotExist.
type objects interface {
	tree(id plumbing.Hash) ([]node, error)              // sorted by name; not to be altered
	blob(id plumbing.Hash, limit int64) ([]byte, error) // not to be altered; *tooLargeError
}

// node is one entry of a Git tree.
type node struct {
	name string
	mode filemode.FileMode
	id   plumbing.Hash
}

func byName(a, b node) int { return strings.Compare(a.name, b.name) }

func (n node) isDir() bool       { return n.mode == filemode.Dir }
func (n node) isLink() bool      { return n.mode == filemode.Symlink }
func (n node) isSubmodule() bool { return n.mode == filemode.Submodule }

type tooLargeError struct{ size, limit int64 }

func (e *tooLargeError) Error() string {
	return fmt.Sprintf("%d bytes are more than the limit of %d", e.size, e.limit)
}

// parseTree reads a tree object: entries "mode SP name NUL id", see
// https://git-scm.com/book/en/v2/Git-Internals-Git-Objects. It refuses names
// that no file can have or that a checkout must not write.
func parseTree(raw []byte) ([]node, error) {
	var nodes []node
	for len(raw) > 0 {
		sp := bytes.IndexByte(raw, ' ')
		nul := bytes.IndexByte(raw, 0)
		if sp < 1 || nul < sp || len(raw) < nul+1+len(plumbing.ZeroHash) {
			return nil, fmt.Errorf("parse tree: entry %d is malformed", len(nodes))
		}
		mode, err := filemode.New(string(raw[:sp]))
		if err != nil {
			return nil, fmt.Errorf("parse tree: mode of entry %d: %w", len(nodes), err)
		}
		n := node{name: string(raw[sp+1 : nul]), mode: mode}
		copy(n.id[:], raw[nul+1:])
		raw = raw[nul+1+len(n.id):]
		if n.mode, err = cleanMode(n); err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
	}
	slices.SortFunc(nodes, byName)
	for i := 1; i < len(nodes); i++ {
		if nodes[i].name == nodes[i-1].name {
			return nil, fmt.Errorf("parse tree: two entries are named %q", nodes[i].name)
		}
	}
	return nodes, nil
}

// cleanMode maps the modes that old Git versions wrote to today's five.
func cleanMode(n node) (filemode.FileMode, error) {
	if n.name == "" || strings.Contains(n.name, "/") || badName(n.name) {
		return 0, fmt.Errorf("parse tree: an entry may not be named %q", n.name)
	}
	switch n.mode & 0o170000 {
	case 0o100000:
		if n.mode&0o100 != 0 {
			return filemode.Executable, nil
		}
		return filemode.Regular, nil
	case 0o040000:
		return filemode.Dir, nil
	case 0o120000:
		return filemode.Symlink, nil
	case 0o160000:
		return filemode.Submodule, nil
	}
	return 0, fmt.Errorf("parse tree: entry %q has the unknown mode %o", n.name, uint32(n.mode))
}

// badName reports names that never are files of a tree.
func badName(name string) bool {
	return name == "." || name == ".." || strings.EqualFold(name, ".git") || strings.ContainsRune(name, 0)
}
