package edit

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// carried are the fields of release.yaml that belong to the release; its class belongs to where it is deployed.
var carried = []string{"version", "change", "migration", "modules", "attestations"}

// CopyRelease makes the release.yaml to say what from says of the release. What else it has, its class and what stands
// above its spec, stays. to may be nil: there is none yet.
func CopyRelease(to, from []byte) ([]byte, error) {
	if to == nil {
		to = from
		var err error
		if to, err = withoutClass(to); err != nil {
			return nil, err
		}
		return to, nil
	}
	var data, source map[string]any
	if err := yaml.Unmarshal(to, &data); err != nil {
		return nil, fmt.Errorf("parse: %w", err)
	}
	if err := yaml.Unmarshal(from, &source); err != nil {
		return nil, fmt.Errorf("parse: %w", err)
	}
	spec, ok := data["spec"].(map[string]any)
	news, has := source["spec"].(map[string]any)
	if !ok || !has {
		return nil, fmt.Errorf("%w: it has no spec", ErrShape)
	}
	same := true
	for _, name := range carried {
		if !reflect.DeepEqual(spec[name], news[name]) {
			same = false
		}
		delete(spec, name)
		if value, ok := news[name]; ok {
			spec[name] = value
		}
	}
	if same {
		return to, nil
	}
	class, _ := spec["class"].(string)
	if out, ok := spliced(to, from, class); ok && says(out, data) {
		return out, nil
	}
	out, err := encoded(to, from)
	if err != nil || !says(out, data) {
		return nil, fmt.Errorf("%w: write its spec with one field on each line", ErrShape)
	}
	return out, nil
}

func says(text []byte, want map[string]any) bool {
	var got map[string]any
	return yaml.Unmarshal(text, &got) == nil && reflect.DeepEqual(got, want)
}

// spliced puts the lines below from's spec in place of those below to's.
func spliced(to, from []byte, class string) ([]byte, bool) {
	head, _, ok := split(to)
	if !ok {
		return nil, false
	}
	from, err := withoutClass(from)
	if err != nil {
		return nil, false
	}
	_, body, ok := split(from)
	if !ok || len(body) == 0 {
		return nil, false
	}
	if class != "" {
		root, err := document(from)
		if err != nil {
			return nil, false
		}
		_, spec := field(root, "spec")
		body = slices.Insert(slices.Clone(body), 0, strings.Repeat(" ", spec.Column-1)+"class: "+scalar(class)+"\n")
	}
	return []byte(strings.Join(head, "") + strings.Join(body, "")), true
}

// split cuts release.yaml below the line of its spec.
func split(text []byte) (head, body []string, ok bool) {
	root, err := document(text)
	if err != nil {
		return nil, nil, false
	}
	key, value := field(root, "spec")
	if key == nil || value.Kind != yaml.MappingNode || value.Line == key.Line {
		return nil, nil, false
	}
	list, _ := lines(text)
	return list[:key.Line], list[key.Line:], true
}

// withoutClass takes the line of the class out of a release.yaml.
func withoutClass(text []byte) ([]byte, error) {
	root, err := document(text)
	if err != nil {
		return nil, err
	}
	_, spec := field(root, "spec")
	if spec == nil || spec.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%w: it has no spec", ErrShape)
	}
	key, value := field(spec, "class")
	if key == nil {
		return text, nil
	}
	if spec.Style&yaml.FlowStyle != 0 || value.Line != key.Line {
		return nil, fmt.Errorf("%w: line %d: write the class on a line of its own", ErrShape, key.Line)
	}
	list, _ := lines(text)
	return []byte(strings.Join(slices.Delete(list, key.Line-1, key.Line), "")), nil
}

// encoded is for a file in another style: its comments stay, blank lines do not.
func encoded(to, from []byte) ([]byte, error) {
	root, err := document(to)
	if err != nil {
		return nil, err
	}
	other, err := document(from)
	if err != nil {
		return nil, err
	}
	_, spec := field(root, "spec")
	_, news := field(other, "spec")
	for _, name := range carried {
		for i := 0; i+1 < len(spec.Content); i += 2 {
			if spec.Content[i].Value == name {
				spec.Content = slices.Delete(spec.Content, i, i+2)
				break
			}
		}
		if key, value := field(news, name); key != nil {
			spec.Content = append(spec.Content, key, value)
		}
	}
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(root); err != nil {
		return nil, err
	}
	return out.Bytes(), encoder.Close()
}
