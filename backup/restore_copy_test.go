package backup

import (
	"errors"
	"net/http"
	"testing"

	"github.com/purser-gitops/purser/backup/store"
)

// A copy that cannot be restored leaves nothing at the target, and the error says that another one can take its place there: also
// after the database was restored beside.
func TestRestoreOfCopyThatFails(t *testing.T) {
	t.Parallel()
	s := openStand(t)
	b := s.backUp(t, making{})
	o := RestoreOptions{ProofOptions: proofOptions(t)}
	at := s.target(t)
	for what, asked := range map[string]struct{ method, key string }{
		"asked first":          {http.MethodHead, ""},
		"with the roles":       {http.MethodGet, RolesName},
		"with the database":    {http.MethodGet, DatabaseName},
		"with the attachments": {http.MethodGet, "/filestore/"},
	} {
		silent := b.Stored
		silent.Store = s.unanswered(t, asked.method, asked.key)
		_, err := Restore(bound(t), silent, at, o)
		if !errors.Is(err, ErrCopy) || !errors.Is(err, store.ErrUnanswered) {
			t.Errorf("silent when %s: %v", what, err)
		}
		s.untouched(t, "silent when "+what, at)
	}
	for what, key := range map[string]string{"a pack": b.m.Packs[0].Key, "the roles": b.m.Streams.Roles.Key, "the manifest": b.Manifest.Key} {
		undo := s.onDisk(t)["bit flip: middle"](key, "")
		_, err := Restore(bound(t), b.Stored, at, o)
		undo()
		if !errors.Is(err, ErrCopy) || !errors.Is(err, ErrUnfit) {
			t.Errorf("%s is damaged: %v", what, err)
		}
		s.untouched(t, what, at)
	}
	// What is no fault of the copy is none of another one.
	full := o
	full.free = func(string) (int64, error) { return 1 << 20, nil }
	if _, err := Restore(bound(t), b.Stored, at, full); !errors.Is(err, ErrNoRoom) || errors.Is(err, ErrCopy) {
		t.Errorf("on a full disk: %v", err)
	}
	if _, err := Restore(bound(t), b.Stored, at, o); err != nil {
		t.Fatal(err)
	}
	s.sound(t, at)
	if _, err := Restore(bound(t), b.Stored, at, o); !errors.Is(err, ErrOccupied) || errors.Is(err, ErrCopy) {
		t.Errorf("where something is: %v", err)
	}
}
