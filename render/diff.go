package render

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Actions of an [ObjectChange].
const (
	ActionCreated    = "created"
	ActionConfigured = "configured"
	ActionDeleted    = "deleted"
)

// masked stands for a value of a Secret in a diff.
const masked = "(changed)"

const (
	maxFields     = 500  // changes that [Told] tells for one object
	maxValueBytes = 2048 // of one told string
)

// ObjectChange is how one object differs between two releases.
type ObjectChange struct {
	Ref    Ref           `json:"ref"`
	Action string        `json:"action"`           // created, configured or deleted
	Fields []FieldChange `json:"fields,omitempty"` // in order of their paths; none for deleted
	More   int           `json:"more,omitempty"`   // changes that were left out of Fields for people
}

// FieldChange is one field that differs. Old or New is nil where the field is
// absent; else a string, number or bool, an empty map or list, or a list of
// such.
type FieldChange struct {
	Path string `json:"path"` // spec.template.spec.containers[name=web].image
	Old  any    `json:"old,omitempty"`
	New  any    `json:"new,omitempty"`
}

// Diff compares two releases object by object and field by field, in order of
// the objects' keys. from may be nil: then everything is created. Secret values
// are masked; else it is complete, whatever its size.
func Diff(from, to *Release) []ObjectChange {
	olds, news := byKey(from), byKey(to)
	var changes []ObjectChange
	for _, k := range keysOfBoth(olds, news) {
		old, new := olds[k], news[k]
		switch {
		case new == nil:
			changes = append(changes, ObjectChange{Ref: RefOf(old), Action: ActionDeleted})
		case old == nil:
			changes = append(changes, ObjectChange{Ref: RefOf(new), Action: ActionCreated, Fields: diffFields(nil, new)})
		case from.ObjectDigests[k] != to.ObjectDigests[k]:
			changes = append(changes, ObjectChange{Ref: RefOf(new), Action: ActionConfigured, Fields: diffFields(old, new)})
		}
	}
	return changes
}

// Told is as much of a diff as people are shown and records keep: of each object a number of changes, and long values cut.
func Told(diff []ObjectChange) []ObjectChange {
	shown := slices.Clone(diff)
	for i := range shown {
		c := &shown[i]
		if len(c.Fields) > maxFields {
			c.More += len(c.Fields) - maxFields
			c.Fields = c.Fields[:maxFields]
		}
		c.Fields = slices.Clone(c.Fields)
		for j := range c.Fields {
			c.Fields[j].Old, c.Fields[j].New = told(c.Fields[j].Old), told(c.Fields[j].New)
		}
	}
	return shown
}

// keysOfBoth gives the keys that either map has, sorted.
func keysOfBoth[V any](a, b map[string]V) []string {
	keys := sortedKeys(a)
	for k := range b {
		if _, ok := a[k]; !ok {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

func byKey(r *Release) map[string]*unstructured.Unstructured {
	m := map[string]*unstructured.Unstructured{}
	if r != nil {
		for _, o := range r.Objects {
			m[RefOf(o).Key()] = o
		}
	}
	return m
}

// diffFields compares two states of one object field by field; either may be
// nil. Secret values are masked.
func diffFields(old, new *unstructured.Unstructured) []FieldChange {
	d := &differ{}
	var a, b any
	if old != nil {
		a, d.secret = old.Object, RefOf(old).isSecret()
	}
	if new != nil {
		b, d.secret = new.Object, d.secret || RefOf(new).isSecret()
	}
	if a == nil {
		a = map[string]any{}
	}
	if b == nil {
		b = map[string]any{}
	}
	d.value("", a, b)
	return d.fields
}

type differ struct {
	secret bool
	fields []FieldChange
}

// value compares two values; nil is absent.
func (d *differ) value(path string, old, new any) {
	if equalValues(old, new) {
		return
	}
	oldMap, oldIsMap := old.(map[string]any)
	newMap, newIsMap := new.(map[string]any)
	notMaps := (old != nil && !oldIsMap) || (new != nil && !newIsMap)
	if d.secret && (maskedPath(path) || notMaps && (path == "data" || path == "stringData")) {
		d.add(path, old, new)
		return
	}
	if !notMaps && len(oldMap)+len(newMap) > 0 {
		d.maps(path, oldMap, newMap)
		return
	}
	oldList, oldIsList := old.([]any)
	newList, newIsList := new.([]any)
	if (oldIsList || old == nil) && (newIsList || new == nil) && hasMaps(oldList, newList) {
		d.lists(path, oldList, newList)
		return
	}
	d.add(path, old, new)
}

// maps compares field by field. Emptied and filled maps are told by their
// fields, too.
func (d *differ) maps(path string, old, new map[string]any) {
	for _, k := range keysOfBoth(old, new) {
		a, inOld := old[k]
		b, inNew := new[k]
		if a == nil && b == nil && inOld != inNew { // an explicit null
			d.add(join(path, k), null(inOld), null(inNew))
			continue
		}
		d.value(join(path, k), a, b)
	}
}

func null(present bool) any {
	if present {
		return "null"
	}
	return nil
}

// listKeys are the fields by which the elements of Kubernetes' lists are told
// apart, first match first.
var listKeys = []string{"name", "mountPath", "containerPort", "port", "key", "ip", "type"}

func (d *differ) lists(path string, old, new []any) {
	key := listKey(old, new)
	if key == "" {
		for i := range max(len(old), len(new)) {
			d.value(fmt.Sprintf("%s[%d]", path, i), at(old, i), at(new, i))
		}
		return
	}
	var common, moved []string
	olds := map[string]any{}
	for _, e := range old {
		olds[elementName(e, key)] = e
	}
	news := map[string]bool{}
	for _, e := range new {
		n := elementName(e, key)
		news[n] = true
		if _, ok := olds[n]; ok {
			moved = append(moved, n)
		}
		d.value(fmt.Sprintf("%s[%s=%s]", path, key, n), olds[n], e)
	}
	for _, e := range old {
		n := elementName(e, key)
		if news[n] {
			common = append(common, n)
			continue
		}
		d.value(fmt.Sprintf("%s[%s=%s]", path, key, n), e, nil)
	}
	if !slices.Equal(common, moved) {
		d.add(path+"[] (order)", strings.Join(common, " "), strings.Join(moved, " "))
	}
}

// listKey gives the field that names every element of both lists, each once.
func listKey(lists ...[]any) string {
next:
	for _, key := range listKeys {
		for _, list := range lists {
			seen := map[string]bool{}
			for _, e := range list {
				n := elementName(e, key)
				if n == "" || seen[n] {
					continue next
				}
				seen[n] = true
			}
		}
		return key
	}
	return ""
}

func elementName(e any, key string) string {
	m, _ := e.(map[string]any)
	switch v := m[key].(type) {
	case string:
		return v
	case int64:
		return strconv.FormatInt(v, 10)
	}
	return ""
}

func hasMaps(lists ...[]any) bool {
	for _, l := range lists {
		for _, e := range l {
			if _, ok := e.(map[string]any); ok {
				return true
			}
		}
	}
	return false
}

func at(l []any, i int) any {
	if i < len(l) {
		return l[i]
	}
	return nil
}

// join adds a field to a path; one with a dot or a bracket is quoted.
func join(path, field string) string {
	if field == "" || strings.ContainsAny(field, `.[]"`) {
		return path + "[" + strconv.Quote(field) + "]"
	}
	if path == "" {
		return field
	}
	return path + "." + field
}

// add notes a change. Of a Secret it tells no value but those that say what it is.
func (d *differ) add(path string, old, new any) {
	if d.secret && !slices.Contains(toldOfSecrets, path) {
		old, new = mask(old), mask(new)
	}
	d.fields = append(d.fields, FieldChange{Path: path, Old: old, New: new})
}

// toldOfSecrets are the fields of a Secret whose values are told. Annotations and
// labels are not among them: people and programs keep values there, too.
var toldOfSecrets = []string{"apiVersion", "kind", "type", "immutable", "metadata.name", "metadata.namespace"}

// maskedPath reports the parts of a Secret below which not even the names of
// fields are told: each value of its data, SOPS metadata, and what is managed by
// the API server.
func maskedPath(path string) bool {
	for _, p := range []string{"data", "stringData"} {
		if strings.HasPrefix(path, p+".") || strings.HasPrefix(path, p+"[") {
			return true
		}
	}
	return path == "sops" || strings.HasPrefix(path, "metadata.managedFields")
}

func mask(v any) any {
	if v == nil {
		return nil
	}
	return masked
}

// told gives a value in a bounded form.
func told(v any) any {
	switch v := v.(type) {
	case string:
		return cut(v)
	case map[string]any, []any:
		data, err := canonicalJSON(v)
		if err == nil && len(data) > maxValueBytes {
			return cut(string(data))
		}
	}
	return v
}

func cut(s string) string {
	if len(s) <= maxValueBytes {
		return s
	}
	n := maxValueBytes
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return fmt.Sprintf("%s… (%d bytes)", s[:n], len(s))
}

func equalValues(a, b any) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	switch a := a.(type) {
	case string:
		s, ok := b.(string)
		return ok && a == s
	case bool:
		s, ok := b.(bool)
		return ok && a == s
	}
	x, errX := canonicalJSON(a)
	y, errY := canonicalJSON(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}
