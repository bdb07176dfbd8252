package render

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/api/types"

	"github.com/purser-gitops/purser/sources"
)

// errNeedsExclusive stops a shared build that turns out to change Kustomize's
// globals. It is not shown to callers: the build is run again, alone.
var errNeedsExclusive = errors.New("build sets openapi or crds")

// refKind says what Kustomize does with a path.
type refKind int

const (
	refFile         refKind = iota // reads a file in or below the kustomization
	refResource                    // reads a file, or builds a directory
	refComponent                   // builds a directory
	refInlineOrFile                // takes the text for a patch, else reads a file
	refEnv                         // reads key=value lines
	refConfigFile                  // reads a file into a ConfigMap
	refPlugin                      // takes the text for plugin configuration, else reads a file
)

// reference is one path in a kustomization.
type reference struct {
	kind  refKind
	keys  []string // top-level keys it can be below, for its place
	text  string   // as written
	value string   // the path in it
}

// check judges one kustomization as Kustomize would read it.
type check struct {
	fs   *treeFS
	file string // resolved path
	dir  string // what its paths are relative to
	pos  positions
	kust *kustomization
}

// check returns the first thing in a kustomization that Purser refuses. Its
// fields are those that Kustomize's own decoder finds, so that both see the same.
func (f *treeFS) check(file, dir, blob string, data []byte) error {
	c := &check{fs: f, file: file, dir: dir, pos: positions{data}, kust: f.known.base(blob)}
	if c.kust == nil {
		if err := c.decode(data); err != nil {
			return err
		}
		if dir != f.root {
			f.known.addBase(blob, c.kust, len(data))
		}
	}
	if dir == f.root {
		f.managedLabel = slices.Contains(c.kust.BuildMetadata, types.ManagedByLabelOption)
	}
	for _, r := range c.kust.refs {
		if err := c.reference(r); err != nil {
			return err
		}
	}
	f.copying[file+"\x00"+dir] = c.copiesOf()
	if !f.exclusive && (len(c.kust.OpenAPI) > 0 || len(c.kust.Crds) > 0) {
		return errNeedsExclusive
	}
	return nil
}

// decode judges what follows from the text alone.
func (c *check) decode(data []byte) error {
	c.kust = &kustomization{}
	if err := c.kust.Unmarshal(data); err != nil {
		return c.malformed(err)
	}
	if err := c.helm(); err != nil {
		return err
	}
	c.kust.FixKustomization()
	if err := c.kust.CheckEmpty(); err != nil {
		return &RefusedError{File: c.file, Line: 1, Column: 1, Reason: "the kustomization is empty", Remedy: "list its resources", Err: ErrEmpty}
	}
	if err := c.literals(); err != nil {
		return err
	}
	if line := tooDeepInside(data); line > 0 {
		return &RefusedError{File: c.file, Line: line, Column: 1,
			Reason: fmt.Sprintf("the text has values nested more than %d deep", maxNesting), Remedy: "nest them less"}
	}
	c.kust.refs = c.references()
	return nil
}

func (c *check) helm() error {
	for _, f := range []struct {
		key  string
		used bool
	}{
		{"helmCharts", len(c.kust.HelmCharts) > 0},
		{"helmGlobals", c.kust.HelmGlobals != nil},
		{"helmChartInflationGenerator", len(c.kust.HelmChartInflationGenerator) > 0},
	} {
		if f.used {
			line, column := c.pos.field("", f.key)
			return &RefusedError{File: c.file, Line: line, Column: column, Reason: f.key + " runs the helm program, which downloads charts", Remedy: helmRemedy}
		}
	}
	return nil
}

const helmRemedy = "render the chart in CI (helm template) and commit the manifests"

// references lists every path of the kustomization.
func (c *check) references() []reference {
	var refs []reference
	k := c.kust
	add := func(kind refKind, keys []string, texts ...string) {
		for _, t := range texts {
			if t != "" {
				refs = append(refs, reference{kind, keys, t, t})
			}
		}
	}
	add(refResource, []string{"resources", "bases"}, k.Resources...)
	add(refComponent, []string{"components"}, k.Components...)
	add(refFile, []string{"crds"}, k.Crds...)
	add(refFile, []string{"configurations"}, k.Configurations...)
	add(refFile, []string{"openapi"}, k.OpenAPI["path"])
	for _, p := range k.Patches {
		add(refFile, []string{"patches"}, p.Path)
	}
	//lint:ignore SA1019 estates use the field, and what it names is checked too
	for _, p := range k.PatchesJson6902 {
		add(refFile, []string{"patchesJson6902"}, p.Path)
	}
	//lint:ignore SA1019 estates use the field, and what it names is checked too
	for _, p := range k.PatchesStrategicMerge {
		add(refInlineOrFile, []string{"patchesStrategicMerge"}, string(p))
	}
	for _, r := range k.Replacements {
		add(refFile, []string{"replacements"}, r.Path)
	}
	for _, g := range k.ConfigMapGenerator {
		refs = append(refs, generatorReferences("configMapGenerator", g.KvPairSources, refConfigFile)...)
	}
	for _, g := range k.SecretGenerator {
		refs = append(refs, generatorReferences("secretGenerator", g.KvPairSources, refFile)...)
	}
	add(refPlugin, []string{"generators"}, k.Generators...)
	add(refPlugin, []string{"transformers"}, k.Transformers...)
	add(refPlugin, []string{"validators"}, k.Validators...)
	return refs
}

func generatorReferences(key string, s types.KvPairSources, files refKind) []reference {
	var refs []reference
	for _, text := range s.FileSources {
		value := text
		if _, after, ok := strings.Cut(text, "="); ok {
			value = after
		}
		refs = append(refs, reference{files, []string{key}, text, value})
	}
	for _, text := range append(slices.Clone(s.EnvSources), s.EnvSource) {
		if text != "" {
			refs = append(refs, reference{refEnv, []string{key}, text, text})
		}
	}
	return refs
}

// literals refuses ciphertext where it would reach the cluster as it is.
func (c *check) literals() error {
	judge := func(key string, literals []string) error {
		for _, l := range literals {
			if hasCiphertext(l) {
				return c.refuse(reference{keys: []string{key}, text: l},
					"a SOPS value in literals cannot be decrypted: its key is not kept with it",
					"encrypt a whole file and list it in secretGenerator files", nil)
			}
		}
		return nil
	}
	for _, g := range c.kust.ConfigMapGenerator {
		if err := judge("configMapGenerator", g.LiteralSources); err != nil {
			return err
		}
	}
	for _, g := range c.kust.SecretGenerator {
		if err := judge("secretGenerator", g.LiteralSources); err != nil {
			return err
		}
	}
	return nil
}

// reference judges one path: not remote, inside the tree, there, of the right
// kind, and for plugins and generators also its content. Text that could be
// inline is tested for an address too: Kustomize takes it for a path when it
// cannot use it as objects.
func (c *check) reference(r reference) error {
	if err := c.remote(r); err != nil {
		return err
	}
	switch r.kind {
	case refPlugin:
		if objs, err := parseObjects(r.text); err == nil {
			return c.plugins(objs, func(string) (string, int, int) {
				line, column := c.pos.field(r.text, r.keys...)
				return c.file, line, column
			})
		}
	case refInlineOrFile:
		if _, err := parseObjects(r.text); err == nil {
			return nil
		}
	}
	target, err := c.target(r)
	if err != nil {
		return err
	}
	e, err := c.lookup(r, target)
	if err != nil {
		return err
	}
	if e.IsDir {
		return c.directory(r, e)
	}
	return c.contents(r, target, e)
}

func (c *check) remote(r reference) error {
	kind := remoteKind(r.value)
	if kind == "" {
		kind = remoteKind(r.text)
	}
	if kind == "" {
		return nil
	}
	return c.refuse(r, fmt.Sprintf("%q is %s, and rendering reads nothing but this repository", r.value, kind),
		"copy what is needed into this repository (kustomize localize) and refer to it by a relative path", nil)
}

// target gives the tree path that a reference leads to.
func (c *check) target(r reference) (string, error) {
	if path.IsAbs(r.value) {
		return "", c.refuse(r, fmt.Sprintf("%q is an absolute path", r.value), "use a path relative to this kustomization", nil)
	}
	p := path.Join(c.dir, r.value)
	if p == ".." || strings.HasPrefix(p, "../") {
		return "", c.refuse(r, fmt.Sprintf("%q leads out of the repository", r.value), "use a path that stays inside the repository", nil)
	}
	if p == "." {
		p = ""
	}
	return p, nil
}

func (c *check) lookup(r reference, target string) (sources.Entry, error) {
	e, err := c.fs.lookup(target)
	var refused *sources.RefusedError
	switch {
	case errors.Is(err, fs.ErrNotExist) && strings.Contains(r.text, "\n"):
		return e, c.refuse(r, "the inline text is not a Kubernetes object", "give it apiVersion, kind and metadata.name", err)
	case errors.Is(err, fs.ErrNotExist):
		return e, c.refuse(r, fmt.Sprintf("there is no %q", target), "correct the path, or commit the file", err)
	case errors.As(err, &refused):
		c.fs.err = nil // said again with its place
		return e, c.refuse(r, fmt.Sprintf("%q: %s", r.value, refused.Reason), refused.Remedy, refused)
	}
	return e, err
}

// directory judges a path that leads to a directory.
func (c *check) directory(r reference, e sources.Entry) error {
	switch r.kind {
	case refResource, refComponent:
	case refPlugin:
		return c.refuse(r, fmt.Sprintf("%q is a directory, and plugin configuration that Kustomize builds cannot be checked before it acts", r.value),
			"list the configuration files themselves", nil)
	default:
		return c.refuse(r, fmt.Sprintf("%q is a directory", r.value), "refer to a file", nil)
	}
	if d := c.fs.depth[c.dir] + 1; d > c.fs.depth[e.Path] {
		c.fs.depth[e.Path] = d
		if d > c.fs.limits.Depth {
			return c.refuse(r, fmt.Sprintf("bases are nested more than %d deep", c.fs.limits.Depth), "use fewer levels", nil)
		}
	}
	for _, name := range konfig.RecognizedKustomizationFileNames() {
		if _, err := c.lookup(r, path.Join(e.Path, name)); err == nil {
			return nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return c.refuse(r, fmt.Sprintf("%q has no kustomization.yaml", r.value), "refer to its files, or add a kustomization.yaml that lists them", nil)
}

// contents judges a path that leads to a file.
func (c *check) contents(r reference, target string, e sources.Entry) error {
	if r.kind == refComponent {
		return c.refuse(r, fmt.Sprintf("%q is a file", r.value), "a component is a directory with a kustomization.yaml of kind Component", nil)
	}
	if !within(dirOf(e.Path), c.dir) {
		return c.refuse(r, fmt.Sprintf("%q is not in or below the kustomization's directory", r.value),
			"move the file below it, or make its directory a base", nil)
	}
	data, err := c.content(r, target)
	if err != nil {
		return err
	}
	switch r.kind {
	case refPlugin:
		objs, err := parseObjects(string(data))
		if err != nil {
			return c.refuse(r, fmt.Sprintf("%q cannot be read as plugin configuration: %v", r.value, err), "correct the file", err)
		}
		at := positions{data}
		return c.plugins(objs, func(value string) (string, int, int) {
			line, column := at.value(value)
			return e.Path, line, column
		})
	case refEnv:
		if hasCiphertext(string(data)) {
			return c.refuse(r, fmt.Sprintf("%q is encrypted by SOPS, and Kustomize splits it before it can be decrypted", r.value),
				"list it in secretGenerator files, as one value, or encrypt a Secret manifest", nil)
		}
	case refConfigFile:
		if hasCiphertext(string(data)) {
			return c.refuse(r, fmt.Sprintf("%q is encrypted by SOPS, and a ConfigMap is not for secrets", r.value), "use secretGenerator", nil)
		}
	}
	return nil
}

// content reads the file, with the reference as the place of a refusal.
func (c *check) content(r reference, target string) ([]byte, error) {
	data, _, err := c.fs.read(target)
	var refused *sources.RefusedError
	if errors.As(err, &refused) {
		c.fs.err = nil
		return nil, c.refuse(r, fmt.Sprintf("%q: %s", r.value, refused.Reason), refused.Remedy, refused)
	}
	return data, err
}

func (c *check) refuse(r reference, reason, remedy string, cause error) error {
	line, column := c.pos.field(r.text, r.keys...)
	return &RefusedError{File: c.file, Line: line, Column: column, Reason: reason, Remedy: remedy, Err: cause}
}

// within reports that dir is root or below it.
func within(dir, root string) bool {
	return root == "" || dir == root || strings.HasPrefix(dir, root+"/")
}

var unknownFieldRE = regexp.MustCompile(`unknown field "([^"]+)"`)

// malformed gives the error of Kustomize's decoder its place.
func (c *check) malformed(err error) error {
	r := &RefusedError{File: c.file, Line: yamlErrorLine(err), Column: 1,
		Reason: "malformed kustomization: " + err.Error(), Remedy: sameAsKustomize, Err: err}
	var wrongType *json.UnmarshalTypeError
	if m := unknownFieldRE.FindStringSubmatch(err.Error()); m != nil {
		r.Line, r.Column = c.pos.value(m[1])
		r.Reason = fmt.Sprintf("a kustomization has no field %q", m[1])
		r.Remedy = "correct its name, or remove it"
	} else if errors.As(err, &wrongType) {
		top, _, _ := strings.Cut(wrongType.Field, ".")
		r.Line, r.Column = c.pos.field("", top)
	}
	return r
}
