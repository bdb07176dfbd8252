package reconciler

import (
	"context"
	"slices"
	"sync"
)

// turns shares slots among tenants. Who waits gets one tenant by tenant, and within a tenant in the order of asking: a
// tenant with a thousand renders keeps another one waiting for one of them at most.
type turns struct {
	mu    sync.Mutex
	free  int
	next  []string                   // tenants that wait, in turn
	queue map[string][]chan struct{} // by tenant; closed when the slot is there
}

func newTurns(slots int) *turns {
	return &turns{free: slots, queue: map[string][]chan struct{}{}}
}

// take waits for a slot. Without an error, give it back.
func (t *turns) take(ctx context.Context, tenant string) error {
	t.mu.Lock()
	if t.free > 0 {
		t.free--
		t.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	if len(t.queue[tenant]) == 0 {
		t.next = append(t.next, tenant)
	}
	t.queue[tenant] = append(t.queue[tenant], turn)
	t.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(t.queue[tenant], turn); i >= 0 {
		t.dequeue(tenant, i)
	} else { // it came just now
		t.pass()
	}
	return ctx.Err()
}

// give gives a slot back.
func (t *turns) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pass()
}

// pass gives a slot to whoever is next. The lock is held.
func (t *turns) pass() {
	if len(t.next) == 0 {
		t.free++
		return
	}
	tenant := t.next[0]
	t.next = append(t.next[1:], tenant) // it is last now
	close(t.queue[tenant][0])
	t.dequeue(tenant, 0)
}

// dequeue takes somebody out of a tenant's queue, and a tenant without one out of the turns. The lock is held.
func (t *turns) dequeue(tenant string, i int) {
	t.queue[tenant] = slices.Delete(t.queue[tenant], i, i+1)
	if len(t.queue[tenant]) == 0 {
		delete(t.queue, tenant)
		t.next = slices.DeleteFunc(t.next, func(other string) bool { return other == tenant })
	}
}
