package render

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"runtime/debug"
	"strings"

	"gopkg.in/yaml.v3"
	"sigs.k8s.io/kustomize/api/builtins" //lint:ignore SA1019 there is no other way to the built-in plugins yet
	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/api/types"

	"github.com/purser-gitops/purser/sources"
)

// kustomizeVersion is the kustomize command that renders the same bytes.
const kustomizeVersion = "v5.8.1"

// Version names everything besides the inputs that decides what a render gives:
// the Kustomize library and this package's own part in it. It enters releases,
// so that a new Purser which renders differently is seen as a change.
var Version = "kustomize/api v0.21.1, render 1"

// maxErrorBytes bounds how much of Kustomize's own error is told: it can quote
// whole objects.
const maxErrorBytes = 2000

// build renders dir once, without the cache.
func (r *Renderer) build(ctx context.Context, t *sources.Tree, dir string) (*Result, error) {
	var (
		res *Result
		err error
	)
	shared(func() { res, err = r.timed(ctx, t, dir, false) })
	if errors.Is(err, errNeedsExclusive) {
		exclusive(func() { res, err = r.timed(ctx, t, dir, true) })
	}
	return res, err
}

// timed runs an attempt for no longer than Limits.Time. The clock starts here,
// after all waiting for other builds.
func (r *Renderer) timed(ctx context.Context, t *sources.Tree, dir string, alone bool) (*Result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, r.limits.Time, &RefusedError{File: dir,
		Reason: fmt.Sprintf("the build took longer than the limit of %s", r.limits.Time),
		Remedy: "include fewer and smaller bases, patches and replacements, or split the environment"})
	defer cancel()
	return r.attempt(newTreeFS(ctx, t, dir, r.limits, r.known, alone))
}

// attempt runs Kustomize and judges what it gives.
func (r *Renderer) attempt(f *treeFS) (*Result, error) {
	e, err := f.lookup(f.root)
	if err != nil {
		return nil, err
	}
	if !e.IsDir {
		return nil, &RefusedError{File: f.root, Reason: "it is a file", Remedy: "name the directory of a kustomization"}
	}
	asked := f.root
	f.root = e.Path
	m, err := r.runKustomize(f)
	switch {
	case f.err != nil:
		return nil, f.err
	case err != nil:
		return nil, f.explain(err)
	}
	objs, err := decodeObjects(m, f.limits)
	if err != nil {
		return nil, fmt.Errorf("render %q: %w", f.root, err)
	}
	if objs, err = judgeObjects(f.root, objs); err != nil {
		return nil, err
	}
	if err := judgeCiphertext(objs, f.content); err != nil {
		return nil, err
	}
	if err := judgeNames(f.root, objs); err != nil {
		return nil, err
	}
	if f.err != nil {
		return nil, f.err
	}
	return &Result{Objects: objs, Inputs: f.traced(), Directory: path.Clean(asked), secretFiles: secretFiles(objs, f.content)}, nil
}

// runKustomize is `kustomize build` with its defaults: root-only loading, no
// plugins, legacy order. A panic of the library is an error of the build.
func (r *Renderer) runKustomize(f *treeFS) (m resmap.ResMap, err error) {
	defer func() {
		if p := recover(); p != nil {
			r.log.Error("kustomize panicked", "dir", f.root, "stack", string(debug.Stack()))
			m, err = nil, fmt.Errorf("kustomize panicked: %.200s", fmt.Sprint(p))
		}
	}()
	k := krusty.MakeKustomizer(&krusty.Options{
		Reorder:          krusty.ReorderOptionUnspecified,
		LoadRestrictions: types.LoadRestrictionsRootOnly,
		PluginConfig:     types.DisabledPluginConfig(),
	})
	m, err = k.Run(f, mounted(f.root))
	if err == nil && f.managedLabel {
		// The library labels with the version of the program it is linked into.
		label := builtins.LabelTransformerPlugin{
			Labels:     map[string]string{konfig.ManagedbyLabelKey: "kustomize-" + kustomizeVersion},
			FieldSpecs: []types.FieldSpec{{Path: "metadata/labels", CreateIfNotPresent: true}},
		}
		err = label.Transform(m)
	}
	return m, err
}

// explain makes Kustomize's error readable: paths of the tree, and the place of
// a YAML syntax error or of an object without a name.
func (f *treeFS) explain(err error) error {
	nameless := strings.Contains(err.Error(), "missing metadata.name")
	for _, p := range sortedKeys(f.content) {
		if path.Ext(p) != ".yaml" && path.Ext(p) != ".yml" {
			continue
		}
		if found := explainFile(p, f.content[p], nameless); found != nil {
			return found
		}
	}
	text := f.redact(strings.ReplaceAll(err.Error(), mount+"/", ""))
	if len(text) > maxErrorBytes {
		text = text[:maxErrorBytes] + "…"
	}
	return &RefusedError{File: f.root, Reason: "kustomize: " + strings.TrimSpace(text), Remedy: sameAsKustomize, Err: err}
}

const sameAsKustomize = "correct it; `kustomize build` says the same"

func explainFile(file string, data []byte, nameless bool) error {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if err != nil {
			if !strings.Contains(err.Error(), "yaml: ") {
				return nil
			}
			return &RefusedError{File: file, Line: yamlErrorLine(err), Column: 1, Reason: "malformed YAML: " + err.Error(), Remedy: sameAsKustomize, Err: err}
		}
		var o struct {
			APIVersion string `yaml:"apiVersion"`
			Kind       string
			Metadata   struct {
				Name         string
				GenerateName string `yaml:"generateName"`
			}
		}
		if !nameless || isKustomizationName(path.Base(file)) || doc.Decode(&o) != nil || o.APIVersion == "" || o.Metadata.Name != "" || strings.HasSuffix(o.Kind, "List") {
			continue
		}
		at := &RefusedError{File: file, Line: doc.Content[0].Line, Column: doc.Content[0].Column,
			Reason: "an object has no name", Remedy: "give it metadata.name"}
		if o.Metadata.GenerateName != "" {
			at.Reason = "an object has generateName, which gives another object at every apply"
		}
		return at
	}
}
