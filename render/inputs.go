package render

import (
	"encoding/hex"
	"errors"
	"io/fs"
	"strings"

	"github.com/purser-gitops/purser/sources"
)

// Input is one answer of the tree that a render depends on.
type Input struct {
	Path string `json:"path"` // in the tree, slash-separated; "" is the root
	// Hash is the blob id of a file, the tree id of a listed directory, "" for a
	// path that was looked for and is absent, "dir" for a directory that only had
	// to exist, "link:<path>" for a path that leads over links to <path>.
	Hash string `json:"hash"`
}

const (
	hashAbsent = ""
	hashDir    = "dir"
	hashLink   = "link:"
)

// Inputs is everything a render depends on, sorted by path. Besides these only
// [Version] and the directory decide what a render gives.
type Inputs []Input

// Unchanged reports that every input has the same answer in t, so that a render
// of t gives the same result. It never says so wrongly: an input that cannot be
// looked up counts as changed. It costs one look-up in memory for each input and
// reads no file.
func (in Inputs) Unchanged(t *sources.Tree) bool {
	for i := range in {
		if !in[i].unchanged(t) {
			return false
		}
	}
	return true
}

func (i *Input) unchanged(t *sources.Tree) bool {
	id, isDir, known := t.Peek(i.Path)
	switch {
	case !known:
		return i.sameLookup(t)
	case id == [20]byte{}:
		return i.Hash == hashAbsent
	case i.Hash == hashDir:
		return isDir
	}
	var text [2 * len(id)]byte
	hex.Encode(text[:], id[:])
	return string(text[:]) == i.Hash
}

// sameLookup is for paths over links and what else is not in the tree itself.
func (i *Input) sameLookup(t *sources.Tree) bool {
	e, err := t.Lookup(i.Path)
	switch target, isLink := strings.CutPrefix(i.Hash, hashLink); {
	case i.Hash == hashAbsent:
		return errors.Is(err, fs.ErrNotExist)
	case err != nil:
		return false
	case isLink:
		return e.Path == target
	case e.Path != i.Path:
		return false // a link came in between
	case i.Hash == hashDir:
		return e.IsDir
	default:
		return e.Hash == i.Hash
	}
}

// Answers gives what each path was found to be.
func (in Inputs) Answers() map[string]string {
	answers := make(map[string]string, len(in))
	for _, i := range in {
		answers[i.Path] = i.Hash
	}
	return answers
}

// Differing lists the paths of files, links and listed directories of which another render found something else, or
// which it did not look for.
func (in Inputs) Differing(from Inputs) []string {
	before := from.Answers()
	var paths []string
	for _, i := range in {
		if was, asked := before[i.Path]; i.Hash != hashAbsent && i.Hash != hashDir && (!asked || was != i.Hash) {
			paths = append(paths, i.Path)
		}
	}
	return paths
}

// OverLinks reports whether the path leads over links, so that a change elsewhere can change where it leads.
func (i Input) OverLinks() bool { return strings.HasPrefix(i.Hash, hashLink) }

// Watched lists the paths whose change can change what a render gives; of a directory, anything below it.
func (in Inputs) Watched() []string {
	paths := make([]string, 0, len(in))
	for _, i := range in {
		if i.Hash != hashDir {
			paths = append(paths, i.Path)
		}
	}
	return paths
}
