package backup

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/purser-gitops/purser/backup/postgres"
	"github.com/purser-gitops/purser/backup/store"
	"github.com/purser-gitops/purser/examples/lab"
)

// impatient has the clients of servers give up within a second or two.
const impatient = time.Second

// A database that stands still in the middle of a backup ends it in time: the error names the segment, and for how long. The
// next backup, or that of another environment, is not concerned.
func TestTakeFromDatabaseThatHangs(t *testing.T) {
	t.Parallel()
	s := openShop(t, 20)
	mark(t, s.DSN, `CREATE TABLE ballast AS SELECT repeat(md5(n::text), 1000) AS text FROM generate_series(1, 1000) AS n`)
	c := s.options.Connection
	g, err := lab.NewGate(net.JoinHostPort(c.Host, strconv.Itoa(c.Port)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	}()
	o := s.options
	_, port, err := net.SplitHostPort(g.Address)
	if err != nil {
		t.Fatal(err)
	}
	if o.Connection.Port, err = strconv.Atoi(port); err != nil {
		t.Fatal(err)
	}
	o.Snapshot.Stall = impatient
	shut := between{s.s3, func(_ context.Context, key string) error {
		if strings.HasSuffix(key, DatabaseName) {
			g.Shut()
		}
		return nil
	}}
	_, err = Take(t.Context(), shut, o)
	if !errors.Is(err, postgres.ErrStalled) || !strings.Contains(err.Error(), "in segment database: ") || !strings.Contains(err.Error(), "nothing has moved for 1s") {
		t.Errorf("got %v", err)
	}
	s.take(t, nil)
}

// unanswered is a store that answers until something is done with an object whose key contains a text.
func (s *shop) unanswered(t *testing.T, method, text string) *store.S3 {
	t.Helper()
	var proxy *lab.Proxy
	proxy, err := s.lab.S3Proxy(func(r *http.Request) {
		if r.Method == method && strings.Contains(r.URL.Path, text) {
			if err := proxy.Set(lab.Fault{Mode: lab.Hang}); err != nil {
				t.Error(err)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := proxy.Close(); err != nil {
			t.Error(err)
		}
	})
	o := s.s3Options(proxy.URL, lab.S3Writer)
	o.Name, o.Stall, o.Silence = "main", impatient/2, impatient
	opened, err := store.NewS3(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := opened.Close(); err != nil {
			t.Error(err)
		}
	})
	return opened
}

// A store that stops answering ends whatever is done with it, in time and with one error that names it and what was awaited.
func TestStoreThatStopsAnswering(t *testing.T) {
	t.Parallel()
	s := openShop(t, 20)
	taken := s.take(t, nil)
	stored := func(in examiner) Stored {
		return Stored{Store: in, Environment: s.options.Environment, ID: taken.Manifest.ID, Manifest: taken.Ref, Identities: s.options.Identities}
	}
	for what, c := range map[string]struct {
		method, key, segment string
		do                   func(ctx context.Context, in *store.S3) error
	}{
		"backup, asked first": {http.MethodPost, "probe-", SegmentPrepare, func(ctx context.Context, in *store.S3) error {
			_, err := Take(ctx, in, s.options)
			return err
		}},
		"backup": {http.MethodPut, DatabaseName, SegmentDatabase, func(ctx context.Context, in *store.S3) error {
			_, err := Take(ctx, in, s.options)
			return err
		}},
		"manifest": {http.MethodPut, "manifest", SegmentFinish, func(ctx context.Context, in *store.S3) error {
			_, err := Take(ctx, in, s.options)
			return err
		}},
		"L0": {http.MethodHead, RolesName, SegmentObjects, func(ctx context.Context, in *store.S3) error {
			v, err := Verify(ctx, stored(in), L0, proofOptions(t))
			if len(v.Findings.Findings) > 0 || v.Unfinished == "" {
				t.Errorf("%+v", v)
			}
			return err
		}},
		"L1": {http.MethodGet, DatabaseName, "", func(ctx context.Context, in *store.S3) error {
			v, err := Verify(ctx, stored(in), L1, proofOptions(t))
			if len(v.Findings.Findings) > 0 || v.Unfinished == "" {
				t.Errorf("%+v", v)
			}
			return err
		}},
		"replication": {http.MethodGet, DatabaseName, SegmentCopy, func(ctx context.Context, in *store.S3) error {
			_, err := Replicate(ctx, stored(in), openBucket(t), ReplicateOptions{Store: "offsite", Lock: s.options.Lock})
			return err
		}},
		"drill": {http.MethodGet, DatabaseName, SegmentDatabase, func(ctx context.Context, in *store.S3) error {
			from := DrillSource{Store: in, Environment: s.options.Environment, Identities: s.options.Identities,
				Records: []Record{{ID: taken.Manifest.ID, Manifest: taken.Ref, Verified: time.Now()}}}
			c := s.options.Connection
			r, err := Drill(ctx, from, DrillOptions{ProofOptions: proofOptions(t), Sources: []Address{{c.Host, c.Port}}})
			if r.Unfinished == "" || r.Teardown.Took == 0 {
				t.Errorf("%+v", r)
			}
			return err
		}},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			err := c.do(t.Context(), s.unanswered(t, c.method, c.key))
			if !errors.Is(err, store.ErrUnanswered) {
				t.Fatal(err)
			}
			for _, want := range []string{"in segment " + c.segment, `"main" at https://`, "was silent for 1s", "awaited was "} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v: want %q", err, want)
				}
			}
		})
	}
}
