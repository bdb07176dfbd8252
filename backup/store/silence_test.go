package store_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/purser-gitops/purser/backup/store"
	"github.com/purser-gitops/purser/backup/store/storetest"
	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
)

// lines are what was logged.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// impatient has a client give up within seconds.
func impatient(o store.S3Options, endpoint string) (store.S3Options, *lines) {
	log := &lines{}
	o.Endpoint, o.Stall, o.Silence, o.Backoff, o.Name = endpoint, 300*time.Millisecond, 800*time.Millisecond, 20*time.Millisecond, "main"
	o.Log = slog.New(slog.NewTextHandler(log, nil))
	return o, log
}

// unanswered checks an error of a store that is silent.
func unanswered(t *testing.T, what string, err error, log *lines, awaited string) {
	t.Helper()
	if !errors.Is(err, store.ErrUnanswered) {
		t.Errorf("%s: %v", what, err)
		return
	}
	for _, want := range []string{`"main" at https://`, "was silent for 900ms", awaited} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v: want %q", what, err, want)
		}
	}
	if strings.Count(log.String(), "a store is silent") < 3 || !strings.Contains(log.String(), "givenUp=true") {
		t.Errorf("%s: the log says %q", what, log)
	}
}

// A server that is not there: whoever waits for no longer hears that, and not of their own haste.
func TestStoreThatIsNotThere(t *testing.T) {
	t.Parallel()
	l := labtest.Shared(t, lab.S3)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	o, _ := impatient(s3Options(l, labtest.Bucket(t, l), lab.S3Writer), "https://"+listener.Addr().String())
	o.Attempts, o.Backoff = 1000, time.Hour
	s := openS3(t, o)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := s.Probe(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("a store that is not there: %v", err)
	}
}

// A server that takes connections and says nothing, not even to TLS.
func TestStoreThatTakesConnectionsAlone(t *testing.T) {
	t.Parallel()
	l := labtest.Shared(t, lab.S3)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() // connections that wait to be accepted go with it
	o, log := impatient(s3Options(l, labtest.Bucket(t, l), lab.S3Writer), "https://"+listener.Addr().String())
	s := openS3(t, o)
	_, err = s.Now(t.Context())
	unanswered(t, "Now", err, log, "awaited was a connection for HEAD /")
}

// Every call of a store that takes requests and does not answer ends in time, and says what it awaited.
func TestSilentStore(t *testing.T) {
	t.Parallel()
	l := labtest.Shared(t, lab.S3)
	bucket := labtest.Bucket(t, l)
	direct := openS3(t, s3Options(l, bucket, lab.S3Writer))
	lock := store.Lock{Mode: store.Governance, Until: time.Now().Add(time.Hour)}
	there, err := direct.Create(t.Context(), "dev/there", strings.NewReader("content"), lock)
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := l.S3Proxy(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := proxy.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := proxy.Set(lab.Fault{Mode: lab.Hang}); err != nil {
		t.Fatal(err)
	}
	large := storetest.Content(2*testPart, 7)
	for what, do := range map[string]func(context.Context, *store.S3) error{
		"Create": func(ctx context.Context, s *store.S3) error {
			_, err := s.Create(ctx, "dev/new", strings.NewReader("content"), lock)
			return err
		},
		"Create of parts": func(ctx context.Context, s *store.S3) error {
			_, err := s.Create(ctx, "dev/large", bytes.NewReader(large), lock)
			return err
		},
		"Open":   func(ctx context.Context, s *store.S3) error { _, err := s.Open(ctx, there); return err },
		"Stat":   func(ctx context.Context, s *store.S3) error { _, err := s.Stat(ctx, there); return err },
		"Delete": func(ctx context.Context, s *store.S3) error { return s.Delete(ctx, there) },
		"Probe":  func(ctx context.Context, s *store.S3) error { return s.Probe(ctx) },
		"Now":    func(ctx context.Context, s *store.S3) error { _, err := s.Now(ctx); return err },
		"Abandoned": func(ctx context.Context, s *store.S3) error {
			_, err := s.Abandoned(ctx, "dev/", time.Hour)
			return err
		},
		"Extend": func(ctx context.Context, s *store.S3) error {
			_, err := s.Extend(ctx, there, time.Now().Add(2*time.Hour))
			return err
		},
		"List": func(ctx context.Context, s *store.S3) error {
			for _, err := range s.List(ctx, "dev/") {
				return err
			}
			return nil
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			o, log := impatient(s3Options(l, bucket, lab.S3Writer), proxy.URL)
			unanswered(t, what, do(t.Context(), openS3(t, o)), log, "awaited was the answer to ")
		})
	}
}

// A download that stands still in the middle ends in time; one that only does so for a moment goes on.
func TestStoreSilentInTheMiddle(t *testing.T) {
	t.Parallel()
	l := labtest.Shared(t, lab.S3)
	bucket := labtest.Bucket(t, l)
	content := storetest.Content(15<<20, 3) // more than fits between the store and its reader
	whole, err := openS3(t, s3Options(l, bucket, lab.S3Writer)).Create(t.Context(), "dev/whole", bytes.NewReader(content), store.Lock{})
	if err != nil {
		t.Fatal(err)
	}
	for name, heals := range map[string]bool{"for good": false, "for a moment": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy, err := l.S3Proxy(nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := proxy.Close(); err != nil {
					t.Error(err)
				}
			}()
			o, log := impatient(s3Options(l, bucket, lab.S3Writer), proxy.URL)
			if heals {
				o.Silence = time.Minute
			}
			in, err := openS3(t, o).Open(t.Context(), whole)
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			if _, err := io.ReadFull(in, make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
			hang := lab.Fault{Mode: lab.Hang, Match: func(r *http.Request) bool { return r.Method == http.MethodGet }}
			if err := proxy.Set(hang); err != nil {
				t.Fatal(err)
			}
			if heals {
				go func() {
					for !strings.Contains(log.String(), "the rest of the answer") && t.Context().Err() == nil {
						time.Sleep(10 * time.Millisecond)
					}
					if err := proxy.Clear(); err != nil && t.Context().Err() == nil {
						t.Error(err)
					}
				}()
			}
			rest, err := io.ReadAll(in)
			if heals {
				if err != nil || !bytes.Equal(rest, content[1000:]) {
					t.Errorf("%d bytes, %v", len(rest), err)
				}
				return
			}
			unanswered(t, "Read", err, log, "dev/whole")
			if !strings.Contains(log.String(), "the rest of the answer to GET ") {
				t.Errorf("the log says %q", log)
			}
		})
	}
}
