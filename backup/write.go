package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/purser-gitops/purser/backup/store"
)

// creator writes objects, each once: it fails with [store.ErrExists] if there is one under the key.
type creator interface {
	Create(ctx context.Context, key string, r io.Reader, lock store.Lock) (store.Object, error)
}

// opener reads the version that an object names. Its readers end well only if size and SHA-256 are as recorded.
type opener interface {
	Open(ctx context.Context, o store.Object) (io.ReadCloser, error)
}

// Write writes the manifest, after everything that it names. What it returns belongs into the evidence log: by it [Open]
// knows the manifest again. It fails with [store.ErrExists] if the backup has a manifest already.
func Write(ctx context.Context, s creator, m *Manifest, lock store.Lock) (store.Object, error) {
	ref, err := write(ctx, s, m, lock)
	if err != nil {
		return store.Object{}, fmt.Errorf("write manifest of backup %s: %w", m.ID, err)
	}
	return ref, nil
}

func write(ctx context.Context, s creator, m *Manifest, lock store.Lock) (store.Object, error) {
	if err := m.check(m.Environment, m.ID); err != nil {
		return store.Object{}, err
	}
	data, err := m.encode()
	if err != nil {
		return store.Object{}, err
	}
	if _, err := read(bytes.NewReader(data), m.Environment, m.ID); err != nil { // nobody could restore it
		return store.Object{}, err
	}
	ref, err := s.Create(ctx, ManifestKey(m.Environment, m.ID), bytes.NewReader(data), lock)
	if err != nil {
		return store.Object{}, err
	}
	if sum := sha256.Sum256(data); ref.SHA256 != hex.EncodeToString(sum[:]) || ref.Size != int64(len(data)) {
		return store.Object{}, fmt.Errorf("%w: the store has written another manifest", store.ErrChanged)
	}
	return ref, nil
}

// Open reads the manifest of a backup, of the version and with the SHA-256 that were recorded when it was written. It fails
// with [ErrManifest] if that is another backup's, and with [store.ErrChanged] or [store.ErrMissing] if it is not what was
// written or not there.
func Open(ctx context.Context, s opener, environment string, id ID, ref store.Object) (*Manifest, error) {
	m, err := open(ctx, s, environment, id, ref, true)
	if err != nil {
		return nil, fmt.Errorf("open backup %.100s: %w", id, err)
	}
	return m, nil
}

// open reads a manifest; a recorded one has a SHA-256.
func open(ctx context.Context, s opener, environment string, id ID, ref store.Object, recorded bool) (m *Manifest, err error) {
	if err := id.check(environment); err != nil {
		return nil, err
	}
	switch {
	case ref.Key != ManifestKey(environment, id):
		return nil, fmt.Errorf("%w: it is recorded under the key %.200q", ErrManifest, ref.Key)
	case recorded && !sumForm.MatchString(ref.SHA256):
		return nil, fmt.Errorf("%w: its SHA-256 is not recorded", ErrManifest)
	case ref.Size > MaxManifest:
		return nil, fmt.Errorf("%w: it has more than %d bytes", ErrManifest, MaxManifest)
	}
	r, err := s.Open(ctx, ref)
	if err != nil {
		return nil, err
	}
	m, err = read(r, environment, id)
	if closeErr := r.Close(); err == nil && closeErr != nil {
		err = fmt.Errorf("close manifest: %w", closeErr)
	}
	return m, err
}
