package postgres

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
)

// Nobody else gets a hold, and whoever has it hears when it is lost.
func TestHold(t *testing.T) {
	t.Parallel()
	e := labtest.Shared(t, lab.PostgreSQL)
	d, c := seeded(t, e)
	place, name := Place{Connection: c}, d.Name+"-beside"
	hold, err := place.Hold(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	if other, err := place.Hold(t.Context(), name); !errors.Is(err, ErrBusy) {
		t.Errorf("a second hold: %v, %v", other, err)
	}
	held := hold.Watch(t.Context())
	if !value[bool](t, d.AdminDSN, "SELECT pg_terminate_backend($1)", hold.conn.PgConn().PID()) {
		t.Fatal("its session was not ended")
	}
	select {
	case <-held.Done():
		if !errors.Is(context.Cause(held), ErrHold) {
			t.Errorf("it ends because %v", context.Cause(held))
		}
	case <-time.After(labtest.Patience):
		t.Error("nobody says that the hold is lost")
	}
}
