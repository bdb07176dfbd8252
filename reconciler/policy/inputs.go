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
)

// Inputs is everything that a verdict follows from. Encoded, it is the blob "inputs" of a decision record, from which
// anybody can evaluate the decision again.
type Inputs struct {
	Candidate Candidate
	Facts     Facts
	At        time.Time
}

// Evaluate gives the verdict.
func (in Inputs) Evaluate() Verdict { return Evaluate(in.Candidate, in.Facts, in.At) }

// Encode writes the inputs, without what no gate looks at: the content of objects, unless there are policies about it, and
// the fields of the release diff, which gave the class.
func (in Inputs) Encode() ([]byte, error) {
	c := &in.Candidate
	whole := len(c.Policies) > 0
	c.Release, c.Approved = slim(c.Release, whole), slim(c.Approved, whole)
	c.Diff = slices.Clone(c.Diff)
	for i := range c.Diff {
		c.Diff[i].Fields, c.Diff[i].More = nil, 0
	}
	return json.Marshal(in)
}

// DecodeInputs reads encoded inputs and makes their rules ready.
func DecodeInputs(data []byte) (Inputs, error) {
	var in Inputs
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&in); err != nil {
		return in, fmt.Errorf("decode the inputs of a decision: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return in, errors.New("decode the inputs of a decision: something follows them")
	}
	if in.Candidate.Environment == nil || in.Candidate.Release == nil {
		return in, errors.New("decode the inputs of a decision: there is no candidate")
	}
	if k := in.Candidate.Calendar; k != nil {
		var err error
		if k.Compiled, err = k.Spec.Compile(); err != nil {
			return in, fmt.Errorf("compile calendar %q: %w", k.Meta.Name, err)
		}
	}
	for _, p := range in.Candidate.Policies {
		if err := p.Compile(); err != nil {
			return in, err
		}
	}
	return in, nil
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
