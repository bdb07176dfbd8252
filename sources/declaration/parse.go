package declaration

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"reflect"
	"strings"

	"github.com/purser-gitops/purser/sources"
)

const (
	maxFiles   = 10_000 // of declarations, in one governance folder
	maxFolders = 16     // below each other
)

// ReleaseFile is the name of the file beside a kustomization that holds its [Release].
const ReleaseFile = "release.yaml"

var governanceKinds = []string{"Estate", "Cluster", "Tenant", "Environment", "Person", "ReleaseClass", "Calendar", "Policy", "BackupPolicy"}

// Parse reads every .yaml and .yml file in the folder root of tree, and below
// it. The error is [Errors] when the declarations are wrong, and anything else
// when the tree cannot be read; there is no Set in both cases.
func Parse(tree *sources.Tree, root string, known Known) (*Set, error) {
	g := &governance{known: known, complete: true, lookup: tree.Lookup}
	if err := g.folder(tree, path.Clean(root), 0); err != nil {
		return nil, fmt.Errorf("read declarations: %w", err)
	}
	if g.files == 0 && len(g.errs) == 0 {
		g.errs.add(Position{File: path.Clean(root)}, "no declarations", "the folder has no .yaml or .yml file", "declare an Environment, or name the right folder in the agent's configuration")
	}
	set, err := g.finish()
	if err != nil {
		return nil, err
	}
	return set, nil
}

// ParseRelease reads release.yaml in the folder dir. The error is
// [fs.ErrNotExist] when there is none, [Errors] when it is wrong, and anything
// else when the tree cannot be read.
func ParseRelease(tree *sources.Tree, dir string) (*Release, error) {
	file := path.Join(dir, ReleaseFile)
	data, err := tree.ReadFile(file)
	if err != nil {
		var errs Errors
		if refused(&errs, file, err) {
			return nil, errs
		}
		return nil, fmt.Errorf("read release: %w", err)
	}
	return decodeRelease(file, data, tree.Lookup)
}

// decodeRelease reads data as the release in file; lookup finds its attestations, unless it is nil.
func decodeRelease(file string, data []byte, lookup lookup) (*Release, error) {
	r := new(Release)
	var errs Errors
	preset(r)
	if doc := single(file, data, &errs, ReleaseFile+" describes a release", "Release"); doc != nil {
		r.Position = doc.Position
		doc.decode(r, false, &errs)
		r.classAt = doc.mark("spec.class")
		if err := r.attested(doc, lookup, &errs); err != nil {
			return nil, fmt.Errorf("read release: %w", err)
		}
	}
	if err := errs.sorted(); err != nil {
		return nil, err
	}
	return r, nil
}

// attested refuses attestations that are not there. Its error is of the tree.
func (r *Release) attested(doc *document, lookup lookup, errs *Errors) error {
	for i, name := range r.Attestations {
		if name == "" || lookup == nil {
			continue // reported by the decoder
		}
		at, file := doc.mark(fmt.Sprintf("spec.attestations[%d]", i)), path.Join(path.Dir(doc.File), name)
		entry, err := lookup(file)
		var refusal Errors
		switch {
		case errors.Is(err, fs.ErrNotExist):
			errs.add(at, fmt.Sprintf("no file %q", file), "an attestation lies beside the release that names it", "correct the path, or add the file in the same commit")
		case err != nil && !refused(&refusal, file, err):
			return err
		case err != nil:
			*errs = append(*errs, Error{Position: at, What: fmt.Sprintf("file %q cannot be read", file), Why: refusal[0].Why, Remedy: refusal[0].Remedy, cause: err})
		case entry.IsDir:
			errs.add(at, fmt.Sprintf("%q is a folder", file), "each attestation is one file", "name the files in it")
		}
	}
	return nil
}

// lookup finds a file or folder in a tree.
type lookup func(path string) (sources.Entry, error)

// single reads a file that holds one document of one kind.
func single(file string, data []byte, errs *Errors, where, kind string) *document {
	docs, _ := split(file, data, errs)
	if len(docs) == 0 {
		return nil
	}
	for _, extra := range docs[1:] {
		errs.add(extra.Position, "second document", "this file holds one "+kind, "remove it")
	}
	if !docs[0].header(errs, where, kind) {
		return nil
	}
	return docs[0]
}

// governance collects the documents of a governance folder.
type governance struct {
	known    Known
	lookup   lookup // nil: paths are not checked
	files    int
	docs     []*document
	complete bool // all that is declared is in docs
	errs     Errors
}

// folder reads the files of dir. Its error is of the tree, not of its content.
func (g *governance) folder(tree *sources.Tree, dir string, depth int) error {
	entries, err := tree.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) && depth == 0:
		g.errs.add(Position{File: dir}, "no such folder", "the declarations of the estate are in it", "create it, or name the right folder in the agent's configuration")
		return nil
	case err != nil:
		return g.orRefused(dir, err)
	}
	for _, e := range entries {
		yaml := strings.HasSuffix(e.Name, ".yaml") || strings.HasSuffix(e.Name, ".yml")
		at := Position{File: e.Path}
		switch {
		case e.IsLink:
			g.errs.add(at, "is a link", "declarations are where they are read, so that a change shows who changes what", "put the file or folder itself here")
		case e.IsDir && depth == maxFolders:
			g.errs.add(at, "nested too deeply", fmt.Sprintf("declarations may be %d folders deep", maxFolders), "use fewer folders")
		case e.IsDir:
			if err := g.folder(tree, e.Path, depth+1); err != nil {
				return err
			}
		case !yaml:
		case g.files == maxFiles:
			g.errs.add(at, "too many files", fmt.Sprintf("a governance folder may have %d", maxFiles), "put several declarations into one file")
			return nil
		default:
			g.files++
			data, err := tree.ReadFile(e.Path)
			if err == nil {
				g.file(e.Path, data)
			} else if err := g.orRefused(e.Path, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// file reads the headers of the documents of one file.
func (g *governance) file(name string, data []byte) {
	docs, complete := split(name, data, &g.errs)
	g.complete = g.complete && complete
	for _, doc := range docs {
		if doc.header(&g.errs, "the governance folder declares the estate", governanceKinds...) {
			g.docs = append(g.docs, doc)
		} else {
			g.complete = false
		}
	}
}

// orRefused makes an [Error] of what the tree refuses, and gives back any other error.
func (g *governance) orRefused(file string, err error) error {
	if refused(&g.errs, file, err) {
		g.complete = false
		return nil
	}
	return err
}

func refused(errs *Errors, file string, err error) bool {
	var r *sources.RefusedError
	if !errors.As(err, &r) {
		return false
	}
	*errs = append(*errs, Error{Position: Position{File: file}, What: "cannot be read", Why: r.Reason, Remedy: r.Remedy, cause: err})
	return true
}

// finish decodes the documents, the Estate first because it presets others,
// and checks them against each other.
func (g *governance) finish() (*Set, error) {
	defaults := Defaults{}
	preset(&defaults)
	c := newCheck(g)
	for _, doc := range g.docs {
		if doc.kind.name == "Estate" {
			e := &Estate{Position: doc.Position}
			preset(&e.Spec)
			doc.decode(&e.Spec, false, &g.errs)
			e.Meta = doc.meta
			if c.claim(doc) {
				c.estate(doc, e)
			}
		}
	}
	if c.set.Estate != nil {
		defaults = c.set.Estate.Spec.Defaults
	}
	for _, doc := range g.docs {
		c.declared(doc, defaults)
	}
	if err := c.all(); err != nil {
		return nil, fmt.Errorf("read declarations: %w", err)
	}
	if err := g.errs.sorted(); err != nil {
		return nil, err
	}
	return c.set, nil
}

// declared decodes a document of any kind but Estate.
func (c *check) declared(doc *document, defaults Defaults) {
	switch doc.kind.name {
	case "Cluster":
		v := &Cluster{Position: doc.Position}
		enter(c, doc, c.set.Clusters, v, &v.Meta, &v.Spec)
	case "Tenant":
		v := &Tenant{Position: doc.Position}
		enter(c, doc, c.set.Tenants, v, &v.Meta, &v.Spec)
	case "Environment":
		v := &Environment{Position: doc.Position}
		preset(&v.Spec)
		s := &v.Spec
		s.Reconcile, s.Drift, s.Prune, s.Health = defaults.Reconcile, defaults.Drift, defaults.Prune, defaults.Health
		s.Class, s.Calendar, s.Backup = defaults.Class, defaults.Calendar, defaults.Backup
		enter(c, doc, c.set.Environments, v, &v.Meta, s)
	case "Person":
		v := &Person{Position: doc.Position}
		preset(&v.Spec)
		enter(c, doc, c.set.Persons, v, &v.Meta, &v.Spec)
	case "ReleaseClass":
		v := &ReleaseClass{Position: doc.Position}
		preset(&v.Spec)
		enter(c, doc, c.set.Classes, v, &v.Meta, &v.Spec)
	case "Calendar":
		v := &Calendar{Position: doc.Position}
		preset(&v.Spec)
		enter(c, doc, c.set.Calendars, v, &v.Meta, &v.Spec)
	case "Policy":
		v := &Policy{Position: doc.Position}
		preset(&v.Spec)
		enter(c, doc, c.set.Policies, v, &v.Meta, &v.Spec)
	case "BackupPolicy":
		v := &BackupPolicy{Position: doc.Position}
		preset(&v.Spec)
		enter(c, doc, c.set.BackupPolicies, v, &v.Meta, &v.Spec)
	}
}

// preset gives the fields of what v points to their defaults.
func preset(v any) { setDefaults(reflect.ValueOf(v).Elem()) }

// enter decodes the document into v, of which meta and spec are parts, and puts
// v under its name unless another declaration has it.
func enter[T any](c *check, doc *document, set map[string]*T, v *T, meta *Meta, spec any) {
	doc.decode(spec, false, &c.g.errs)
	*meta = doc.meta
	if c.claim(doc) {
		set[doc.meta.Name] = v
	}
}
