package evidence

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestAddPublishVerify(t *testing.T) {
	for _, c := range []struct {
		name   string
		http   bool
		atomic string
	}{{"file", false, "true"}, {"http", true, "true"}, {"http without atomic pushes", true, "false"}} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			git(t, f.bare, "config", "receive.advertiseAtomic", c.atomic)
			if c.http {
				f.o.Remote.URL = serve(t, filepath.Dir(f.bare)).URL + "/audit.git"
			}
			l := f.run()
			f.wait(f.add(3).Index)
			d := applyDraft(1000)
			d.Blobs = []Blob{{Name: "diff", Data: []byte("- old\n+ new\n")}}
			d.Keep = []Keep{{Ref: "refs/purser/keep/north-dev/live", Files: map[string][]byte{"release.json": []byte("{}"), "in/put": []byte("x")}}}
			r, err := l.record(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			f.wait(r.Index)
			f.close()
			report := f.verified(4)
			if report.Blobs.Present != 1 || len(report.Notes) > 0 {
				t.Errorf("report %+v", report)
			}
			file := git(t, f.bare, "show", "audit/2026:records/00/00/00/03.json")
			if !strings.Contains(file, `"keyid":"`+f.key.ID()) {
				t.Error(file)
			}
			if files := git(t, f.bare, "ls-tree", "-r", "--name-only", "refs/purser/keep/north-dev/live"); files != "in/put\nrelease.json" {
				t.Errorf("kept %q", files)
			}
		})
	}
}

func TestRestartKeepsSpool(t *testing.T) {
	f := newFixture(t)
	f.open()
	f.add(5)
	f.close()
	f.open()
	if s := f.log.Status(); s.Records != 5 || s.Spooled != 5 || s.Epoch != 1 || s.Published != 0 {
		t.Fatalf("status %+v", s)
	}
	f.run()
	f.wait(f.add(1).Index)
	f.close()
	f.open()
	if s := f.log.Status(); s.Records != 6 || s.Spooled != 0 || s.Published != 6 || s.Branch != "audit/2026" {
		t.Fatalf("status %+v", s)
	}
	f.verified(6)
}

func TestSameHappeningIsOneRecord(t *testing.T) {
	f := newFixture(t)
	f.open()
	first := f.add(1)
	again := func(state string) {
		t.Helper()
		d := applyDraft(0)
		d.Predicate = "another outcome"
		r, err := f.log.record(t.Context(), d)
		if err != nil || r.Index != first.Index || r.ID != first.ID || !r.Time.Equal(first.Time) {
			t.Errorf("%s: %+v, %v", state, r, err)
		}
	}
	again("spooled")
	f.run()
	f.wait(first.Index)
	again("published")
	f.close()
	f.open()
	again("after a restart")
	f.close()
	f.o.Dir += "-new"
	f.open()
	again("in a new epoch")
	if s := f.log.Status(); s.Records != 1 {
		t.Errorf("status %+v", s)
	}
	if r, err := f.log.record(t.Context(), Draft{Type: "apply", Environment: "north-dev", Deployment: 1, Key: []string{"apply", "0"}}); err != nil || r.Index != 1 {
		t.Errorf("other deployment: %+v, %v", r, err)
	}
}

func TestEventIDsDoNotCollide(t *testing.T) {
	seen := map[recordID]bool{}
	for _, id := range []recordID{
		eventID("a", "b", 1, []string{"c"}), eventID("a", "b", 1, []string{"c", ""}), eventID("a", "b", 1, nil),
		eventID("a", "", 1, []string{"b", "c"}), eventID("ab", "", 1, []string{"c"}), eventID("a", "b", 11, []string{"c"}),
		eventID("a", "b", 1, []string{"c,1:d"}), eventID("a", "b", 1, []string{"c", "d"}),
	} {
		if seen[id] {
			t.Errorf("%s appears twice", id)
		}
		seen[id] = true
	}
}

func TestReplay(t *testing.T) {
	f := newFixture(t)
	f.run()
	f.wait(f.add(7).Index)
	f.stop()
	f.add(3)
	got := f.records()
	if len(got) != 10 {
		t.Fatalf("%d records, want 10", len(got))
	}
	for i, r := range got {
		if r.Index != uint64(i) || r.Deployment != i || r.Type != "apply" || r.Environment != "north-dev" {
			t.Errorf("record %d: %+v", i, r)
		}
	}
	var body struct{ HTML string }
	if err := json.Unmarshal(got[9].Predicate, &body); err != nil || body.HTML != "<&>" {
		t.Errorf("%+v %v", body, err)
	}
	stop := errors.New("enough")
	if err := f.log.Replay(func(Record) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("replay: %v", err)
	}
}

func TestKeptAndBlobs(t *testing.T) {
	f := newFixture(t)
	f.open()
	ref := "refs/purser/keep/north-dev/approved"
	if _, err := f.log.Kept(ref); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("kept before anything: %v", err)
	}
	put := func(n int) Record {
		d := applyDraft(n)
		d.Blobs = []Blob{{Name: "diff", Data: []byte{byte(n)}}, {Name: "same", Data: []byte("same")}}
		d.Keep = []Keep{{Ref: ref, Files: map[string][]byte{"n": {byte(n)}}}}
		r, err := f.log.record(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	kept := func(state string, n byte) {
		t.Helper()
		files, err := f.log.Kept(ref)
		if err != nil || len(files) != 1 || files["n"][0] != n {
			t.Errorf("%s: kept %v, %v", state, files, err)
		}
	}
	var written []Record
	put(1)
	kept("spooled", 1)
	written = append(written, put(2))
	kept("moved", 2)
	f.run()
	f.wait(written[0].Index)
	kept("published", 2)
	written = append(written, put(3))
	f.wait(written[1].Index)
	kept("published again", 3)
	f.close()
	if report := f.verified(3); report.Blobs.Present != 6 {
		t.Errorf("%+v", report.Blobs)
	}
	for _, r := range written {
		if data, err := ReadBlob(f.bare, r.Blobs[0]); err != nil || len(data) != 1 || int(data[0]) != r.Deployment {
			t.Errorf("blob %v, %v", data, err)
		}
	}
	f.o.Dir += "-new"
	f.open()
	kept("fetched", 3)
	f.close()

	git(t, f.bare, "update-ref", "-d", "refs/purser/blobs/2026-03")
	git(t, f.bare, "reflog", "expire", "--expire=now", "--all")
	git(t, f.bare, "gc", "-q", "--prune=now")
	f.run()
	r, err := f.log.record(t.Context(), applyDraft(1000))
	if err != nil {
		t.Fatal(err)
	}
	f.wait(r.Index)
	f.close()
	if _, err := ReadBlob(f.bare, written[0].Blobs[0]); !errors.Is(err, ErrErased) {
		t.Errorf("an erased blob: %v", err)
	}
	if report := f.verified(4); report.Blobs.Erased != 6 || report.Blobs.Present != 0 {
		t.Errorf("%+v", report.Blobs)
	}
}

func TestClockMovesBack(t *testing.T) {
	f := newFixture(t)
	now := day
	f.o.Now = func() time.Time { return now }
	f.run()
	f.wait(f.add(1).Index)
	now = day.AddDate(-1, 0, 0)
	f.wait(f.add(1).Index)
	got := f.records()
	if !got[1].Time.Equal(now) || got[1].Index != 1 || got[1].Branch != "audit/2026" {
		t.Errorf("record %+v", got[1])
	}
	f.close()
	f.verified(2)
}

func TestYearTurns(t *testing.T) {
	f := newFixture(t)
	now := day
	f.o.Now = func() time.Time { return now }
	large := `{"live":"` + strings.Repeat("x", 4<<20) + `"}` // of a thousand environments
	f.o.State = func() (json.RawMessage, error) { return json.RawMessage(large), nil }
	f.run()
	f.wait(f.add(3).Index)
	f.stop()
	f.add(2) // spooled across the turn
	now = day.AddDate(1, 0, 0)
	last := f.add(2)
	if last.Index != 7 || last.Seq != 2 || last.Branch != "audit/2027" {
		t.Fatalf("record %+v", last)
	}
	now = day // the clock moves back: the year does not
	last = f.add(1)
	f.close()
	f.run() // with both years in the spool
	f.wait(last.Index)
	f.stop()
	got := f.records()
	if len(got) != 9 {
		t.Fatalf("%d records", len(got))
	}
	state := got[5]
	if state.Type != TypeState || state.Previous == nil || state.Previous.Records != 5 || state.Previous.Branch != "audit/2026" || state.Seq != 0 {
		t.Fatalf("state record %+v", state)
	}
	var body State
	if err := json.Unmarshal(state.Predicate, &body); err != nil || string(body.State) != large {
		t.Errorf("body of %d bytes, %v", len(body.State), err)
	}
	for i, r := range got {
		if r.Index != uint64(i) {
			t.Errorf("record %d has index %d", i, r.Index)
		}
	}
	f.close()
	report := f.verified(9)
	if len(report.Branches) != 2 || report.Branches[0].Records != 5 || report.Branches[1].Records != 4 {
		t.Errorf("branches %+v", report.Branches)
	}
	f.open()
	if s := f.log.Status(); s.Records != 9 || s.Published != 9 {
		t.Errorf("after restart: %+v", s)
	}
	f.close()

	f.o.Dir += "-new" // knows only the newest branch, which opens with the state
	f.run()
	got = f.records()
	if len(got) != 4 || got[0].Type != TypeState || got[0].Index != 5 {
		t.Fatalf("rebuilt from %+v", got[0])
	}
	f.wait(f.add(1).Index)
	f.close()
	f.verified(10)
}

func TestYearTurnsBeforeAnyRecord(t *testing.T) {
	f := newFixture(t)
	f.open()
	f.close()
	f.o.Now = func() time.Time { return day.AddDate(1, 0, 0) }
	f.run()
	if r := f.add(1); r.Branch != "audit/2027" || r.Index != 0 || r.Type != "apply" {
		t.Errorf("record %+v", r)
	}
	f.wait(0)
	f.close()
	f.verified(1)
}

func TestBranchTemplates(t *testing.T) {
	f := newFixture(t)
	f.o.Branch = "audit/<writer>/<year>"
	f.run()
	f.wait(f.add(1).Index)
	f.close()
	other := *f
	other.o.Dir += "-other"
	other.o.Writer = "edge"
	other.run()
	d := applyDraft(0)
	d.Blobs = []Blob{{Name: "b", Data: []byte("edge")}}
	r, err := other.log.record(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	other.wait(r.Index)
	other.close()
	if report := f.verified(2); len(report.Branches) != 2 || report.Branches[0].Branch != "audit/edge/2026" {
		t.Errorf("%+v", report.Branches)
	}
	for branch, ok := range map[string]bool{"evidence": false, "audit/hq": true, "audit/<year>/x": true, "a b": false, "audit/<year>/<year>": false, "../x": false, "-x": false, "x.lock": false} {
		if err := (branchNames{branch, "hq"}).check(); (err == nil) != ok {
			t.Errorf("%q: %v", branch, err)
		}
	}
}

func TestTwoProcessesOnOneDirectory(t *testing.T) {
	f := newFixture(t)
	f.open()
	if _, err := Open(t.Context(), f.o); !errors.Is(err, ErrLocked) {
		t.Errorf("second open: %v", err)
	}
	f.close()
	f.open()
}

func TestOpenNeedsInit(t *testing.T) {
	f := newFixture(t)
	f.o.Init = false
	_, err := Open(t.Context(), f.o)
	if !errors.Is(err, ErrNotInitialized) {
		t.Fatalf("open: %v", err)
	}
	wantStalled(t, err, "audit/<year>", "--init")
	f.o.Init = true
	f.fill(1)
	f.o.Init = false
	f.open()
}

func TestOpenRefusesNonsense(t *testing.T) {
	f := newFixture(t)
	other, _ := newKeyFile(t)
	for name, change := range map[string]func(*Options){
		"writer":  func(o *Options) { o.Writer = "a/b" },
		"key":     func(o *Options) { o.Key = nil },
		"trust":   func(o *Options) { o.Trusted = Trust(other.Public()) },
		"remote":  func(o *Options) { o.Remote.URL = "" },
		"scheme":  func(o *Options) { o.Remote.URL = "gopher://localhost/x" },
		"secret":  func(o *Options) { o.Remote.URL = "https://user:hunter2@localhost/x" },
		"no repo": func(o *Options) { o.Remote.URL = t.TempDir() },
	} {
		o := f.o
		change(&o)
		l, err := Open(t.Context(), o)
		if err == nil {
			_ = l.Close(t.Context())
			t.Errorf("%s: opened", name)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error shows a secret: %v", name, err)
		}
	}
}

func TestAddRefusesNonsense(t *testing.T) {
	f := newFixture(t)
	f.open()
	for name, change := range map[string]func(*Draft){
		"type":         func(d *Draft) { d.Type = "Apply!" },
		"environment":  func(d *Draft) { d.Environment = "../x" },
		"deployment":   func(d *Draft) { d.Deployment = -1 },
		"subject":      func(d *Draft) { d.Subjects = []Subject{{Name: "x"}} },
		"digest":       func(d *Draft) { d.Subjects = []Subject{{Name: "x", Digest: map[string]string{"sha256": "sha256:ab"}}} },
		"key text":     func(d *Draft) { d.Key = []string{"\xff"} },
		"subject text": func(d *Draft) { d.Subjects[0].Name = "\xff" },
		"algorithm":    func(d *Draft) { d.Subjects = []Subject{{Name: "x", Digest: map[string]string{"\xff": "ab"}}} },
		"blob text":    func(d *Draft) { d.Blobs = []Blob{{Name: "\xff"}} },
		"predicate":    func(d *Draft) { d.Predicate = make(chan int) },
		"large record": func(d *Draft) { d.Predicate = strings.Repeat("x", maxEnvelope) },
		"blob name":    func(d *Draft) { d.Blobs = []Blob{{}} },
		"large blob":   func(d *Draft) { d.Blobs = []Blob{{Name: "b", Data: make([]byte, maxBlob+1)}} },
		"keep ref":     func(d *Draft) { d.Keep = []Keep{{Ref: "refs/heads/main"}} },
		"keep twice":   func(d *Draft) { d.Keep = []Keep{{Ref: "refs/purser/keep/x"}, {Ref: "refs/purser/keep/x"}} },
		"keep path":    func(d *Draft) { d.Keep = []Keep{{Ref: "refs/purser/keep/x", Files: map[string][]byte{"../x": nil}}} },
		"keep clash": func(d *Draft) {
			d.Keep = []Keep{{Ref: "refs/purser/keep/x", Files: map[string][]byte{"a": nil, "a/b": nil}}}
		},
	} {
		d := applyDraft(1)
		change(&d)
		if r, err := f.log.Add(d); err == nil {
			t.Errorf("%s: added %+v", name, r)
		}
	}
	if s := f.log.Status(); s.Records != 0 || s.Spooled != 0 {
		t.Errorf("status %+v", s)
	}
	if err := f.log.Published(t.Context(), 0); err == nil {
		t.Error("a record that does not exist was published")
	}
}

// What Add returns is not read back from what it wrote; it must be the same.
func TestAddedIsWhatReadersSee(t *testing.T) {
	f := newFixture(t)
	f.o.Now = time.Now
	f.o.State = func() (json.RawMessage, error) { return json.RawMessage(" {\n\"a\": [1, 2]} "), nil }
	f.open()
	var want []Record
	for i, change := range []func(*Draft){
		func(*Draft) {},
		func(d *Draft) { d.Key = nil },
		func(d *Draft) { d.Key = []string{"", "\u2028<&>\"\\\x00\x7f", "ü€😀"} },
		func(d *Draft) { d.Environment, d.Deployment = "", 0 },
		func(d *Draft) { d.Subjects = nil },
		func(d *Draft) {
			d.Subjects = append(d.Subjects, Subject{Name: "\t<", Digest: map[string]string{"sha1": "00", "sha512": "ff"}})
		},
		func(d *Draft) { d.Predicate = nil },
		func(d *Draft) { d.Predicate = "bad \xff text, \u2029" },
		func(d *Draft) { d.Predicate = json.RawMessage(" { \"a\" : [ 1.50 , 1e400, \"\\u003c\xff\" ] } ") },
		func(d *Draft) { d.Predicate = map[string]any{"f": 1e21, "n": nil, "t": time.Unix(0, 1).UTC()} },
		func(d *Draft) { d.Blobs = []Blob{{Name: "<ü>", Data: nil}, {Name: "b", Data: []byte{0, 1, 2}}} },
		func(d *Draft) {
			d.Keep = []Keep{{Ref: "refs/purser/keep/a/live", Files: map[string][]byte{"a/b": {1}, "c": nil}}, {Ref: "refs/purser/keep/b"}}
		},
	} {
		d := applyDraft(i)
		change(&d)
		r, err := f.log.Add(d)
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		want = append(want, r)
	}
	check := func(state string) {
		t.Helper()
		got := f.records()
		if len(got) != len(want) {
			t.Fatalf("%s: %d records, want %d", state, len(got), len(want))
		}
		for i, r := range got {
			if !reflect.DeepEqual(r, want[i]) {
				t.Errorf("%s: read\n%+v, added\n%+v", state, r, want[i])
			}
		}
	}
	check("spooled")
	f.run()
	f.wait(uint64(len(want) - 1))
	check("published")
	f.close()
	f.open()
	check("after a restart")
	f.close()
	f.o.Dir += "-new"
	f.open()
	check("fetched")
	f.verified(len(want))
}

// Replay finds a changed byte in the files of this machine before it passes any
// record, by the checkpoint.
func TestReplayFindsDamage(t *testing.T) {
	f := newFixture(t)
	f.fill(40)
	path := filepath.Join(f.o.Dir, "records/audit/2026/00000.jsonl")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(data, []byte("\n"))
	for name, change := range map[string]func([][]byte){
		"payload":   func(l [][]byte) { l[39][200] ^= 1 },
		"signature": func(l [][]byte) { l[39][len(l[39])-20] ^= 1 },
		"order":     func(l [][]byte) { l[3], l[4] = l[4], l[3] },
	} {
		changed := make([][]byte, len(lines))
		for i, line := range lines {
			changed[i] = bytes.Clone(line)
		}
		change(changed)
		if err := os.WriteFile(path, bytes.Join(changed, nil), 0o600); err != nil {
			t.Fatal(err)
		}
		f.open()
		n := 0
		wantStalled(t, f.log.Replay(func(Record) error { n++; return nil }), "records")
		if n > 0 {
			t.Errorf("%s: %d records were passed", name, n)
		}
		f.close()
	}
}

func TestConcurrentWriters(t *testing.T) {
	f := newFixture(t)
	f.run()
	const writers, each = 4, 50
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				r, err := f.log.record(t.Context(), applyDraft(w*each+i))
				if err == nil && i%10 == 9 {
					err = f.log.Published(t.Context(), r.Index)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		for range 20 {
			if err := f.log.Replay(func(Record) error { return nil }); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	f.wait(writers*each - 1)
	f.close()
	f.verified(writers * each)
}

func TestCloseFlushes(t *testing.T) {
	f := newFixture(t)
	l := f.run()
	f.wait(f.add(1).Index)
	f.add(20)
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.record(t.Context(), applyDraft(99)); !errors.Is(err, ErrClosed) {
		t.Errorf("append after close: %v", err)
	}
	if err := l.Run(t.Context()); err != nil {
		t.Errorf("run after close: %v", err)
	}
	f.verified(21)
}

func TestCloseGivesUp(t *testing.T) {
	f := newFixture(t)
	s := serve(t, filepath.Dir(f.bare))
	f.o.Remote.URL = s.URL + "/audit.git"
	l := f.run()
	f.wait(f.add(1).Index)
	s.down.Store(true)
	r := f.add(2)
	waiting := make(chan error)
	go func() { waiting <- l.Published(context.Background(), r.Index) }()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := l.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("close: %v", err)
	}
	if err := <-waiting; !errors.Is(err, ErrClosed) {
		t.Errorf("published: %v", err)
	}
	f.stop()
	s.down.Store(false)
	f.log = nil
	f.run()
	f.wait(r.Index)
	f.close()
	f.verified(3)
}

func TestMetrics(t *testing.T) {
	f := newFixture(t)
	reg := prometheus.NewRegistry()
	f.o.Registerer = reg
	f.open()
	f.add(2)
	want := `
# HELP purser_evidence_spool_records Records that the audit remote does not have yet.
# TYPE purser_evidence_spool_records gauge
purser_evidence_spool_records 2
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "purser_evidence_spool_records"); err != nil {
		t.Error(err)
	}
	f.run()
	f.wait(1)
	want = `
# HELP purser_evidence_last_publish_timestamp_seconds When records were last seen on the audit remote; 0 before the first.
# TYPE purser_evidence_last_publish_timestamp_seconds gauge
purser_evidence_last_publish_timestamp_seconds 1.772600767e+09
# HELP purser_evidence_publish_failures_total Failed attempts to publish evidence.
# TYPE purser_evidence_publish_failures_total counter
purser_evidence_publish_failures_total 0
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "purser_evidence_last_publish_timestamp_seconds", "purser_evidence_publish_failures_total"); err != nil {
		t.Error(err)
	}
	f.close()
	f.open() // registers again
}
