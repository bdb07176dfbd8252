package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// sightings waits for objects to look in a certain way.
type sightings struct {
	mu      sync.Mutex
	waiting map[objectKey]*sighting
	counted map[objectKey]int // events since the last count
}

// sighting is one such wait.
type sighting struct {
	looks func(event) bool // called with every event of the object, in order
	seen  chan time.Time   // gets the time of the first event that looks so
}

func newSightings() *sightings {
	return &sightings{waiting: map[objectKey]*sighting{}, counted: map[objectKey]int{}}
}

// see takes note of an event.
func (s *sightings) see(e event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := e.key()
	s.counted[key]++
	if w := s.waiting[key]; w != nil && w.looks(e) {
		delete(s.waiting, key)
		w.seen <- e.at
	}
}

// expect begins to wait for an object. There is one wait for an object at a time.
func (s *sightings) expect(key objectKey, looks func(event) bool) *sighting {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &sighting{looks: looks, seen: make(chan time.Time, 1)}
	s.waiting[key] = w
	return w
}

// count says how many events each object had since the last count.
func (s *sightings) count() map[objectKey]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	counted := s.counted
	s.counted = map[objectKey]int{}
	return counted
}

// wait returns when the object was seen.
func (w *sighting) wait(ctx context.Context, patience time.Duration) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case at := <-w.seen:
		return at, nil
	case <-ctx.Done():
		return time.Time{}, fmt.Errorf("not seen within %s", patience)
	}
}
