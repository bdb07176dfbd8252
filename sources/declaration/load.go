package declaration

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
)

const maxConfigBytes = 1 << 20

// LoadAgent reads the agent's configuration. The error is [Errors] when it is
// wrong, with file names as they were given. Whether the files that it names
// exist is not looked at.
func LoadAgent(path string) (*AgentConfig, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open agent configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfigBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read agent configuration: %w", err)
	}
	if len(data) > maxConfigBytes {
		return nil, Errors{{Position: Position{File: path}, What: "cannot be read", Why: fmt.Sprintf("the file is larger than %d bytes", maxConfigBytes), Remedy: "name the agent's configuration"}}
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("find folder of agent configuration: %w", err)
	}
	return decodeAgent(path, dir, data)
}

// decodeAgent reads data as the configuration in file, with relative paths below dir.
func decodeAgent(file, dir string, data []byte) (*AgentConfig, error) {
	c := new(AgentConfig)
	var errs Errors
	preset(c)
	const where = "this file says how the agent runs, and never what it deploys"
	if doc := single(file, data, &errs, where, "AgentConfig"); doc != nil {
		c.Position = doc.Position
		doc.decode(c, true, &errs)
		c.check(doc, dir, &errs)
	}
	if err := errs.sorted(); err != nil {
		return nil, err
	}
	resolve(reflect.ValueOf(c).Elem(), dir)
	return c, nil
}

// check judges the parts of the configuration, whose relative paths are below dir, against each other.
func (c *AgentConfig) check(doc *document, dir string, errs *Errors) {
	var names []string
	for i, s := range c.Sources {
		at := doc.mark(fmt.Sprintf("spec.sources[%d].name", i))
		names = distinct(names, s.Name, "source", at, errs)
	}
	switch {
	case c.Governance.Source == "" && len(names) == 1:
		c.Governance.Source = names[0]
	case c.Governance.Source == "" && len(names) > 1:
		errs.add(doc.mark("spec.governance"), `missing field "source"`, "there are several sources, and one of them declares the estate", `add "source:" to governance with the name of one of them`)
	case len(names) > 0 && !slices.Contains(names, c.Governance.Source):
		errs.add(doc.mark("spec.governance.source"), fmt.Sprintf("unknown source %q", c.Governance.Source), "no source of that name is in this file", "name one of the sources")
	}
	c.Governance.Trust.check(doc, errs)
	c.Backup.check(doc, dir, errs)
	names = nil
	for i, cl := range c.Clusters {
		at := fmt.Sprintf("spec.clusters[%d]", i)
		names = distinct(names, cl.Name, "cluster", doc.mark(at+".name"), errs)
		_, given := doc.marks[at+".kubeconfig"]
		switch {
		case cl.InCluster && given:
			errs.add(doc.mark(at+".inCluster"), fmt.Sprintf("cluster %q has two ways in", cl.Name), "inCluster uses the pod's service account, kubeconfig a file", "keep one of the two")
		case !cl.InCluster && !given:
			errs.add(doc.mark(at), fmt.Sprintf("cluster %q has no way in", cl.Name), "it needs kubeconfig or inCluster", `add "kubeconfig:" with a file, or "inCluster: true"`)
		case cl.InCluster && cl.Context != "":
			errs.add(doc.mark(at+".context"), fmt.Sprintf("cluster %q has a context", cl.Name), "contexts belong to a kubeconfig", "remove it")
		}
	}
}

// check judges where trust begins.
func (t AgentTrust) check(doc *document, errs *Errors) {
	const path = "spec.governance.trust"
	ways := 0
	for _, way := range []bool{t.OnFirstUse, given(doc, path+".commit"), given(doc, path+".keys")} {
		if way {
			ways++
		}
	}
	switch _, threshold := doc.marks[path+".threshold"]; {
	case ways > 1:
		errs.add(doc.mark(path), "trust begins in several ways", "the weakest of them would decide", "keep one of onFirstUse, commit and keys")
	case ways == 0 && given(doc, path) && !doc.broken:
		errs.add(doc.mark(path), "trust begins nowhere", "it says neither onFirstUse: true, nor a commit, nor keys", "add one of them, or remove trust")
	case threshold && !given(doc, path+".keys"):
		errs.add(doc.mark(path+".threshold"), "threshold without keys", "it counts signatures of keys", `add "keys:", or remove it`)
	case len(t.Keys) > 0 && t.Threshold > len(t.Keys):
		errs.add(doc.mark(path+".threshold"), "threshold is larger than the number of keys", fmt.Sprintf("there %s %d, so nothing could ever be trusted", map[bool]string{true: "is", false: "are"}[len(t.Keys) == 1], len(t.Keys)), "lower it, or add keys")
	}
	seen := map[string]Position{}
	for i, k := range t.Keys {
		item := fmt.Sprintf("%s.keys[%d]", path, i)
		key, ok := readKey(doc, item, k.SSH, k.OpenPGP, errs)
		if !ok {
			continue
		}
		at := doc.mark(item + keyField(k.SSH))
		if first, ok := seen[key.Fingerprint()]; ok {
			errs.add(at, "key is there twice", "it is already at "+first.String()+", and would count twice", "remove one of the two")
			continue
		}
		seen[key.Fingerprint()] = at
	}
}

// distinct refuses a name that is among those before it, and adds it to them.
func distinct(names []string, name, what string, at Position, errs *Errors) []string {
	if name != "" && slices.Contains(names, name) {
		errs.add(at, fmt.Sprintf("%s %q is there twice", what, name), "declarations refer to it by its name", "rename one of the two")
	}
	return append(names, name)
}

// resolve makes every field of format "file" absolute.
func resolve(v reflect.Value, dir string) {
	for _, f := range fieldsOf(v) {
		switch {
		case f.value.Kind() == reflect.Struct:
			resolve(f.value, dir)
		case f.value.Kind() == reflect.Slice && f.value.Type().Elem().Kind() == reflect.Struct:
			for i := range f.value.Len() {
				resolve(f.value.Index(i), dir)
			}
		case f.rule.format != "file":
		case f.value.Kind() == reflect.Slice:
			for i := range f.value.Len() {
				f.value.Index(i).SetString(below(dir, f.value.Index(i).String()))
			}
		default:
			f.value.SetString(below(dir, f.value.String()))
		}
	}
}

// below makes the name of a file absolute. No name stays none.
func below(dir, name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(dir, name)
}
