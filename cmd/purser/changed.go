package main

import (
	"errors"
	"io/fs"
	"path"
	"slices"

	"github.com/purser-gitops/purser/sources"
)

// changedPaths lists the files at or below some paths that differ between two trees, sorted. A tree that is nil is empty.
func changedPaths(from, to *sources.Tree, below []string) ([]string, error) {
	changed := map[string]bool{}
	for _, p := range below {
		a, err := lookup(from, p)
		if err != nil {
			return nil, err
		}
		b, err := lookup(to, p)
		if err != nil {
			return nil, err
		}
		if err := compare(from, to, p, a, b, changed); err != nil {
			return nil, err
		}
	}
	var list []string
	for p := range changed {
		list = append(list, p)
	}
	slices.Sort(list)
	return list, nil
}

// lookup finds an entry; nil where there is none.
func lookup(tree *sources.Tree, p string) (*sources.Entry, error) {
	if tree == nil {
		return nil, nil
	}
	entry, err := tree.Lookup(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return &entry, err
}

// compare notes the files that differ at or below a path.
func compare(from, to *sources.Tree, p string, a, b *sources.Entry, changed map[string]bool) error {
	if a == nil && b == nil || a != nil && b != nil && a.Hash == b.Hash && a.IsLink == b.IsLink {
		return nil
	}
	older, err := children(from, p, a)
	if err != nil {
		return err
	}
	newer, err := children(to, p, b)
	if err != nil {
		return err
	}
	if a != nil && older == nil || b != nil && newer == nil {
		changed[p] = true
	}
	for name, entry := range older {
		if err := compare(from, to, path.Join(p, name), entry, newer[name], changed); err != nil {
			return err
		}
	}
	for name, entry := range newer {
		if older[name] == nil {
			if err := compare(from, to, path.Join(p, name), nil, entry, changed); err != nil {
				return err
			}
		}
	}
	return nil
}

// children are the entries of a folder by name; nil of what is none.
func children(tree *sources.Tree, p string, entry *sources.Entry) (map[string]*sources.Entry, error) {
	if entry == nil || !entry.IsDir || entry.IsLink {
		return nil, nil
	}
	entries, err := tree.ReadDir(p)
	if err != nil {
		return nil, err
	}
	byName := make(map[string]*sources.Entry, len(entries))
	for i := range entries {
		byName[entries[i].Name] = &entries[i]
	}
	return byName, nil
}
