package render

import (
	"sync"

	"sigs.k8s.io/kustomize/api/types"
)

const (
	maxKnownBlobs = 20_000
	maxKnownText  = 512 << 10 // bytes of kustomizations; decoded they take a few times that
)

// known is what was found out about blobs, by their ids, so that a base is judged once and not again for each of its
// environments. It only holds what is good about a blob alone, never an error: those name a place. When it is full,
// it starts over.
type known struct {
	mu    sync.Mutex
	read  map[string]struct{}       // blobs that Kustomize may read
	bases map[string]*kustomization // of directories that others include
	text  int                       // bytes that bases were decoded from
}

func newKnown() *known {
	return &known{read: map[string]struct{}{}, bases: map[string]*kustomization{}}
}

func (k *known) readable(blob string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, ok := k.read[blob]
	return ok
}

func (k *known) addReadable(blob string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.read) >= maxKnownBlobs {
		clear(k.read)
	}
	k.read[blob] = struct{}{}
}

func (k *known) base(blob string) *kustomization {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.bases[blob]
}

func (k *known) addBase(blob string, kust *kustomization, text int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.text += text; k.text > maxKnownText {
		clear(k.bases)
		k.text = text
	}
	k.bases[blob] = kust
}

// kustomization is a decoded kustomization file. It is shared and not changed.
type kustomization struct {
	types.Kustomization
	refs []reference
}
