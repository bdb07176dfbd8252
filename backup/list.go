package backup

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/purser-gitops/purser/backup/store"
)

// lister lists the current versions of all objects whose keys begin with prefix. It is complete, or ends with an error.
type lister interface {
	opener
	List(ctx context.Context, prefix string) iter.Seq2[store.Object, error]
}

// Listing is what a store has of an environment.
type Listing struct {
	Environment string
	Backups     []Listed       // that have a manifest, by ID
	Halves      []Half         // that have none, by ID
	Packs       []store.Object // by key
	Strange     []store.Object // objects that are none of ours
}

// Listed is a backup as the store has it now. Whether it is what was written only the evidence log says.
type Listed struct {
	ID      ID
	Ref     store.Object   // current version of its manifest
	Objects []store.Object // current versions of everything else below its key
}

// A Half is what is left of a backup that was broken off, or being made.
type Half struct {
	ID      ID
	Objects []store.Object
}

// List lists what a store has of an environment. It is complete or an error.
func List(ctx context.Context, s lister, environment string) (Listing, error) {
	l, err := list(ctx, s, environment)
	if err != nil {
		return Listing{}, fmt.Errorf("list backups of %.80q: %w", environment, err)
	}
	return l, nil
}

func list(ctx context.Context, s lister, environment string) (Listing, error) {
	if !environmentForm.MatchString(environment) {
		return Listing{}, fmt.Errorf("%.80q is not the name of an environment", environment)
	}
	l := Listing{Environment: environment}
	// Packs first: those of a backup that is finished meanwhile are not all listed, but neither is any deleted for it.
	for o, err := range s.List(ctx, packsPrefix(environment)) {
		switch {
		case err != nil:
			return Listing{}, err
		case packName(environment, o.Key) == "":
			l.Strange = append(l.Strange, o)
		default:
			l.Packs = append(l.Packs, o)
		}
	}
	byID := map[ID]*Listed{}
	for o, err := range s.List(ctx, backupsPrefix(environment)) {
		if err != nil {
			return Listing{}, err
		}
		rest, inside := strings.CutPrefix(o.Key, backupsPrefix(environment))
		text, name, _ := strings.Cut(rest, "/")
		id := ID(text)
		if !inside || name == "" || id.check(environment) != nil {
			l.Strange = append(l.Strange, o)
			continue
		}
		b := byID[id]
		if b == nil {
			b = &Listed{ID: id}
			byID[id] = b
		}
		if name == manifestName {
			b.Ref = o
		} else {
			b.Objects = append(b.Objects, o)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		if b := byID[id]; b.Ref.Key != "" {
			l.Backups = append(l.Backups, *b)
		} else {
			l.Halves = append(l.Halves, Half{ID: id, Objects: b.Objects})
		}
	}
	return l, nil
}

// Found is a backup with what its current manifest says.
type Found struct {
	Listed
	Manifest *Manifest // nil if it cannot be read
	Problem  error     // why it cannot, or which of its own objects is not there as it says; nil for none
}

// Read reads the manifests one after the other: a large estate's do not fit into memory together. A manifest that is not what
// it should be is a problem of its backup; one of which the store does not say what it is ends the sequence with an error.
func (l Listing) Read(ctx context.Context, s opener) iter.Seq2[Found, error] {
	return func(yield func(Found, error) bool) {
		for _, b := range l.Backups {
			f := Found{Listed: b}
			var err error
			f.Manifest, err = open(ctx, s, l.Environment, b.ID, b.Ref, false)
			switch {
			case err == nil:
				f.Problem = b.missing(f.Manifest)
			case damaged(err):
				f.Problem = err
			default:
				yield(Found{}, fmt.Errorf("read backup %s: %w", b.ID, err))
				return
			}
			if !yield(f, nil) {
				return
			}
		}
	}
}

// damaged says that an error is about what is stored, and not about the way there.
func damaged(err error) bool {
	return errors.Is(err, ErrManifest) || errors.Is(err, store.ErrChanged) || errors.Is(err, store.ErrMissing)
}

// missing says which of the streams of the manifest the store does not list as the manifest says.
func (b Listed) missing(m *Manifest) error {
	current := map[string]store.Object{}
	for _, o := range b.Objects {
		current[o.Key] = o
	}
	for _, s := range m.named() {
		switch o, ok := current[s.entry.Key]; {
		case !ok:
			return fmt.Errorf("%s: %w, or hidden by a delete marker", s.name, store.ErrMissing)
		case o.Version != s.entry.Version:
			return fmt.Errorf("%s: %w: version %s has taken its place", s.name, store.ErrChanged, o.Version)
		case o.Size != s.entry.Size:
			return fmt.Errorf("%s: %w: it has %d bytes instead of %d", s.name, store.ErrChanged, o.Size, s.entry.Size)
		}
	}
	return nil
}
