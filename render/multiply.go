package render

import (
	"fmt"
	"slices"
	"strings"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"sigs.k8s.io/kustomize/api/resource"
	"sigs.k8s.io/kustomize/api/types"
	kyaml "sigs.k8s.io/kustomize/kyaml/utils"
	"sigs.k8s.io/yaml"
)

const (
	// maxCopiedBytes bounds what the copy operations of one JSON patch add to one
	// object. A cluster stores no object larger than about 1.5 MiB.
	maxCopiedBytes = 1 << 20
	// maxCopies bounds the values that JSON patches and replacements copy in one build.
	maxCopies = 2000
	// maxNestedCopies bounds the copies of one build into what is itself copied:
	// each can double an object.
	maxNestedCopies = 5
)

// The library has the limit in a package variable, without one by default. It
// is set before anything is patched and never again.
func init() { jsonpatch.AccumulatedCopySizeLimit = maxCopiedBytes }

// copied is a value that a JSON patch or a replacement copies: from and to are
// paths in objects of a kind, "" for any. from is nil for a fixed text.
type copied struct {
	fromKind, toKind string
	from, to         []string
	joins            bool // adds to the text that is there
}

// copies counts what one build copies. Objects only grow by more than their sum
// when a copy is made into something that is copied too.
type copies struct {
	all, nested int
	sources     map[string]copied
	targets     map[string]*copyTarget
}

type copyTarget struct {
	copied
	times  int
	nested bool
}

// add notes the copies of one kustomization and says what is too much.
func (c *copies) add(list []copied) string {
	if c.sources == nil {
		c.sources, c.targets = map[string]copied{}, map[string]*copyTarget{}
	}
	for i := range list {
		n := list[i]
		if c.all++; c.all > maxCopies {
			return fmt.Sprintf("patches and replacements copy more than %d values", maxCopies)
		}
		if n.from != nil {
			c.addSource(n)
		}
		c.addTarget(n)
		if c.nested > maxNestedCopies {
			return fmt.Sprintf("patches or replacements copy more than %d values into what they copy too, for example into %s: each time can double the object",
				maxNestedCopies, strings.Join(n.to, "/"))
		}
	}
	return ""
}

func (c *copies) addSource(n copied) {
	key := n.fromKind + "\x00" + strings.Join(n.from, "\x00")
	if _, ok := c.sources[key]; ok {
		return
	}
	c.sources[key] = n
	for _, t := range c.targets {
		if !t.nested && n.reads(t.copied) {
			t.nested = true
			c.nested += t.times * t.weight()
		}
	}
}

func (c *copies) addTarget(n copied) {
	key := fmt.Sprintf("%s\x00%t\x00%s", n.toKind, n.joins, strings.Join(n.to, "\x00"))
	t := c.targets[key]
	if t == nil {
		t = &copyTarget{copied: n}
		for _, s := range c.sources {
			t.nested = t.nested || s.reads(n)
		}
		c.targets[key] = t
	}
	t.times++
	if t.nested {
		c.nested += t.weight()
	}
}

// weight counts a path with a wildcard as too many: it can match any number of
// fields.
func (c copied) weight() int {
	if slices.Contains(c.to, "*") {
		return maxNestedCopies + 1
	}
	return 1
}

// reads reports that what s copies contains, or can contain, what t writes.
func (s copied) reads(t copied) bool {
	if s.fromKind != t.toKind && plainKind(s.fromKind) && plainKind(t.toKind) {
		return false
	}
	if len(s.from) > len(t.to) || len(s.from) == len(t.to) && !t.joins {
		return false
	}
	for i, step := range s.from {
		if step != t.to[i] && plainStep(step) && plainStep(t.to[i]) {
			return false
		}
	}
	return true
}

// plainKind reports that a selector's kind is one kind: it can be a pattern.
func plainKind(kind string) bool {
	return kind != "" && !strings.ContainsFunc(kind, func(r rune) bool { return (r|0x20 < 'a' || r|0x20 > 'z') && (r < '0' || r > '9') })
}

// plainStep reports that a step of a path is one field, and not one or several
// elements of a list.
func plainStep(step string) bool {
	return step != "" && step != "*" && step != "-" && step[0] != '[' && strings.Trim(step, "0123456789") != ""
}

// copiesOf lists what the patches and replacements of a kustomization copy.
func (c *check) copiesOf() []copied {
	k := c.kust
	var list []copied
	for _, p := range k.Patches {
		list = append(list, c.patchCopies(p)...)
	}
	//lint:ignore SA1019 estates use the field, and what it copies is counted too
	for _, p := range k.PatchesJson6902 {
		list = append(list, c.patchCopies(p)...)
	}
	for _, r := range k.Replacements {
		list = append(list, c.replacementCopies(r)...)
	}
	for _, text := range k.Transformers {
		objs, err := parseObjects(text)
		if err != nil {
			objs, _ = parseObjects(c.text(text))
		}
		for _, o := range objs {
			list = append(list, c.transformerCopies(o)...)
		}
	}
	return list
}

// transformerCopies reads the configuration of a builtin transformer.
func (c *check) transformerCopies(o *resource.Resource) []copied {
	var config struct {
		types.Patch
		JSONOp       string                   `json:"jsonOp"`
		Replacements []types.ReplacementField `json:"replacements"`
	}
	data, err := o.AsYAML()
	if err != nil || yaml.Unmarshal(data, &config) != nil {
		return nil // it fails in Kustomize, too
	}
	list := append(c.patchCopies(config.Patch), patchTextCopies(config.JSONOp, "")...)
	for _, r := range config.Replacements {
		list = append(list, c.replacementCopies(r)...)
	}
	return list
}

func (c *check) patchCopies(p types.Patch) []copied {
	kind := ""
	if p.Target != nil {
		kind = p.Target.Kind
	}
	return append(patchTextCopies(p.Patch, kind), patchTextCopies(c.text(p.Path), kind)...)
}

func patchTextCopies(text, kind string) []copied {
	if !strings.Contains(text, "copy") && !strings.Contains(text, `\`) {
		return nil
	}
	var operations []map[string]any
	if yaml.Unmarshal([]byte(text), &operations) != nil {
		return nil
	}
	var list []copied
	for _, op := range operations {
		from, _ := op["from"].(string)
		to, _ := op["path"].(string)
		if op["op"] == "copy" {
			list = append(list, copied{fromKind: kind, toKind: kind, from: pointerSteps(from), to: pointerSteps(to)})
		}
	}
	return list
}

// pointerSteps takes a JSON pointer apart.
func pointerSteps(pointer string) []string {
	if pointer == "" {
		return []string{}
	}
	steps := strings.Split(strings.TrimPrefix(pointer, "/"), "/")
	for i := range steps {
		steps[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(steps[i])
	}
	return steps
}

func (c *check) replacementCopies(r types.ReplacementField) []copied {
	all := []types.Replacement{r.Replacement}
	if text := c.text(r.Path); text != "" {
		var listed []types.Replacement
		if yaml.Unmarshal([]byte(text), &listed) != nil {
			var one types.Replacement
			if yaml.Unmarshal([]byte(text), &one) != nil {
				return nil
			}
			listed = []types.Replacement{one}
		}
		all = append(all, listed...)
	}
	var list []copied
	for i := range all {
		list = append(list, replacementTargets(&all[i])...)
	}
	return list
}

func replacementTargets(r *types.Replacement) []copied {
	var source copied
	if r.Source != nil {
		source.fromKind = r.Source.Kind
		source.from = fieldSteps(r.Source.FieldPath)
	}
	var list []copied
	for _, t := range r.Targets {
		if t == nil {
			continue
		}
		one := source
		if t.Select != nil {
			one.toKind = t.Select.Kind
		}
		one.joins = t.Options != nil && t.Options.Delimiter != ""
		for _, path := range t.FieldPaths {
			one.to = fieldSteps(path)
			list = append(list, one)
		}
	}
	return list
}

// fieldSteps takes the path of a replacement apart.
func fieldSteps(path string) []string {
	if path == "" {
		path = types.DefaultReplacementFieldPath
	}
	return kyaml.SmarterPathSplitter(path, ".")
}

// text gives the file at a path of the kustomization, or "".
func (c *check) text(value string) string {
	if value == "" {
		return ""
	}
	target, err := c.target(reference{value: value, text: value})
	if err != nil {
		return ""
	}
	if data, ok := c.fs.content[c.fs.looked[target].entry.Path]; ok {
		return string(data)
	}
	data, _, err := c.fs.read(target)
	if err != nil {
		return "" // Kustomize fails, too
	}
	return string(data)
}
