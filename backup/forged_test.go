package backup

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"filippo.io/age"

	"github.com/purser-gitops/purser/backup/seal"
	"github.com/purser-gitops/purser/backup/store"
)

// forging is a store in other hands: of one object it gives another content, which only its end shows.
type forging struct {
	examiner
	key     string
	content []byte
}

func (f forging) Open(ctx context.Context, o store.Object) (io.ReadCloser, error) {
	if o.Key != f.key {
		return f.examiner.Open(ctx, o)
	}
	end := iotest.ErrReader(fmt.Errorf("read object %s: %w", o.Key, store.ErrChanged))
	return io.NopCloser(io.MultiReader(bytes.NewReader(f.content), end)), nil
}

// Recipients are no secret: who holds the store can seal roles of his own. What psql would do with them on this machine it
// must not do before they are known to be what was written.
func TestForgedRolesAreNotExecuted(t *testing.T) {
	t.Parallel()
	s := openStand(t)
	// In small streams nothing comes out before the end.
	remarks := func(n int) string {
		var text strings.Builder
		for range n {
			fmt.Fprintf(&text, "-- %s\n", rand.Text())
		}
		return text.String()
	}
	b := s.backUp(t, making{roles: func(text []byte) []byte { return append([]byte(remarks(60_000)), text...) }})
	trace := filepath.Join(scratchFolder(t), "trace")
	recipients, err := age.ParseRecipients(strings.NewReader(strings.Join(s.options.Recipients, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	var forged bytes.Buffer
	w, err := seal.NewWriter(&forged, recipients...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "\\! touch "+trace+"\n"+remarks(50_000)+rolesEnd+"\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	key := b.m.Streams.Roles.Key
	b.Store = forging{s.store, key, forged.Bytes()}
	expectAt(t, "forged roles", b.Stored, L2, L1, key, proofOptions(t))
	if _, err := os.Stat(trace); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("forged roles were executed: %v", err)
		_ = os.Remove(trace)
	}
}
