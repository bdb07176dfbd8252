package reconciler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/purser-gitops/purser/sources/forge"
)

// fakeForge fails for what it is told to.
type fakeForge struct {
	fails map[string]error // by "commit context", or the number of a pull request
	took  []string
}

func (f *fakeForge) Open(context.Context) ([]forge.OpenPullRequest, error) { return nil, nil }

func (f *fakeForge) Describe(context.Context, forge.OpenPullRequest) (*forge.PullRequest, error) {
	return nil, errors.New("not asked for")
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
	metrics, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	fake := &fakeForge{fails: map[string]error{}}
	n := &answers{
		agent: &Agent{now: func() time.Time { return now }, metrics: metrics}, source: "estate", every: time.Minute,
		logger: slog.New(slog.DiscardHandler), box: newOutbox(fake, "purser--x"), pulls: map[int64]*openPull{},
	}
	for i := range 5 {
		n.pulls[int64(i+1)] = &openPull{OpenPullRequest: forge.OpenPullRequest{Number: int64(i + 1), Head: fmt.Sprint("head", i+1)}}
	}
	said := letters{}
	for i := range 5 {
		said.add(letter{number: int64(i + 1), body: "waits"})
		said.add(letter{commit: fmt.Sprint("head", i+1), status: forge.Status{Context: "purser/dev", State: forge.Pending}})
	}
	send := func(want ...string) (time.Duration, error) {
		t.Helper()
		fake.took = nil
		retry, err := n.send(t.Context(), said)
		slices.Sort(fake.took)
		if !slices.Equal(fake.took, want) {
			t.Errorf("took %v, want %v", fake.took, want)
		}
		return retry, err
	}
	if strings.Contains(n.box.marker, "--") {
		t.Errorf("no comment can begin with %q", n.box.marker)
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
		said[letterKey{number: int64(i + 1)}] = letter{number: int64(i + 1), body: "allowed"}
		fake.fails[fmt.Sprint(i+1)] = &forge.RateLimitError{RetryAfter: 90 * time.Second}
	}
	_, err = send()
	if got := testutil.ToFloat64(metrics.forgeErrors.WithLabelValues("estate", "comment")); err == nil || got != 2 {
		t.Errorf("%v failed, %v", got, err)
	}
	if wait := n.pause(err); wait != 90*time.Second || until(n.silence, now) != wait {
		t.Errorf("it is left alone for %s", wait)
	}
	// Several failures in a row are the forge's.
	for i := range 5 {
		fake.fails[fmt.Sprint(i+1)] = forge.ErrUnknown
	}
	now = now.Add(time.Hour)
	if _, err = send(); !errors.Is(err, forge.ErrUnknown) {
		t.Errorf("got %v", err)
	}
	if got := testutil.ToFloat64(metrics.forgeErrors.WithLabelValues("estate", "comment")); got != 2+mostFailures {
		t.Errorf("it was tried %v times", got)
	}
	clear(fake.fails)
	now = now.Add(time.Hour)
	if _, err = send("1", "2", "3", "4", "5"); err != nil {
		t.Error(err)
	}
	// What is no longer open is forgotten.
	clear(n.pulls)
	said = letters{}
	if _, err = send(); err != nil || len(n.box.sent) != 0 {
		t.Errorf("%d are remembered, %v", len(n.box.sent), err)
	}
}
