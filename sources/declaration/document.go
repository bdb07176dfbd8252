package declaration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

const (
	maxDocuments = 1000 // in one file
	maxNesting   = 32   // mappings and lists within each other; no kind needs ten
)

// kind is one of the kinds of documents: its name, whether it has metadata, and
// the type of its spec.
type kind struct {
	name  string
	named bool
	spec  reflect.Type
}

// kinds in the order they are documented.
var kinds = []kind{
	{"Estate", true, reflect.TypeFor[EstateSpec]()},
	{"Cluster", true, reflect.TypeFor[ClusterSpec]()},
	{"Tenant", true, reflect.TypeFor[TenantSpec]()},
	{"Environment", true, reflect.TypeFor[EnvironmentSpec]()},
	{"Person", true, reflect.TypeFor[PersonSpec]()},
	{"ReleaseClass", true, reflect.TypeFor[ReleaseClassSpec]()},
	{"Calendar", true, reflect.TypeFor[CalendarSpec]()},
	{"Policy", true, reflect.TypeFor[PolicySpec]()},
	{"BackupPolicy", true, reflect.TypeFor[BackupPolicySpec]()},
	{"Release", false, reflect.TypeFor[Release]()},
	{"AgentConfig", false, reflect.TypeFor[AgentConfig]()},
}

func kindNamed(name string) kind {
	for _, k := range kinds {
		if k.name == name {
			return k
		}
	}
	panic("unknown kind " + name)
}

// document is one document of a file on its way from YAML to a Go value.
type document struct {
	Position
	data   []byte     // of the file
	node   *yaml.Node // the document's mapping
	kind   kind
	meta   Meta
	broken bool // some of its values could not be decoded
	marks  map[string]Position
	exprs  map[string]*yaml.Node
}

// mark is the place of path, or else of what it would be in.
func (doc *document) mark(path string) Position {
	for path != "" {
		if at, ok := doc.marks[path]; ok {
			return at
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return doc.Position
}

// split reads the documents of a file. complete is false when a document could
// not be read, so that not all that the file declares is known. Such a document
// is reported and left out.
func split(file string, data []byte, errs *Errors) (docs []*document, complete bool) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	complete = true
	for n := 0; ; n++ {
		root, err := next(dec)
		switch {
		case errors.Is(err, io.EOF) && n == 0:
			errs.add(Position{file, 1, 1}, "file is empty", "a file of declarations says something", "remove the file, or declare something in it")
			return nil, complete
		case errors.Is(err, io.EOF):
			return docs, complete
		case err != nil:
			*errs = append(*errs, syntaxError(file, data, err))
			return docs, false
		}
		top := root.Content[0]
		at := Position{file, top.Line, top.Column}
		switch {
		case n == maxDocuments:
			errs.add(at, fmt.Sprintf("more than %d documents", maxDocuments), "that is the most a file may hold", "split the file")
			return docs, false
		case top.Kind == yaml.ScalarNode && top.ShortTag() == "!!null":
			errs.add(at, "document is empty", `nothing is between this "---" and the next, or the end of the file`, `remove the superfluous "---"`)
		case !simple(file, top, 1, errs):
			complete = false
		default:
			docs = append(docs, &document{Position: at, data: data, node: top, marks: map[string]Position{}, exprs: map[string]*yaml.Node{}})
		}
	}
}

// next reads one document. The YAML library panics on some input that it should
// refuse; a file must never stop the agent.
func next(dec *yaml.Decoder) (root *yaml.Node, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = errors.New("yaml: the text cannot be read")
		}
	}()
	root = new(yaml.Node)
	if err := dec.Decode(root); err != nil {
		return nil, err
	}
	if root.Kind != yaml.DocumentNode || len(root.Content) != 1 {
		return nil, errors.New("yaml: the text cannot be read")
	}
	return root, nil
}

var (
	yamlError   = regexp.MustCompile(`^yaml: (?:line ([0-9]+): )?(.*)$`)
	yamlUnknown = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)
)

// syntaxError gives the library's error its place: the library tells the line
// only, and often the one after the mistake.
func syntaxError(file string, data []byte, err error) Error {
	e := Error{Position: Position{file, 1, 1}, What: "not YAML", Why: strings.TrimPrefix(err.Error(), "yaml: "), Remedy: "correct this line or the one before it"}
	m := yamlError.FindStringSubmatch(strings.SplitN(err.Error(), "\n", 2)[0])
	if m == nil {
		return e
	}
	e.Why = clip(m[2])
	n, _ := strconv.Atoi(m[1])
	if alias := yamlUnknown.FindStringSubmatch(m[2]); alias != nil {
		e.Why = "an alias (*) names an anchor that is not there" // and may be a secret: it is not repeated
		if before, _, ok := strings.Cut(string(data), "*"+alias[1]); ok {
			n = 1 + strings.Count(before, "\n")
		}
	}
	lines := strings.Split(string(data), "\n")
	n = min(max(n, 1), len(lines))
	text := lines[n-1]
	rest := strings.TrimLeft(text, " ")
	e.Line, e.Column = n, len(text)-len(rest)+1
	if strings.HasPrefix(rest, "\t") {
		e.Remedy = "indent with spaces, not with tabs"
	}
	return e
}

// simple refuses what no declaration needs and what could make a small file a
// large value: aliases, merge keys, deep nesting.
func simple(file string, n *yaml.Node, depth int, errs *Errors) bool {
	at := Position{file, n.Line, n.Column}
	switch {
	case n.Kind == yaml.AliasNode:
		errs.add(at, "alias", "declarations are read without anchors and aliases, so that each says what it means where it stands", "write the value out")
		return false
	case n.ShortTag() == "!!merge":
		errs.add(at, `merge key "<<"`, "declarations are read without merge keys, so that each says what it means where it stands", "write the fields out")
		return false
	case depth > maxNesting:
		errs.add(at, "nested too deeply", fmt.Sprintf("a document may have %d levels", maxNesting), "remove the superfluous levels")
		return false
	}
	ok := true
	for _, child := range n.Content {
		ok = simple(file, child, depth+1, errs) && ok
	}
	return ok
}

// header reads the document's apiVersion and kind; where says what belongs
// here. It reports and gives false when the rest cannot be judged.
func (doc *document) header(errs *Errors, where string, allowed ...string) bool {
	d := &decoder{file: doc.File, kind: "a declaration", errs: errs, marks: doc.marks}
	if !d.expect(doc.node, yaml.MappingNode, "") {
		return false
	}
	var version, name string
	before := len(*errs)
	head := []field{
		{"apiVersion", reflect.ValueOf(&version).Elem(), rule{required: true}},
		{"kind", reflect.ValueOf(&name).Elem(), rule{required: true}},
	}
	only := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: doc.Line, Column: doc.Column}
	for i := 0; i+1 < len(doc.node.Content); i += 2 {
		if _, ok := find(head, doc.node.Content[i].Value); ok {
			only.Content = append(only.Content, doc.node.Content[i], doc.node.Content[i+1])
		}
	}
	d.mapping(only, doc.Position, "", head)
	switch {
	case len(*errs) > before:
		return false
	case version != APIVersion:
		d.fail(doc.mark("apiVersion"), d.is("apiVersion", version), "this version of Purser reads "+APIVersion, "write apiVersion: "+APIVersion)
		return false
	case !slices.Contains(allowed, name):
		remedy := "the kinds are " + strings.Join(allowed, ", ")
		if len(allowed) == 1 {
			remedy = "write kind: " + allowed[0]
		}
		if near := nearest(name, allowed); near != "" {
			remedy = fmt.Sprintf("did you mean %q?", near)
		}
		d.fail(doc.mark("kind"), d.is("kind", name), where, remedy)
		return false
	}
	doc.kind = kindNamed(name)
	return true
}

// decode fills spec, a pointer to the struct that the kind's spec is read into.
func (doc *document) decode(spec any, private bool, errs *Errors) {
	d := &decoder{file: doc.File, kind: doc.kind.name, private: private, errs: errs, marks: doc.marks, exprs: doc.exprs}
	before := len(*errs)
	var version, name string
	fields := []field{
		{"apiVersion", reflect.ValueOf(&version).Elem(), rule{}},
		{"kind", reflect.ValueOf(&name).Elem(), rule{}},
	}
	if doc.kind.named {
		fields = append(fields, field{"metadata", reflect.ValueOf(&doc.meta).Elem(), rule{required: true}})
	}
	fields = append(fields, field{"spec", reflect.ValueOf(spec).Elem(), rule{required: doc.kind.needsSpec()}})
	d.mapping(doc.node, doc.Position, "", fields)
	doc.broken = len(*errs) > before
}

// needsSpec reports whether some field of the spec is required. The others may
// be declared by their name alone.
func (k kind) needsSpec() bool {
	for _, f := range fieldsOf(reflect.New(k.spec).Elem()) {
		if f.rule.required {
			return true
		}
	}
	return false
}
