package reconciler

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
)

// A tenant that has many waiting keeps another one waiting for one of them.
func TestTurnsAreTakenByTenant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns(1)
		if err := turns.take(t.Context(), "north"); err != nil {
			t.Fatal(err)
		}
		var order []string
		ask := func(ctx context.Context, tenant string) {
			go func() {
				if turns.take(ctx, tenant) == nil {
					order = append(order, tenant)
					turns.give()
				}
			}()
			synctest.Wait()
		}
		for range 5 {
			ask(t.Context(), "north")
		}
		leaves, leave := context.WithCancel(t.Context())
		ask(leaves, "east")
		ask(t.Context(), "south")
		ask(t.Context(), "south")
		leave()
		synctest.Wait()
		turns.give()
		synctest.Wait()
		if want := []string{"north", "south", "north", "south", "north", "north", "north"}; !slices.Equal(order, want) {
			t.Errorf("the turns were %v, want %v", order, want)
		}
		if turns.free != 1 || len(turns.queue) != 0 || len(turns.next) != 0 {
			t.Errorf("left over: %+v", turns)
		}
	})
}
