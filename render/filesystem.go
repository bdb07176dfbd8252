package render

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unique"

	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/purser-gitops/purser/sources"
)

// mount is where Kustomize sees the root of the tree. It has a parent, so that a
// path out of the tree is absent instead of being cut off at the root.
const mount = "/repository/tree"

var errReadOnly = errors.New("the tree is read-only")

// treeFS shows a tree to Kustomize, read-only, and traces every answer. One
// render uses it, from one goroutine.
//
// Kustomize swallows some errors of its file system and tries something else.
// The first error that is not an absent path is therefore kept in err, fails
// every later call, and is what the render returns.
type treeFS struct {
	ctx    context.Context // here because the library's interface has no parameter for it
	tree   *sources.Tree
	root   string // directory of the rendered kustomization
	limits Limits
	known  *known
	err    error

	inputs    map[string]string // path → Input.Hash
	looked    map[string]found  // by path as asked
	content   map[string][]byte // by resolved path, each read once
	roots     map[string]string // resolved kustomization file → directory it was asked for in
	checked   map[string]bool   // kustomization files, by resolved path and directory
	depth     map[string]int    // kustomization directory → distance from root
	copies    copies
	copying   map[string][]copied // what a kustomization copies, by resolved path and directory
	calls     int
	readBytes int64

	exclusive    bool // this build has Kustomize's globals for itself
	managedLabel bool // the root asks for the managed-by label
}

type found struct {
	entry sources.Entry
	err   error
}

func newTreeFS(ctx context.Context, t *sources.Tree, root string, limits Limits, known *known, exclusive bool) *treeFS {
	return &treeFS{
		ctx: ctx, tree: t, root: root, limits: limits, known: known, exclusive: exclusive,
		inputs: map[string]string{}, looked: map[string]found{}, content: map[string][]byte{},
		roots: map[string]string{}, copying: map[string][]copied{}, checked: map[string]bool{}, depth: map[string]int{root: 0},
	}
}

// fail keeps the first error.
func (f *treeFS) fail(err error) error {
	if f.err == nil {
		f.err = err
	}
	return f.err
}

// enter counts a call and stops a build that is cancelled, failed or runs away.
func (f *treeFS) enter() error {
	if f.err != nil {
		return f.err
	}
	if err := f.ctx.Err(); err != nil {
		var tooLong *RefusedError
		if errors.As(context.Cause(f.ctx), &tooLong) {
			return f.fail(tooLong)
		}
		return f.fail(fmt.Errorf("render %q: %w", f.root, err))
	}
	if f.calls++; f.calls > f.limits.Reads {
		return f.fail(&RefusedError{File: f.root,
			Reason: fmt.Sprintf("the build asks for more than %d files", f.limits.Reads),
			Remedy: "include each base once, or split the environment"})
	}
	return nil
}

// lookup traces and answers what is at p, a clean path in the tree.
func (f *treeFS) lookup(p string) (sources.Entry, error) {
	if err := f.enter(); err != nil {
		return sources.Entry{}, err
	}
	if got, ok := f.looked[p]; ok {
		return got.entry, got.err
	}
	e, err := f.tree.Lookup(p)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.inputs[p] = hashAbsent
	case err != nil:
		return e, f.fail(f.refusal(p, err))
	default:
		if e.Path != p {
			f.inputs[p] = hashLink + e.Path
		}
		if e.IsDir {
			f.trace(e.Path, hashDir)
		} else {
			f.inputs[e.Path] = e.Hash
		}
	}
	f.looked[p] = found{e, err}
	return e, err
}

// trace notes an answer unless a stronger one is there.
func (f *treeFS) trace(p, hash string) {
	if _, ok := f.inputs[p]; !ok || hash != hashDir {
		f.inputs[p] = hash
	}
}

func (f *treeFS) refusal(p string, err error) error {
	var refused *sources.RefusedError
	if errors.As(err, &refused) {
		return &RefusedError{File: p, Reason: refused.Reason, Remedy: refused.Remedy, Err: err}
	}
	return fmt.Errorf("read %q: %w", p, err)
}

// read gives the content of the file at p, the same bytes every time.
func (f *treeFS) read(p string) ([]byte, sources.Entry, error) {
	e, err := f.lookup(p)
	if err != nil {
		return nil, e, err
	}
	if e.IsDir {
		return nil, e, fmt.Errorf("read %q: is a directory", p)
	}
	if data, ok := f.content[e.Path]; ok {
		return data, e, f.charge(len(data))
	}
	data, err := f.tree.ReadFile(e.Path)
	if err != nil {
		return nil, e, f.fail(f.refusal(p, err))
	}
	if !f.known.readable(e.Hash) {
		if err := f.readable(e.Path, data); err != nil {
			return nil, e, f.fail(err)
		}
		f.known.addReadable(e.Hash)
	}
	f.content[e.Path] = data
	return data, e, f.charge(len(data))
}

// readable refuses YAML that would take Kustomize too much memory or time.
func (f *treeFS) readable(file string, data []byte) error {
	if err := checkAliases(data); err != nil {
		return &RefusedError{File: file, Line: 1, Column: 1, Reason: err.Error(), Remedy: "write the values out, or use fewer YAML anchors"}
	}
	if line := tooDeep(data); line > 0 {
		return &RefusedError{File: file, Line: line, Column: 1,
			Reason: fmt.Sprintf("its values are nested more than %d deep", maxNesting), Remedy: "nest them less"}
	}
	return nil
}

// charge bounds what a build reads, repeated reads included: the size of the
// result follows from it.
func (f *treeFS) charge(n int) error {
	if f.readBytes += int64(n); f.readBytes > f.limits.InputBytes {
		return f.fail(&RefusedError{File: f.root,
			Reason: fmt.Sprintf("the build reads more than %d bytes", f.limits.InputBytes),
			Remedy: "include each base once, or split the environment"})
	}
	return nil
}

// traced gives the inputs, sorted.
func (f *treeFS) traced() Inputs {
	in := make(Inputs, 0, len(f.inputs))
	for p, h := range f.inputs {
		if !within(p, f.root) { // of a base: kept once for all its environments
			p, h = unique.Make(p).Value(), unique.Make(h).Value()
		}
		in = append(in, Input{Path: p, Hash: h})
	}
	slices.SortFunc(in, func(a, b Input) int { return strings.Compare(a.Path, b.Path) })
	return in
}

// inTree gives the tree path of what Kustomize calls name.
func inTree(name string) (string, error) {
	name = filepath.Clean(name)
	if name == mount {
		return "", nil
	}
	if p, ok := strings.CutPrefix(name, mount+"/"); ok {
		return p, nil
	}
	return "", &fs.PathError{Op: "look up", Path: name, Err: fs.ErrNotExist}
}

func mounted(p string) string { return path.Join(mount, p) }

// CleanedAbs implements [filesys.FileSystem]: links resolved, directory and file
// apart.
func (f *treeFS) CleanedAbs(name string) (filesys.ConfirmedDir, string, error) {
	p, err := inTree(name)
	if err != nil {
		return "", "", err
	}
	e, err := f.lookup(p)
	if err != nil {
		return "", "", err
	}
	if e.IsDir {
		return filesys.ConfirmedDir(mounted(e.Path)), "", nil
	}
	if slices.Contains(konfig.RecognizedKustomizationFileNames(), path.Base(p)) {
		f.roots[e.Path] = dirOf(p)
	}
	return filesys.ConfirmedDir(mounted(dirOf(e.Path))), path.Base(e.Path), nil
}

// ReadFile implements [filesys.FileSystem]. A kustomization is checked before
// its bytes are given away, for the directory it was asked for in: a link can
// give one file several.
func (f *treeFS) ReadFile(name string) ([]byte, error) {
	p, err := inTree(name)
	if err != nil {
		return nil, err
	}
	data, e, err := f.read(p)
	if err != nil {
		return nil, err
	}
	if dir, ok := f.roots[e.Path]; ok {
		if err := f.checkOnce(e, dir, data); err != nil {
			return nil, f.fail(err)
		}
	}
	return bytes.Clone(data), nil
}

// checkOnce checks a kustomization at its first read, and counts what it copies
// at each: Kustomize runs it as often.
func (f *treeFS) checkOnce(e sources.Entry, dir string, data []byte) error {
	file := e.Path
	key := file + "\x00" + dir
	if !f.checked[key] {
		f.checked[key] = true
		if err := f.check(file, dir, e.Hash, data); err != nil {
			return err
		}
	}
	if reason := f.copies.add(f.copying[key]); reason != "" {
		return &RefusedError{File: file, Line: 1, Column: 1, Reason: reason, Remedy: "write the values out in a resource or a patch"}
	}
	return nil
}

// Exists implements [filesys.FileSystem].
func (f *treeFS) Exists(name string) bool {
	p, err := inTree(name)
	if err == nil {
		_, err = f.lookup(p)
	}
	return err == nil
}

// IsDir implements [filesys.FileSystem].
func (f *treeFS) IsDir(name string) bool {
	p, err := inTree(name)
	if err != nil {
		return false
	}
	e, err := f.lookup(p)
	return err == nil && e.IsDir
}

// ReadDir implements [filesys.FileSystem]; the listing is traced by its tree id.
func (f *treeFS) ReadDir(name string) ([]string, error) {
	p, err := inTree(name)
	if err != nil {
		return nil, err
	}
	e, err := f.lookup(p)
	if err != nil {
		return nil, err
	}
	entries, err := f.tree.ReadDir(e.Path)
	if err != nil {
		return nil, f.fail(f.refusal(p, err))
	}
	f.trace(e.Path, e.Hash)
	names := make([]string, len(entries))
	for i := range entries {
		names[i] = entries[i].Name
	}
	return names, nil
}

// Open, Glob and Walk are not used by builds; the rest would write.

func (f *treeFS) Open(string) (filesys.File, error)    { return nil, f.fail(errors.ErrUnsupported) }
func (f *treeFS) Glob(string) ([]string, error)        { return nil, f.fail(errors.ErrUnsupported) }
func (f *treeFS) Walk(string, filepath.WalkFunc) error { return f.fail(errors.ErrUnsupported) }
func (f *treeFS) Create(string) (filesys.File, error)  { return nil, f.fail(errReadOnly) }
func (f *treeFS) Mkdir(string) error                   { return f.fail(errReadOnly) }
func (f *treeFS) MkdirAll(string) error                { return f.fail(errReadOnly) }
func (f *treeFS) RemoveAll(string) error               { return f.fail(errReadOnly) }
func (f *treeFS) WriteFile(string, []byte) error       { return f.fail(errReadOnly) }

// dirOf is path.Dir with "" for the root.
func dirOf(p string) string {
	if d := path.Dir(p); d != "." {
		return d
	}
	return ""
}
