package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/purser-gitops/purser/backup/store"
	"github.com/purser-gitops/purser/examples/lab/labtest"
	"github.com/purser-gitops/purser/sources/declaration"
)

// drillOf prepares a drill of backups, which are verified.
func (s *stand) drillOf(t testing.TB, backups ...backedUp) (DrillSource, DrillOptions) {
	t.Helper()
	from := DrillSource{Store: s.store, Environment: "prod-eu", Identities: s.keys}
	for _, b := range backups {
		from.Records = append(from.Records, Record{ID: b.ID, Manifest: b.Manifest, Verified: time.Now()})
	}
	source := s.options.Connection
	return from, DrillOptions{ProofOptions: proofOptions(t), Sources: []Address{{source.Host, source.Port}}}
}

// A drill restores the latest backup, measures as a stopwatch does, and leaves nothing.
func TestDrill(t *testing.T) {
	t.Parallel()
	s := openStand(t)
	older := s.backUp(t, making{})
	newer := s.backUpLater(t, older)
	from, o := s.drillOf(t, newer, older)
	failed := Record{ID: NewID("prod-eu", time.Now()), Verified: time.Now(), Failed: true}
	unverified := Record{ID: NewID("prod-eu", time.Now().Add(time.Second))}
	from.Records = append(from.Records, failed, unverified)
	o.RPO, o.RTO, o.Declared = time.Hour, time.Hour, time.Now().Add(30*time.Minute)
	start := time.Now()
	r, err := Drill(bound(t), from, o)
	whole := time.Since(start)
	if err != nil || !r.Passed() || r.ID != newer.ID || r.Candidates != 2 || r.Point != declaration.PointLatest {
		t.Fatalf("%+v, %v", r, err)
	}
	if watch := whole - r.Teardown.Took; (watch - r.RTO).Abs() > time.Second {
		t.Errorf("RTO is %s, by the stopwatch %s", r.RTO, watch)
	}
	if watch := o.Declared.Sub(newer.snapshot); (watch - r.RPO).Abs() > time.Second {
		t.Errorf("RPO is %s, by the stopwatch %s", r.RPO, watch)
	}
	var names []string
	sum := time.Duration(0)
	for _, segment := range r.Segments {
		names, sum = append(names, segment.Name), sum+segment.Took
	}
	if want := []string{SegmentChoose, SegmentServer, SegmentIsolation, SegmentDatabase, SegmentAttachments, SegmentChecks}; !slices.Equal(names, want) || (sum-r.RTO).Abs() > time.Second {
		t.Errorf("segments %v take %s of %s", names, sum, r.RTO)
	}
	if len(r.Isolation) != 1 || !r.Isolation[0].Unreachable || !r.Isolation[0].FromHere || !strings.Contains(r.Isolation[0].Said, "unreachable") {
		t.Errorf("isolation: %+v", r.Isolation)
	}
}

// backUpLater makes a backup whose ID comes after that of another one: those of one second have no order.
func (s *stand) backUpLater(t testing.TB, than backedUp) backedUp {
	t.Helper()
	labtest.Eventually(t, "the next second", func(context.Context) error {
		if time.Now().Before(than.ID.Began().Add(time.Second)) {
			return errors.New("it is still the same one")
		}
		return nil
	})
	return s.backUp(t, making{})
}

// A drill restores the point that chance gives, and none that is not verified or that came after the failure.
func TestDrillChooses(t *testing.T) {
	t.Parallel()
	s := openStand(t)
	first := s.backUp(t, making{})
	second := s.backUpLater(t, first)
	from, o := s.drillOf(t, second, first)
	o.Point, o.Random = declaration.PointRandom, func(n int) int { return n - 2 }
	if r, err := Drill(bound(t), from, o); err != nil || !r.Passed() || r.ID != first.ID {
		t.Errorf("random: %+v, %v", r, err)
	}
	// The second was not finished when it happened.
	before := o
	before.Point, before.Declared = declaration.PointLatest, second.m.Times.Began.Add(time.Millisecond)
	before.free = func(string) (int64, error) { return 0, nil }
	if r, err := Drill(bound(t), from, before); !errors.Is(err, ErrNoRoom) || r.ID != first.ID {
		t.Errorf("failure during the second backup: %+v, %v", r, err)
	}
	for what, test := range map[string]struct {
		change func(*DrillSource, *DrillOptions)
		want   string
	}{
		"nothing verified": {func(from *DrillSource, _ *DrillOptions) {
			from.Records = []Record{{ID: first.ID, Manifest: first.Manifest}}
		}, ErrNoPoint.Error()},
		"before all":      {func(_ *DrillSource, o *DrillOptions) { o.Declared = time.Now().Add(-time.Hour) }, ErrNoPoint.Error()},
		"of others":       {func(from *DrillSource, _ *DrillOptions) { from.Environment = "staging" }, ErrNoPoint.Error()},
		"no chance":       {func(_ *DrillSource, o *DrillOptions) { o.Random = nil }, "nothing is given that chooses"},
		"too much chance": {func(_ *DrillSource, o *DrillOptions) { o.Random = func(n int) int { return n } }, "2 is no point"},
		"unknown point":   {func(_ *DrillSource, o *DrillOptions) { o.Point = "oldest" }, `"oldest" is no point`},
		"no source":       {func(_ *DrillSource, o *DrillOptions) { o.Sources = nil }, "no source is given"},
	} {
		from, o := from, o
		test.change(&from, &o)
		if r, err := Drill(bound(t), from, o); err == nil || !strings.Contains(err.Error(), test.want) || r.Passed() || r.Unfinished == "" {
			t.Errorf("%s: %+v, %v", what, r, err)
		}
	}
}

// A drill fails by what is wrong with the backup, by objectives that are missed, and where what it restores is not isolated.
func TestDrillFails(t *testing.T) {
	t.Parallel()
	s := openStand(t)
	b := s.backUp(t, making{})
	from, o := s.drillOf(t, b)
	missed := o
	missed.RPO, missed.RTO, missed.Declared = time.Minute, time.Nanosecond, time.Now().Add(time.Hour)
	if r, err := Drill(bound(t), from, missed); err != nil || r.Passed() || len(r.Findings.Findings) != 2 || r.RTO == 0 || !r.Teardown.Proven {
		t.Errorf("missed objectives: %+v, %v", r, err)
	} else if said := r.Findings.Err(); errors.Is(said, ErrUnfit) || !strings.Contains(said.Error(), "may") {
		t.Errorf("missed objectives are told as %v", said)
	}
	// A socket is no network.
	reached := o
	reached.Sources = []Address{{s.lab.Dir + "/postgres", 1}, {listen(t), 5432}}
	if r, err := Drill(bound(t), from, reached); err != nil || r.Passed() || len(r.Findings.Findings) != 1 || r.Findings.Findings[0].Object != "isolation" ||
		r.RTO != 0 || !r.Teardown.Proven || !r.Isolation[1].FromHere || r.Isolation[1].Unreachable {
		t.Errorf("reached: %+v, %v", r, err)
	}
	undo := s.onDisk(t)["bit flip: middle"](b.m.Streams.Database.Key, "")
	if r, err := Drill(bound(t), from, o); err != nil || r.Passed() || found(&Verification{Findings: Findings{Findings: r.Findings.Findings}}, b.m.Streams.Database.Key) != L1 || r.RTO != 0 || !r.Teardown.Proven {
		t.Errorf("bit flip: %+v, %v", r, err)
	}
	undo()
	full := o
	full.free = func(string) (int64, error) { return 100 << 20, nil }
	if r, err := Drill(bound(t), from, full); !errors.Is(err, ErrNoRoom) || r.Passed() {
		t.Errorf("full disk: %+v, %v", r, err)
	}
}

// breaking is a store that stops answering after so many openings.
type breaking struct {
	examiner
	left   int
	err    error
	cancel func()
}

func (b *breaking) Open(ctx context.Context, o store.Object) (io.ReadCloser, error) {
	if b.left--; b.left < 0 {
		if b.cancel != nil {
			b.cancel()
		}
		return nil, fmt.Errorf("open object: %w", b.err)
	}
	return b.examiner.Open(ctx, o)
}

// A store that does not answer, or a deadline, is an error and no finding; what was found before stays.
func TestUnfinished(t *testing.T) {
	t.Parallel()
	s := openStand(t)
	b := s.backUp(t, making{roles: func(text []byte) []byte { return text[:len(text)/2] }})
	away := errors.New("the store is away")
	o := proofOptions(t)
	for left := range 5 + len(b.m.Packs) {
		stored := b.Stored
		stored.Store = &breaking{examiner: s.store, left: left, err: away}
		v, err := Verify(bound(t), stored, L1, o)
		if !errors.Is(err, away) || v.Passed() || v.Unfinished == "" || v.Reached == L1 {
			t.Errorf("after %d objects: %+v, %v", left, v, err)
		}
		if want := min(max(0, left-1), 1); len(v.Findings.Findings) != want {
			t.Errorf("after %d objects: found %v", left, v.Findings.Findings)
		}
	}
	for _, level := range []Level{L1, L2} {
		ctx, cancel := context.WithCancel(t.Context())
		stored := b.Stored
		stored.Store = &breaking{examiner: s.store, left: 3, err: context.Canceled, cancel: cancel}
		if v, err := Verify(ctx, stored, level, o); !errors.Is(err, context.Canceled) || v.Passed() || v.Reached != L0 {
			t.Errorf("%s, cancelled: %+v, %v", level, v, err)
		}
		cancel()
	}
	full := o
	full.free = func(string) (int64, error) { return 10, nil }
	for _, level := range []Level{L1, L2} {
		if v, err := Verify(bound(t), b.Stored, level, full); !errors.Is(err, ErrNoRoom) || v.Passed() || v.Reached != L0 {
			t.Errorf("%s on a full disk: %+v, %v", level, v, err)
		}
	}
	if v, err := Verify(bound(t), b.Stored, "L3", o); err == nil || v.Passed() {
		t.Errorf("unknown level: %+v, %v", v, err)
	}
}
