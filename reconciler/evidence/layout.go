package evidence

import (
	"errors"
	"fmt"

	"github.com/go-git/go-git/v5/plumbing"
)

// A record's path is its position in the branch, eight decimal digits cut into
// pairs: 123 is records/00/00/01/23.json. A push rewrites one directory per
// level, so a hundred entries a level, rather than a thousand, keep what a push
// writes and what a verifier hashes per commit small (at most 14 KB).
const (
	fanout     = 100
	depth      = 4
	maxRecords = 100_000_000 // fanout^depth, per branch
)

// recordPath is where the branch holds record seq.
func recordPath(seq uint64) string {
	return fmt.Sprintf("records/%02d/%02d/%02d/%02d.json",
		seq/1_000_000, seq/10_000%fanout, seq/100%fanout, seq%fanout)
}

// spine is the right edge of the records directory: what is needed to add a
// record without reading the tree. dirs[0] holds the blobs of the newest leaf
// directory, dirs[k] the finished directories beside the newest at height k.
type spine struct {
	dirs [depth][]plumbing.Hash
}

func (s spine) clone() spine {
	for k := range s.dirs {
		s.dirs[k] = append([]plumbing.Hash(nil), s.dirs[k]...)
	}
	return s
}

// size is the number of records.
func (s spine) size() uint64 {
	n, unit := uint64(0), uint64(1)
	for k := range s.dirs {
		n += uint64(len(s.dirs[k])) * unit
		unit *= fanout
	}
	return n
}

// add appends a record's blob. emit, if not nil, gets every directory this
// finished, with its height.
func (s *spine) add(blob plumbing.Hash, emit func(height int, tree object)) {
	s.dirs[0] = append(s.dirs[0], blob)
	for k := 0; k < depth-1 && len(s.dirs[k]) == fanout; k++ {
		tree := encodeDir(k, s.dirs[k])
		if emit != nil {
			emit(k, tree)
		}
		s.dirs[k+1] = append(s.dirs[k+1], tree.hash)
		s.dirs[k] = nil
	}
}

// root is the tree of the records directory. emit, if not nil, gets every
// unfinished directory, the root last.
func (s spine) root(emit func(height int, tree object)) plumbing.Hash {
	var child plumbing.Hash
	for k := range s.dirs {
		entries := s.dirs[k]
		if !child.IsZero() {
			entries = append(entries[:len(entries):len(entries)], child)
		}
		if len(entries) == 0 {
			continue
		}
		tree := encodeDir(k, entries)
		if emit != nil {
			emit(k, tree)
		}
		child = tree.hash
	}
	return child
}

func encodeDir(height int, hashes []plumbing.Hash) object {
	entries := make([]treeEntry, len(hashes))
	for i, h := range hashes {
		entries[i] = treeEntry{name: fmt.Sprintf("%02d", i), dir: height > 0, hash: h}
		if height == 0 {
			entries[i].name += ".json"
		}
	}
	return encodeTree(entries)
}

// rootTree is the branch's top directory.
func rootTree(checkpoint, records plumbing.Hash) object {
	return encodeTree([]treeEntry{
		{name: "checkpoint", hash: checkpoint},
		{name: "records", dir: true, hash: records},
	})
}

// spineJSON is the spine as it is kept in the state file.
type spineJSON [depth][]string

func (s spine) encode() spineJSON {
	var out spineJSON
	for k := range s.dirs {
		for _, h := range s.dirs[k] {
			out[k] = append(out[k], h.String())
		}
	}
	return out
}

func (j spineJSON) decode() (spine, error) {
	var s spine
	for k := range j {
		if len(j[k]) > fanout {
			return s, errors.New("parse spine: too many entries")
		}
		for _, text := range j[k] {
			if !plumbing.IsHash(text) {
				return s, fmt.Errorf("parse spine: hash %q", text)
			}
			s.dirs[k] = append(s.dirs[k], plumbing.NewHash(text))
		}
	}
	return s, nil
}
