package render

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/purser-gitops/purser/sources/declaration"
)

// maxEncoded bounds what [DecodeRelease] takes, in bytes.
const maxEncoded = 64 << 20

// encoded is the stored form of a release. What can be computed is left out,
// but for the digest, which says what the rest must give.
type encoded struct {
	Binding     Binding           `json:"binding"`
	Declaration *encodedRelease   `json:"declaration"`
	Digest      string            `json:"digest"`
	Directory   string            `json:"directory,omitempty"`
	Format      string            `json:"format"`
	Inputs      Inputs            `json:"inputs"`
	Objects     []json.RawMessage `json:"objects"`
	Renderer    string            `json:"renderer"`
}

type encodedRelease struct {
	Attestations []string      `json:"attestations,omitempty"`
	Change       encodedChange `json:"change"`
	Class        string        `json:"class"`
	Migration    string        `json:"migration"`
	Modules      []string      `json:"modules,omitempty"`
	Version      string        `json:"version"`
}

type encodedChange struct {
	Impact   string `json:"impact"`
	Reason   string `json:"reason"`
	Rollback string `json:"rollback"`
	Ticket   string `json:"ticket"`
}

// Encode gives the canonical bytes of the release: the same release always gives
// the same bytes. Secret values in them are ciphertext.
func (r *Release) Encode() ([]byte, error) {
	e := encoded{Format: releaseFormat, Digest: r.Digest, Binding: r.Binding, Renderer: r.Renderer, Inputs: r.Inputs, Directory: r.Directory}
	health, err := canonicalRaw(r.Binding.Health)
	if err != nil {
		return nil, fmt.Errorf("encode release: %w", err)
	}
	if e.Binding.Health = nil; health != nil {
		if e.Binding.Health, err = canonicalJSON(health); err != nil {
			return nil, fmt.Errorf("encode release: %w", err)
		}
	}
	if d := r.Declaration; d != nil {
		e.Declaration = &encodedRelease{Version: d.Version, Migration: d.Migration, Class: d.Class, Modules: d.Modules, Attestations: d.Attestations, Change: encodedChange{
			Ticket: d.Change.Ticket, Reason: d.Change.Reason, Impact: d.Change.Impact, Rollback: d.Change.Rollback}}
	}
	for _, o := range r.Objects {
		data, err := canonicalJSON(o.Object)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", RefOf(o), err)
		}
		e.Objects = append(e.Objects, data)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		return nil, fmt.Errorf("encode release: %w", err)
	}
	return b.Bytes(), nil
}

// DecodeRelease reads what [Release.Encode] wrote. The digest is computed again
// from the objects; [ErrDigest] says that it is another.
func DecodeRelease(data []byte) (*Release, error) {
	if len(data) > maxEncoded {
		return nil, fmt.Errorf("decode release: %d bytes are more than the limit of %d", len(data), maxEncoded)
	}
	var e encoded
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil {
		return nil, fmt.Errorf("decode release: %w", err)
	}
	if dec.More() {
		return nil, errors.New("decode release: bytes follow it")
	}
	if e.Format != releaseFormat {
		return nil, fmt.Errorf("decode release: its format is %q, this Purser reads %q", e.Format, releaseFormat)
	}
	res := &Result{Inputs: e.Inputs, Directory: e.Directory}
	for i, raw := range e.Objects {
		m := map[string]any{}
		if err := utiljson.Unmarshal(raw, &m); err != nil {
			return nil, fmt.Errorf("decode release: object %d: %w", i, err)
		}
		res.Objects = append(res.Objects, &unstructured.Unstructured{Object: m})
	}
	var decl *declaration.Release
	if d := e.Declaration; d != nil {
		decl = &declaration.Release{Version: d.Version, Migration: d.Migration, Class: d.Class, Modules: d.Modules, Attestations: d.Attestations, Change: declaration.Change{
			Ticket: d.Change.Ticket, Reason: d.Change.Reason, Impact: d.Change.Impact, Rollback: d.Change.Rollback}}
	}
	r, err := NewRelease(res, decl, e.Binding)
	if err != nil {
		return nil, fmt.Errorf("decode release: %w", err)
	}
	r.Renderer = e.Renderer
	if err := checkDigest("the release", e.Digest, r.Digest); err != nil {
		return nil, fmt.Errorf("decode release: %w", err)
	}
	return r, nil
}
