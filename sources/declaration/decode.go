package declaration

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

const maxProblems = 100 // told of one file

// decoder fills Go values from the nodes of one document by the rules of their
// fields, and goes on after every error. A value that has an error stays as it
// was. It recurses along the Go types, so the depth of a document is not its.
type decoder struct {
	file    string
	kind    string
	private bool // values stay out of errors
	errs    *Errors
	marks   map[string]Position   // of each path, such as spec.dependsOn[1]: of a scalar, or of the key of anything larger
	exprs   map[string]*yaml.Node // of each path whose text has places of its own (format cel)
}

func (d *decoder) at(n *yaml.Node) Position { return Position{d.file, n.Line, n.Column} }

func (d *decoder) fail(at Position, what, why, remedy string) {
	d.errs.add(at, what, why, remedy)
}

// is gives "path is value", without the value where values are private.
func (d *decoder) is(path, value string) string {
	if d.private {
		return path + " is not valid"
	}
	return path + " is " + quote(value)
}

// mapping decodes the mapping n into fields. at is where a missing field is
// reported: the key whose value the mapping is.
func (d *decoder) mapping(n *yaml.Node, at Position, path string, fields []field) {
	owner := d.kind
	if path != "" {
		owner += "." + path
	}
	if !d.expect(n, yaml.MappingNode, path) {
		return
	}
	seen := map[string]int{}   // name → line
	meant := map[string]bool{} // by a name that is unknown
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if !d.key(key, owner, seen) {
			continue
		}
		f, ok := find(fields, key.Value)
		if !ok {
			meant[d.unknown(key, owner, fields)] = true
			continue
		}
		d.value(value, d.at(key), join(path, f.name), f)
	}
	for _, f := range fields {
		if _, ok := seen[f.name]; f.rule.required && !ok && !meant[f.name] {
			remedy := fmt.Sprintf("add \"%s:\"", f.name)
			if len(f.rule.enum) > 0 {
				remedy += " with " + oneOf(f.rule.enum)
			}
			d.fail(at, fmt.Sprintf("missing field %q", f.name), owner+" needs it", remedy)
		}
	}
}

// key checks the key of a mapping and notes it in seen.
func (d *decoder) key(key *yaml.Node, owner string, seen map[string]int) bool {
	if key.Kind != yaml.ScalarNode {
		d.fail(d.at(key), "field name is "+describe(key), "a field of "+owner+" has a name", "write a name followed by a colon")
		return false
	}
	if line, ok := seen[key.Value]; ok {
		d.fail(d.at(key), fmt.Sprintf("duplicate field %s", quote(key.Value)), fmt.Sprintf("it is already in line %d", line), "keep one of the two")
		return false
	}
	seen[key.Value] = key.Line
	return true
}

// unknown reports a field that there is not, and gives the name that was
// probably meant.
func (d *decoder) unknown(key *yaml.Node, owner string, fields []field) string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	near := nearest(key.Value, names)
	remedy := "its fields are " + strings.Join(names, ", ")
	if near != "" {
		remedy = fmt.Sprintf("did you mean %q?", near)
	}
	d.fail(d.at(key), "unknown field "+quote(key.Value), owner+" has no such field", remedy)
	return near
}

// value decodes n into f. at is the place of its key or list item.
func (d *decoder) value(n *yaml.Node, at Position, path string, f field) {
	d.marks[path] = at
	if n.Kind == yaml.ScalarNode {
		d.marks[path] = d.at(n)
	}
	if n.ShortTag() == "!!null" {
		d.fail(at, path+" has no value", "a field that is named must say something", "give it a value or remove the line")
		return
	}
	switch v := f.value; {
	case v.Type() == timeType:
		d.time(n, path, v)
	case v.Kind() == reflect.Pointer:
		p := reflect.New(v.Type().Elem())
		if p.Elem().Kind() == reflect.Struct && p.Elem().Type() != timeType {
			setDefaults(p.Elem())
		}
		before := len(*d.errs)
		d.value(n, at, path, field{name: f.name, value: p.Elem(), rule: f.rule})
		if len(*d.errs) == before {
			v.Set(p)
		}
	case v.Kind() == reflect.Struct:
		d.mapping(n, at, path, fieldsOf(v))
	case v.Kind() == reflect.Slice:
		d.list(n, path, f)
	case v.Kind() == reflect.Map:
		d.texts(n, path, v)
	default:
		d.scalar(n, path, f)
	}
}

func (d *decoder) list(n *yaml.Node, path string, f field) {
	if !d.expect(n, yaml.SequenceNode, path) {
		return
	}
	if len(n.Content) < f.rule.minItems {
		d.fail(d.at(n), path+" is an empty list", "a list that is written has at least one item", "add an item or remove the field")
		return
	}
	list := reflect.MakeSlice(f.value.Type(), len(n.Content), len(n.Content))
	seen := map[string]int{}
	for i, item := range n.Content {
		v := list.Index(i)
		if v.Kind() == reflect.Struct {
			setDefaults(v)
		}
		itemPath := fmt.Sprintf("%s[%d]", path, i)
		if line, ok := seen[item.Value]; f.rule.unique && ok && item.Kind == yaml.ScalarNode {
			d.fail(d.at(item), d.is(itemPath, item.Value), fmt.Sprintf("the list has it already in line %d", line), "remove one of the two")
			continue
		}
		seen[item.Value] = item.Line
		d.value(item, d.at(item), itemPath, field{value: v, rule: f.rule})
	}
	f.value.Set(list)
}

// texts decodes a mapping of names to texts.
func (d *decoder) texts(n *yaml.Node, path string, v reflect.Value) {
	if !d.expect(n, yaml.MappingNode, path) {
		return
	}
	all := map[string]string{}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if !d.key(key, d.kind+"."+path, seen) {
			continue
		}
		text := reflect.New(reflect.TypeFor[string]()).Elem()
		d.value(value, d.at(key), join(path, key.Value), field{value: text})
		all[key.Value] = text.String()
	}
	v.Set(reflect.ValueOf(all))
}

// scalar decodes a text, a number, true or false, or a duration.
func (d *decoder) scalar(n *yaml.Node, path string, f field) {
	if !d.expect(n, yaml.ScalarNode, path) {
		return
	}
	v, tag := reflect.New(f.value.Type()).Elem(), n.ShortTag()
	switch {
	case v.Type() == durationType:
		if tag != "!!str" || !setText(v, n.Value) {
			d.fail(d.at(n), d.is(path, n.Value), "it must be a duration, which has a unit", durationHelp)
			return
		}
	case v.Kind() == reflect.String:
		local := f.rule.format == "local" && tag == "!!timestamp" // a date: what it lacks is said below
		if tag != "!!str" && !local {
			d.notText(n, path)
			return
		}
		v.SetString(n.Value)
	case v.Kind() == reflect.Bool:
		if tag != "!!bool" || !setText(v, n.Value) {
			d.fail(d.at(n), d.is(path, n.Value), "it must be true or false", `write true or false, without quotes`)
			return
		}
	case v.Kind() == reflect.Float64:
		if tag != "!!float" && tag != "!!int" || !setText(v, n.Value) {
			d.fail(d.at(n), d.is(path, n.Value), "it must be a number", "write it like 0.5, without quotes")
			return
		}
	default:
		if tag != "!!int" || !setText(v, n.Value) {
			d.fail(d.at(n), d.is(path, n.Value), "it must be a whole number", "write it in digits, like 10, without quotes")
			return
		}
	}
	if f.rule.format == "cel" {
		d.exprs[path] = n
	}
	if d.ruled(n, path, f.rule, v) {
		f.value.Set(v)
	}
}

func (d *decoder) notText(n *yaml.Node, path string) {
	remedy := "put it in quotes"
	if !d.private {
		remedy += ": " + strconv.Quote(clip(n.Value))
	}
	d.fail(d.at(n), path+" is "+describe(n), "it must be a text", remedy)
}

// ruled checks the decoded scalar v against the rule.
func (d *decoder) ruled(n *yaml.Node, path string, r rule, v reflect.Value) bool {
	if v.Kind() != reflect.String {
		if bound := r.outside(v); bound != "" {
			d.fail(d.at(n), d.is(path, n.Value), "it must be "+bound, "choose another value")
			return false
		}
		return true
	}
	text := v.String()
	switch {
	case text == "" && r.required:
		d.fail(d.at(n), path+" is empty", d.kind+" needs it", "give it a value")
		return false
	case len(r.enum) > 0 && !slices.Contains(r.enum, text):
		remedy := "choose another value"
		if near := nearest(text, r.enum); near != "" {
			remedy = fmt.Sprintf("did you mean %q?", near)
		}
		d.fail(d.at(n), d.is(path, text), "it must be "+oneOf(r.enum), remedy)
		return false
	case r.format != "":
		f := formats[r.format]
		if why := f.wrong(text); why != "" {
			what := d.is(path, text)
			if r.format == "http" || r.format == "repository" { // may hold a password
				what = path + " is not valid"
			}
			d.fail(d.at(n), what, why, f.remedy)
			return false
		}
	}
	return true
}

func (d *decoder) time(n *yaml.Node, path string, v reflect.Value) {
	if !d.expect(n, yaml.ScalarNode, path) {
		return
	}
	t, err := time.Parse(time.RFC3339, n.Value)
	if err == nil && t.Year() < 1970 { // the zero time means that there is none
		d.fail(d.at(n), d.is(path, n.Value), "it must be a time after 1969", "correct the year")
		return
	}
	if err != nil {
		d.fail(d.at(n), d.is(path, n.Value), "it must be a time of a day that exists, with its zone (RFC 3339)", `write it like 2027-01-31T18:00:00Z or 2027-01-31T18:00:00+01:00`)
		return
	}
	v.Set(reflect.ValueOf(t))
}

// expect checks the shape of n.
func (d *decoder) expect(n *yaml.Node, kind yaml.Kind, path string) bool {
	want := map[yaml.Kind]string{yaml.MappingNode: "fields with values", yaml.SequenceNode: "a list", yaml.ScalarNode: "a single value"}
	remedy := map[yaml.Kind]string{
		yaml.MappingNode:  `write "name: value" lines, indented below it`,
		yaml.SequenceNode: `write each item on a line of its own, after "- "`,
		yaml.ScalarNode:   "write one value on the same line",
	}
	tag := n.ShortTag()
	plain := strings.HasPrefix(tag, "!!") && tag != "!!binary" && tag != "!!set" && tag != "!!omap"
	if n.Kind == kind && plain {
		return true
	}
	if path == "" {
		path = "document"
	}
	if !plain {
		what := path + " has a tag"
		if !d.private {
			what = path + " is " + describe(n)
		}
		d.fail(d.at(n), what, "declarations have no YAML tags", "remove the tag")
		return false
	}
	d.fail(d.at(n), path+" is "+describe(n), "it must be "+want[kind], remedy[kind])
	return false
}

// describe says what n is, for people.
func describe(n *yaml.Node) string {
	switch tag := n.ShortTag(); {
	case n.Kind == yaml.MappingNode && tag == "!!map":
		return "a mapping"
	case n.Kind == yaml.SequenceNode && tag == "!!seq":
		return "a list"
	case n.Kind != yaml.ScalarNode:
		return "tagged " + clip(tag)
	case tag == "!!str":
		return "a text"
	case tag == "!!int", tag == "!!float":
		return "a number"
	case tag == "!!bool":
		return "a boolean"
	case tag == "!!timestamp":
		return "a date"
	case tag == "!!null":
		return "empty"
	default:
		return "tagged " + clip(tag)
	}
}

func find(fields []field, name string) (field, bool) {
	for _, f := range fields {
		if f.name == name {
			return f, true
		}
	}
	return field{}, false
}

func oneOf(names []string) string {
	if len(names) == 1 {
		return names[0]
	}
	return "one of " + strings.Join(names, ", ")
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func quote(s string) string { return strconv.Quote(clip(s)) }

// clip keeps errors short whatever a file holds.
func clip(s string) string {
	const most = 80
	if r := []rune(s[:min(len(s), 4*most+4)]); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}
