package labtest

import (
	"context"
	"testing"

	"github.com/purser-gitops/purser/examples/lab"
)

// Database creates an empty database for the test, which is dropped at its end together with its filestore.
func Database(t testing.TB, l *lab.Endpoints) *lab.Database {
	t.Helper()
	d, err := l.CreateDatabase(t.Context(), Name(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), Patience)
		defer cancel()
		if err := l.DropDatabase(ctx, d); err != nil {
			t.Logf("at the end of the test: %v", err) // it may have taken the server down
		}
	})
	return d
}

// Bucket creates a bucket with Object Lock for the test and returns its name. It stays until the lab ends: nobody may
// delete what is locked.
func Bucket(t testing.TB, l *lab.Endpoints) string {
	t.Helper()
	name := Name(t)
	if err := lab.CreateBucket(t.Context(), l, name); err != nil {
		t.Fatal(err)
	}
	return name
}
