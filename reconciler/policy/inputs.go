package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources/declaration"
)

// Inputs is everything that a verdict follows from. Encoded, it is two blobs of a decision record, from which anybody can
// evaluate the decision again: "inputs", and "rules" with what all candidates of one governance share.
type Inputs struct {
	Candidate Candidate
	Facts     Facts
	At        time.Time
}

// Rules is what governance says about all candidates alike.
type Rules struct {
	Classes   map[string]*declaration.ReleaseClass
	Calendars map[string]*declaration.Calendar
	Policies  map[string]*declaration.Policy
	People    map[string]Voter
}

// GatesVersion is that of what the gates answer. It changes with every change that gives the same inputs another answer, so
// that old decisions are not taken for wrong ones.
const GatesVersion = 4

// ErrOtherGates says that gates of another version judged.
var ErrOtherGates = errors.New("the decision was made by other gates")

// stored is the form of Inputs in a record: rules are given by name.
type stored struct {
	Gates     int // GatesVersion that judged
	Candidate Candidate
	Facts     Facts
	At        time.Time
	Class     string // "": unknown
	Calendar  string // "": none
	Policies  []string
}

// Evaluate gives the verdict.
func (in Inputs) Evaluate() Verdict { return Evaluate(in.Candidate, in.Facts, in.At) }

// Encode writes the inputs, without the rules and without what no gate looks at: the content of objects, unless there are
// policies about it, and the fields of the release diff, which gave the class.
func (in Inputs) Encode() ([]byte, error) {
	s := stored{Gates: GatesVersion, Candidate: in.Candidate, Facts: in.Facts, At: in.At}
	c := &s.Candidate
	whole := len(c.Policies) > 0
	c.Release, c.Approved = slim(c.Release, whole), slim(c.Approved, whole)
	c.Diff = slices.Clone(c.Diff)
	for i := range c.Diff {
		c.Diff[i].Fields, c.Diff[i].More = nil, 0
	}
	if c.Class != nil {
		s.Class = c.Class.Meta.Name
	}
	if c.Calendar != nil {
		s.Calendar = c.Calendar.Meta.Name
	}
	for _, p := range c.Policies {
		s.Policies = append(s.Policies, p.Meta.Name)
	}
	c.Class, c.Calendar, c.Policies, s.Facts.People = nil, nil, nil, nil
	return json.Marshal(s)
}

// Encode writes the rules. The same rules always give the same bytes.
func (r *Rules) Encode() ([]byte, error) { return json.Marshal(r) }

// DecodeRules reads encoded rules and makes them ready.
func DecodeRules(data []byte) (*Rules, error) {
	r := &Rules{}
	if err := decode(data, r); err != nil {
		return nil, fmt.Errorf("decode the rules of a decision: %w", err)
	}
	for name, k := range r.Calendars {
		var err error
		if k.Compiled, err = k.Spec.Compile(); err != nil {
			return nil, fmt.Errorf("compile calendar %q: %w", name, err)
		}
	}
	for _, p := range r.Policies {
		if err := p.Compile(); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Decode reads encoded inputs that were judged by these rules.
func (r *Rules) Decode(data []byte) (Inputs, error) {
	var by struct{ Gates int }
	if err := json.Unmarshal(data, &by); err == nil && by.Gates != GatesVersion {
		return Inputs{}, fmt.Errorf("%w: version %d, not %d", ErrOtherGates, by.Gates, GatesVersion)
	}
	var s stored
	if err := decode(data, &s); err != nil {
		return Inputs{}, fmt.Errorf("decode the inputs of a decision: %w", err)
	}
	in := Inputs{Candidate: s.Candidate, Facts: s.Facts, At: s.At}
	if in.Candidate.Environment == nil || in.Candidate.Release == nil {
		return in, errors.New("decode the inputs of a decision: there is no candidate")
	}
	in.Facts.People = r.People
	var err error
	if s.Class != "" {
		in.Candidate.Class, err = named(r.Classes, s.Class)
	}
	if s.Calendar != "" && err == nil {
		in.Candidate.Calendar, err = named(r.Calendars, s.Calendar)
	}
	for _, name := range s.Policies {
		p, missing := named(r.Policies, name)
		in.Candidate.Policies, err = append(in.Candidate.Policies, p), errors.Join(err, missing)
	}
	if err != nil {
		return in, fmt.Errorf("decode the inputs of a decision: %w", err)
	}
	return in, nil
}

// named finds one of the rules.
func named[T any](rules map[string]*T, name string) (*T, error) {
	if rule := rules[name]; rule != nil {
		return rule, nil
	}
	return nil, fmt.Errorf("its rules do not have %q", name)
}

// decode reads one JSON value strictly.
func decode(data []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows it")
	}
	return nil
}

// slim keeps of a release what gates look at.
func slim(r *render.Release, whole bool) *render.Release {
	if r == nil {
		return nil
	}
	s := &render.Release{Digest: r.Digest, Images: r.Images, Declaration: r.Declaration, Binding: r.Binding, Objects: r.Objects}
	if whole {
		return s
	}
	s.Objects = make([]*unstructured.Unstructured, len(r.Objects))
	for i, o := range r.Objects {
		s.Objects[i] = outline(o)
	}
	return s
}

// outline keeps of an object its name, and of the definition of a kind what it defines.
func outline(o *unstructured.Unstructured) *unstructured.Unstructured {
	metadata := map[string]any{"name": o.GetName()}
	if ns := o.GetNamespace(); ns != "" {
		metadata["namespace"] = ns
	}
	out := map[string]any{"apiVersion": o.GetAPIVersion(), "kind": o.GetKind(), "metadata": metadata}
	if o.GetKind() == "CustomResourceDefinition" {
		out["spec"] = o.Object["spec"]
	}
	return &unstructured.Unstructured{Object: out}
}
