package backup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/purser-gitops/purser/backup/filestore"
	"github.com/purser-gitops/purser/backup/store"
	"github.com/purser-gitops/purser/examples/lab"
)

var (
	faultRounds = flag.Int("take-faults", 15, "faults of stores under which backups are made; every fifth one kills the process")
	sellRounds  = flag.Int("take-rounds", 2, "backups under live shops that are restored and compared")
)

// faultAt makes up a fault and at which request it begins; the same for the same number.
func faultAt(number int) (name string, fault lab.Fault, at int64, settings int) {
	rng := rand.New(rand.NewPCG(20261123, uint64(number)))
	modes := []lab.Fault{
		{Mode: lab.CutBefore}, {Mode: lab.CutAfter}, {Mode: lab.CutAfter, Bytes: 1 + rng.Int64N(200)}, {Mode: lab.CutDuring, Bytes: rng.Int64N(20_000)},
		{Mode: lab.Answer, Status: 503}, {Mode: lab.Answer, Status: 500}, {Mode: lab.Answer, Status: 429, RetryAfter: time.Second},
		{Mode: lab.Answer, Status: 403}, {Mode: lab.Slow, Delay: 5 * time.Millisecond, Bytes: 256 << 10}, {Mode: lab.Hang}, {Mode: lab.Refuse},
	}
	fault = modes[rng.IntN(len(modes))]
	fault.Times = []int{1, 1, 2, 3, 100}[rng.IntN(5)] // with the last one the writer gives up
	if fault.Mode == lab.Hang {
		fault.Times = 1 + rng.IntN(2)
	}
	at = rng.Int64N(22)
	settings = 1000
	if rng.IntN(3) == 0 { // several parts
		settings, at = 17<<20, rng.Int64N(26)
	}
	return fmt.Sprintf("%03d-mode%d-%d-times%d-at%d-settings%d", number, fault.Mode, fault.Status, fault.Times, at, settings), fault, at, settings
}

// Whatever happens between a store and whoever makes a backup: what is listed as a backup is whole, and the next one succeeds.
func TestTakeUnderFaults(t *testing.T) {
	t.Parallel()
	s := openShop(t, 60)
	var concerned atomic.Int64
	slots := make(chan struct{}, 3)
	t.Run("faults", func(t *testing.T) {
		for number := range *faultRounds {
			name, fault, at, settings := faultAt(number)
			if number%5 == 4 {
				name = fmt.Sprintf("%03d-killed-settings%d", number, settings)
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				slots <- struct{}{}
				defer func() { <-slots }()
				mine := *s // with an environment of its own
				o := &mine.options
				o.Environment, o.Scratch, o.PackBytes = fmt.Sprintf("qa-%03d", number), t.TempDir(), 48<<10
				o.Settings = make([]byte, settings)
				rng := rand.NewChaCha8([32]byte{byte(number)})
				_, _ = rng.Read(o.Settings)
				var ref *store.Object
				var err error
				if number%5 == 4 {
					mine.killed(t, time.Duration(rand.New(rand.NewPCG(1, uint64(number))).Int64N(int64(700*time.Millisecond))))
					concerned.Add(1)
				} else {
					var hit bool
					if ref, hit, err = mine.faulty(t, fault, at); hit {
						concerned.Add(1)
					}
				}
				mine.survived(t, ref, err)
			})
		}
	})
	if n := concerned.Load(); n < int64(*faultRounds)*3/4 {
		t.Errorf("only %d of %d faults concerned a request", n, *faultRounds)
	}
}

// faulty makes a backup through a proxy that misbehaves from a request on.
func (s *shop) faulty(t *testing.T, fault lab.Fault, at int64) (ref *store.Object, hit bool, err error) {
	t.Helper()
	var proxy *lab.Proxy
	var requests atomic.Int64
	proxy, err = s.lab.S3Proxy(func(*http.Request) {
		if requests.Add(1) == at+1 {
			if err := proxy.Set(fault); err != nil {
				t.Error(err)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := proxy.Close(); err != nil {
			t.Error(err)
		}
	}()
	o := s.s3Options(proxy.URL, lab.S3Writer)
	o.Attempts, o.Stall, o.Backoff = 5, 2*time.Second, 20*time.Millisecond
	through, err := store.NewS3(o)
	if err != nil {
		t.Fatal(err)
	}
	defer through.Close()
	taken, err := Take(t.Context(), through, s.options)
	if err == nil {
		ref = &taken.Ref
	}
	return ref, requests.Load() > at, err
}

// survived checks what a backup has left that ended with an error or nil, and makes the next one.
func (s *shop) survived(t *testing.T, ref *store.Object, failed error) {
	t.Helper()
	l := s.listed(t)
	switch {
	case len(l.Backups) > 1 || ref != nil && len(l.Backups) != 1:
		t.Errorf("after %v, %d backups are listed", failed, len(l.Backups))
	case ref != nil && l.Backups[0].Ref.Version != ref.Version:
		t.Errorf("version %s is listed, not %s", l.Backups[0].Ref.Version, ref.Version)
	case failed != nil && len(l.Backups) == 1:
		t.Logf("the answer to the manifest got lost: %v", failed)
	}
	s.whole(t, l)
	if _, err := Take(t.Context(), s.s3, s.options); err != nil {
		t.Fatalf("the next backup: %v", err)
	}
	after := s.listed(t)
	if len(after.Backups) != len(l.Backups)+1 || len(after.Halves) != len(l.Halves) {
		t.Errorf("%d backups and %d halves, before %d and %d", len(after.Backups), len(after.Halves), len(l.Backups), len(l.Halves))
	}
	s.whole(t, after)
}

// whole reads all that belongs to listed backups.
func (s *shop) whole(t testing.TB, l Listing) {
	t.Helper()
	for f, err := range l.Read(t.Context(), s.s3) {
		if err != nil || f.Problem != nil {
			t.Fatalf("%s: %v, %v", f.ID, err, f.Problem)
		}
		for _, e := range f.Manifest.Entries() {
			if _, err := s.s3.Stat(t.Context(), e.Object); err != nil {
				t.Error(err)
			}
			s.through(t, e, func(r io.Reader) error {
				n, err := io.Copy(io.Discard, r)
				if n != e.PlainBytes {
					t.Errorf("%s has %d bytes, not %d", e.Key, n, e.PlainBytes)
				}
				return err
			})
		}
		s.through(t, f.Manifest.Streams.Attachments, func(r io.Reader) error {
			held, err := filestore.Verify(t.Context(), t.TempDir(), r, packsOf{s, f.Manifest})
			if held.Contents != f.Manifest.Filestore.Index.Contents.Contents {
				t.Errorf("%s: packs hold %d contents of %d", f.ID, held.Contents, f.Manifest.Filestore.Index.Contents.Contents)
			}
			return err
		})
	}
}

// envChild makes the test binary a process that does one thing, told by its standard input.
const envChild = "PURSER_BACKUP_TEST_CHILD"

type takeTask struct {
	Endpoint, Bucket, Prefix, Credentials, CA string

	Environment, Filestore, Scratch string
	Host, User, Database, Password  string
	Port                            int
	Recipients                      []string
	Settings                        []byte
	Lock                            store.Lock
	PackBytes                       int64
}

// takeChild makes a backup. It says when it begins.
func takeChild() error {
	var p takeTask
	if err := json.NewDecoder(os.Stdin).Decode(&p); err != nil {
		return err
	}
	s, err := store.NewS3(store.S3Options{Endpoint: p.Endpoint, Region: lab.S3Region, Bucket: p.Bucket, Prefix: p.Prefix, Credentials: p.Credentials, CA: p.CA})
	if err != nil {
		return err
	}
	o := TakeOptions{
		Environment: p.Environment, Policy: "nightly", Store: "primary", Configuration: Configuration{Commit: strings.Repeat("c", 40)},
		Settings: p.Settings, SettingsType: "application/octet-stream", Filestore: p.Filestore, Scratch: p.Scratch,
		Recipients: p.Recipients, Lock: p.Lock, PackBytes: p.PackBytes,
	}
	o.Connection.Host, o.Connection.Port, o.Connection.User, o.Connection.Database = p.Host, p.Port, p.User, p.Database
	o.Connection.PasswordFile, o.Connection.TLS = p.Password, "disable"
	fmt.Println("begins")
	_, err = Take(context.Background(), s, o)
	return err
}

// killed kills a process that makes a backup, so long after its beginning.
func (s *shop) killed(t *testing.T, after time.Duration) {
	t.Helper()
	o, c, to := s.options, s.options.Connection, s.s3Options(s.lab.S3URL, lab.S3Writer)
	killChild(t, "take", takeTask{
		Endpoint: to.Endpoint, Bucket: to.Bucket, Prefix: to.Prefix, Credentials: to.Credentials, CA: to.CA,
		Environment: o.Environment, Filestore: o.Filestore, Scratch: o.Scratch, Host: c.Host, Port: c.Port, User: c.User, Database: c.Database,
		Password: c.PasswordFile, Recipients: o.Recipients, Settings: o.Settings, Lock: o.Lock, PackBytes: o.PackBytes,
	}, after)
}

// killChild starts a process that does something, and kills it so long after it has begun.
func killChild(t *testing.T, what string, task any, after time.Duration) {
	t.Helper()
	told, err := json.Marshal(task)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), envChild+"="+what)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(told), os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("begins\n"))); err != nil {
		t.Fatal(errors.Join(err, cmd.Wait()))
	}
	timer := time.NewTimer(after)
	defer timer.Stop()
	<-timer.C
	if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	err = cmd.Wait()
	t.Logf("killed after %s: %v", after, err)
}

// Backups under live shops: each has what the snapshot had, and the file of every attachment.
func TestTakeUnderLiveShops(t *testing.T) {
	t.Parallel()
	s := openShop(t, 200)
	s.sell(t)
	var previous *Taken
	for range *sellRounds {
		taken := s.take(t, previous)
		if n := taken.Problems.Count(); n > 0 {
			t.Errorf("%s lacks %d contents: %s", taken.Manifest.ID, n, taken.Problems)
		}
		s.restore(t, taken)
		previous = &taken
	}
}
