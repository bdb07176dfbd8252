package render

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/declaration"
)

// releaseFormat names what [Release.Digest] covers and how, see the package
// comment.
const releaseFormat = "purser.dev/release/v1"

// ErrDigest says that bytes do not have the digest they claim.
var ErrDigest = errors.New("digest does not match")

// Binding is where a release runs. Environment is carried but is no part of the
// digest.
type Binding struct {
	Environment string          `json:"environment"`
	Cluster     string          `json:"cluster"`
	Namespace   string          `json:"namespace"`
	Health      json.RawMessage `json:"health,omitempty"`
}

// Release is what one environment would run. It is not changed once made; its
// objects are shared with the [Result], but for those that named no namespace: each
// names the one that it gets, so that it is the same object however it is written.
// Of kinds that Kubernetes itself does not have nobody knows here whether they need one.
type Release struct {
	Digest        string                       // "sha256:…", see the package comment
	Objects       []*unstructured.Unstructured // sorted by Ref.Key; Secret values ciphertext
	ObjectDigests map[string]string            // Ref.Key → "sha256:…"
	Images        map[string]string            // "role/container" or "role/volume:name" → image
	Declaration   *declaration.Release         // release.yaml, or nil
	Binding       Binding
	Bytes         int    // of the objects as canonical JSON
	Renderer      string // [Version] that rendered it; no part of the digest
	Inputs        Inputs // no part of the digest
	Directory     string // that was rendered, see [Result]; no part of the digest
}

// NewRelease binds a result. decl may be nil. A Secret with plain values is a
// *[RefusedError].
func NewRelease(res *Result, decl *declaration.Release, b Binding) (*Release, error) {
	if len(res.Objects) == 0 {
		return nil, ErrEmpty
	}
	if err := refusePlainSecrets(res); err != nil {
		return nil, err
	}
	r := &Release{
		Objects: placed(res.Objects, b.Namespace), ObjectDigests: make(map[string]string, len(res.Objects)),
		Images: imageSet(res.Objects), Declaration: decl, Binding: b, Renderer: Version, Inputs: res.Inputs, Directory: res.Directory,
	}
	slices.SortFunc(r.Objects, func(a, b *unstructured.Unstructured) int {
		return strings.Compare(RefOf(a).Key(), RefOf(b).Key())
	})
	for _, o := range r.Objects {
		ref := RefOf(o)
		if _, ok := r.ObjectDigests[ref.Key()]; ok {
			return nil, &RefusedError{Object: ref.String(), Reason: "it is in the release twice", Remedy: "remove one"}
		}
		canonical, err := canonicalJSON(o.Object)
		if err != nil {
			return nil, fmt.Errorf("digest %s: %w", ref, err)
		}
		r.ObjectDigests[ref.Key()] = digestBytes(canonical)
		r.Bytes += len(canonical)
	}
	var err error
	if r.Digest, err = r.digest(); err != nil {
		return nil, fmt.Errorf("digest release: %w", err)
	}
	return r, nil
}

// placed gives objects the namespace that those get which name none.
func placed(objects []*unstructured.Unstructured, namespace string) []*unstructured.Unstructured {
	objects = slices.Clone(objects)
	for i, o := range objects {
		if namespace != "" && o.GetNamespace() == "" && namespaced(o) {
			objects[i] = o.DeepCopy()
			objects[i].SetNamespace(namespace)
		}
	}
	return objects
}

// StillCurrent reports that dir of t renders to the objects of this release,
// without rendering: this Purser renders as the one that did, and everything
// that was read then is the same in t. It never says so wrongly. What else makes
// a release is the caller's: the binding, and release.yaml unless that is among
// the inputs.
func (r *Release) StillCurrent(t *sources.Tree, dir string) bool {
	return r.Renderer == Version && r.Directory == path.Clean(dir) && len(r.Inputs) > 0 && r.Inputs.Unchanged(t)
}

// digest covers what the package comment says.
func (r *Release) digest() (string, error) {
	health, err := canonicalRaw(r.Binding.Health)
	if err != nil {
		return "", fmt.Errorf("binding health: %w", err)
	}
	return digestOf(map[string]any{
		"format":      releaseFormat,
		"objects":     anyMap(r.ObjectDigests),
		"declaration": declarationValue(r.Declaration),
		"binding":     map[string]any{"cluster": r.Binding.Cluster, "namespace": r.Binding.Namespace, "health": health},
	})
}

// declarationValue lists the fields by name, so that the digest does not depend
// on the Go type. A list that is empty is left out, as before there were lists.
func declarationValue(d *declaration.Release) any {
	if d == nil {
		return nil
	}
	value := map[string]any{
		"version": d.Version, "migration": d.Migration, "class": d.Class,
		"change": map[string]any{
			"ticket": d.Change.Ticket, "reason": d.Change.Reason, "impact": d.Change.Impact, "rollback": d.Change.Rollback,
		},
	}
	for name, list := range map[string][]string{"modules": d.Modules, "attestations": d.Attestations} {
		if len(list) > 0 {
			value[name] = anyList(list)
		}
	}
	return value
}

func anyList(list []string) []any {
	out := make([]any, len(list))
	for i, v := range list {
		out[i] = v
	}
	return out
}

func anyMap(m map[string]string) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

// lastApplied is where kubectl apply keeps a copy of the whole object.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// refusePlainSecrets finds values of Secrets that are not SOPS ciphertext.
func refusePlainSecrets(res *Result) error {
	for _, o := range res.Objects {
		ref := RefOf(o)
		if !ref.isSecret() {
			continue
		}
		refuse := func(what string) error {
			return &RefusedError{File: res.secretFiles[ref.Key()], Object: ref.String(),
				Reason: what + " is in plain text in the repository",
				Remedy: "use External Secrets or Sealed Secrets, or encrypt it with SOPS for the agent's age recipient; and change the secret, since it was published"}
		}
		if _, ok := o.GetAnnotations()[lastApplied]; ok {
			return refuse("its annotation " + lastApplied)
		}
		for _, field := range []string{"data", "stringData"} {
			if v, ok := o.Object[field]; ok && v != nil {
				if _, ok := v.(map[string]any); !ok {
					return refuse(field)
				}
			}
		}
		_, manifest := o.Object["sops"].(map[string]any)
		err := secretValues(o, func(field, key string, value any) error {
			if !encryptedValue(manifest, field, key, value) {
				return refuse(field + "." + key)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// encryptedValue reports ciphertext, and values that say nothing.
func encryptedValue(manifest bool, field, key string, value any) bool {
	text, ok := value.(string)
	if !ok {
		return value == nil
	}
	if text == "" {
		return true
	}
	if manifest {
		return isCiphertext(text)
	}
	raw, ok := decodeBase64(text)
	if field != "data" || !ok || !hasCiphertext(string(raw)) {
		return false
	}
	_, _, err := loadSOPS(key, raw)
	return err == nil
}
