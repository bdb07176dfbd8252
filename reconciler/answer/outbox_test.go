package answer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/purser-gitops/purser/sources/forge"
)

// fakeForge fails for what it is told to.
type fakeForge struct {
	fails map[string]error // by "commit context", or the number of a pull request
	took  []string
}

func (f *fakeForge) SetStatus(_ context.Context, commit string, s forge.Status) error {
	return f.take(commit + " " + s.Context)
}

func (f *fakeForge) Comment(_ context.Context, number int64, _, _ string) error {
	return f.take(fmt.Sprint(number))
}

func (f *fakeForge) take(what string) error {
	if err := f.fails[what]; err != nil {
		return err
	}
	f.took = append(f.took, what)
	return nil
}

func TestOutbox(t *testing.T) {
	now := time.Date(2026, 11, 30, 6, 0, 0, 0, time.UTC)
	fake := &fakeForge{fails: map[string]error{}}
	failed := 0
	box := NewOutbox(Options{
		Forge: fake, Marker: "purser--x", Pace: Pace{time.Minute, time.Hour}, Now: func() time.Time { return now }, Logger: slog.New(slog.DiscardHandler),
		Note: func(_ string, err error) {
			if err != nil {
				failed++
			}
		},
	})
	said := Letters{}
	for i := range 5 {
		said.Add(Letter{Number: int64(i + 1), Body: "waits"})
		said.Add(Status(fmt.Sprint("head", i+1), "dev", forge.Pending, ""))
	}
	send := func(want ...string) (time.Duration, error) {
		t.Helper()
		fake.took = nil
		retry, err := box.Send(t.Context(), said)
		slices.Sort(fake.took)
		if !slices.Equal(fake.took, want) {
			t.Errorf("took %v, want %v", fake.took, want)
		}
		return retry, err
	}
	if strings.Contains(box.Marker, "--") {
		t.Errorf("no comment can begin with %q", box.Marker)
	}
	// One that is refused keeps no other back, and is not tried again at once.
	fake.fails["2"] = forge.ErrRefused
	retry, err := send("1", "3", "4", "5", "head1 purser/dev", "head2 purser/dev", "head3 purser/dev", "head4 purser/dev", "head5 purser/dev")
	if err != nil || retry != time.Minute {
		t.Errorf("retry in %s, %v", retry, err)
	}
	delete(fake.fails, "2")
	if retry, err = send(); retry != time.Minute || err != nil {
		t.Errorf("retry in %s, %v", retry, err)
	}
	now = now.Add(time.Minute)
	if retry, err = send("2"); retry != 0 || err != nil {
		t.Errorf("retry in %s, %v", retry, err)
	}
	if _, err = send(); err != nil { // nothing is new
		t.Error(err)
	}
	// A rate limit ends it at once, and is respected.
	for i := range 5 {
		said[Key{Number: int64(i + 1)}] = Letter{Number: int64(i + 1), Body: "allowed"}
		fake.fails[fmt.Sprint(i+1)] = &forge.RateLimitError{RetryAfter: 90 * time.Second}
	}
	if _, err = send(); !errors.As(err, new(*forge.RateLimitError)) || failed != 2 {
		t.Errorf("%d failed, %v", failed, err)
	}
	// Several failures in a row are the forge's.
	for i := range 5 {
		fake.fails[fmt.Sprint(i+1)] = forge.ErrUnknown
	}
	now = now.Add(time.Hour)
	if _, err = send(); !errors.Is(err, forge.ErrUnknown) {
		t.Errorf("got %v", err)
	}
	if failed != 2+MostFailures {
		t.Errorf("it was tried %d times", failed)
	}
	clear(fake.fails)
	now = now.Add(time.Hour)
	if _, err = send("1", "2", "3", "4", "5"); err != nil {
		t.Error(err)
	}
	// What concerns nobody is forgotten.
	box.Keep(func(Key) bool { return false })
	if len(box.sent) != 0 {
		t.Errorf("%d are remembered", len(box.sent))
	}
}
