package render

import (
	"fmt"
	"strings"

	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/api/provider"
	"sigs.k8s.io/kustomize/api/resource"
)

// parseObjects reads objects as Kustomize does, lists taken apart.
func parseObjects(text string) ([]*resource.Resource, error) {
	if err := checkAliases([]byte(text)); err != nil {
		return nil, err
	}
	return provider.NewDefaultDepProvider().GetResourceFactory().SliceFromBytes([]byte(text))
}

// pathFields are the fields, without case as Kustomize's decoder takes them, in
// which a builtin plugin's configuration can name a file.
var pathFields = map[string]bool{
	"path": true, "paths": true, "files": true, "envs": true, "env": true, "targetfilepath": true,
}

var functionAnnotations = []string{"config.kubernetes.io/function", "config.k8s.io/function"}

// plugins judges what generators, transformers or validators are given. place
// says where a value stands.
func (c *check) plugins(objs []*resource.Resource, place func(value string) (file string, line, column int)) error {
	refuse := func(value, reason, remedy string) error {
		file, line, column := place(value)
		return &RefusedError{File: file, Line: line, Column: column, Reason: reason, Remedy: remedy}
	}
	for _, o := range objs {
		kind := o.GetKind()
		annotations := o.GetAnnotations()
		for _, key := range functionAnnotations {
			if spec, ok := annotations[key]; ok {
				return refuse(key, fmt.Sprintf("%s is a function (%s), and rendering runs no programs", kind, functionType(spec)),
					"run it in CI and commit its output")
			}
		}
		if gvk := o.GetGvk(); gvk.Group != "" || gvk.Version != konfig.BuiltinPluginApiVersion {
			return refuse(kind, fmt.Sprintf("%s is a plugin of its own, and rendering runs no programs", kind),
				"use a builtin transformer, or run it in CI and commit its output")
		}
		if kind == "HelmChartInflationGenerator" {
			return refuse(kind, kind+" runs the helm program, which downloads charts", helmRemedy)
		}
		config, err := o.Map()
		if err != nil {
			return refuse(kind, fmt.Sprintf("%s cannot be read: %v", kind, err), "correct the configuration")
		}
		for _, p := range pathsBelow(config, false) {
			if r := remoteKind(pathOf(p)); r != "" {
				return refuse(p, fmt.Sprintf("%q is %s, and rendering reads nothing but this repository", p, r),
					"copy what is needed into this repository and refer to it by a relative path")
			}
		}
	}
	return nil
}

// pathOf is the path in "key=path" of generators' files. Inline patches in
// paths, which have several lines, are no paths.
func pathOf(p string) string {
	if remoteKind(p) != "" {
		return p
	}
	if _, after, ok := strings.Cut(p, "="); ok {
		return after
	}
	return p
}

// pathsBelow collects every string in or below a path field.
func pathsBelow(v any, in bool) []string {
	var paths []string
	switch v := v.(type) {
	case string:
		if in {
			paths = append(paths, v)
		}
	case []any:
		for _, e := range v {
			paths = append(paths, pathsBelow(e, in)...)
		}
	case map[string]any:
		for _, k := range sortedKeys(v) {
			paths = append(paths, pathsBelow(v[k], in || pathFields[strings.ToLower(k)])...)
		}
	}
	return paths
}

func functionType(spec string) string {
	for _, t := range []string{"container", "starlark", "exec"} {
		if strings.Contains(spec, t) {
			return t
		}
	}
	return "unknown"
}
