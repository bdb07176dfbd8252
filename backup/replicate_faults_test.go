package backup

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/purser-gitops/purser/backup/store"
	"github.com/purser-gitops/purser/backup/store/storetest"
	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
)

var replicateRounds = flag.Int("replicate-faults", 10, "faults of stores under which backups are replicated; every fifth one kills the process")

// finishLarge stores a backup whose packs have so many bytes each.
func finishLarge(t testing.TB, b backend, environment string, packs, size int) (*Manifest, store.Object) {
	t.Helper()
	m := put(t, b, environment, time.Now().UTC(), hourLock())
	for i := range packs {
		name := fmt.Sprintf("2026-11/p%d", i)
		made, err := b.Create(bound(t), PackKey(environment, name), bytes.NewReader(storetest.Content(size, byte(i))), hourLock())
		if err != nil {
			t.Fatal(err)
		}
		m.Packs = append(m.Packs, Entry{Object: made, PlainSHA256: m.Streams.Roles.PlainSHA256, PlainBytes: 1, ContentType: packType})
		m.Filestore.Index.Packs = append(m.Filestore.Index.Packs, name)
	}
	ref, err := Write(bound(t), b, m, hourLock())
	if err != nil {
		t.Fatal(err)
	}
	return m, ref
}

// Whatever happens on the way from store to store: what is listed as a replica is whole, and the next attempt completes it.
func TestReplicateUnderFaults(t *testing.T) {
	t.Parallel()
	l := labtest.Shared(t, lab.S3)
	from, to := openBucket(t), openBucket(t)
	var concerned atomic.Int64
	slots := make(chan struct{}, 3)
	t.Run("faults", func(t *testing.T) {
		for number := range *replicateRounds {
			name, fault, at, size := faultAt(number)
			reads := number%2 == 1 // the fault is on the way from the backup
			if reads {
				at %= 8
			}
			if number%5 == 4 {
				name = fmt.Sprintf("%03d-killed", number)
			}
			t.Run(fmt.Sprintf("%s-reads=%t", name, reads), func(t *testing.T) {
				t.Parallel()
				slots <- struct{}{}
				defer func() { <-slots }()
				environment := fmt.Sprintf("qa-%03d", number)
				o := replicaOptions()
				var made *Replicated
				var err error
				var m *Manifest
				var ref store.Object
				if number%5 == 4 {
					m, ref = finishLarge(t, from, environment, 4, 5<<20)
					after := time.Duration(rand.New(rand.NewPCG(3, uint64(number))).Int64N(int64(200 * time.Millisecond)))
					killChild(t, "replicate", replicateTask{childStore(from), childStore(to), environment, m.ID, ref, o.Store, o.Lock}, after)
					concerned.Add(1)
				} else {
					m, ref = finishLarge(t, from, environment, 2, size)
					hit := false
					made, hit, err = replicateThrough(t, l, from, to, reads, fault, at, m, ref, o)
					if hit {
						concerned.Add(1)
					}
				}
				replicaSurvived(t, from, to, m, ref, made, err)
			})
		}
	})
	if n := concerned.Load(); n < int64(*replicateRounds)*3/4 {
		t.Errorf("only %d of %d faults concerned a request", n, *replicateRounds)
	}
}

// replicateThrough replicates with a proxy before one of the stores that misbehaves from a request on.
func replicateThrough(t *testing.T, l *lab.Endpoints, from, to backend, reads bool, fault lab.Fault, at int64, m *Manifest, ref store.Object, o ReplicateOptions) (_ *Replicated, hit bool, err error) {
	t.Helper()
	var proxy *lab.Proxy
	var requests atomic.Int64
	proxy, err = l.S3Proxy(func(*http.Request) {
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
	settings := to.options
	if reads {
		settings = from.options
	}
	settings.Endpoint, settings.Attempts, settings.Stall, settings.Backoff = proxy.URL, 5, 2*time.Second, 20*time.Millisecond
	through, err := store.NewS3(settings)
	if err != nil {
		t.Fatal(err)
	}
	defer through.Close()
	b, in := storedIn(from, m, ref), replicaStore(through)
	if reads {
		b.Store, in = through, to
	}
	made, err := Replicate(bound(t), b, in, o)
	if err != nil {
		return nil, requests.Load() > at, err
	}
	return &made, requests.Load() > at, nil
}

// replicaSurvived checks what a replication has left that ended with an error or nil, and completes it.
func replicaSurvived(t *testing.T, from, to backend, m *Manifest, ref store.Object, made *Replicated, failed error) {
	t.Helper()
	l := wholeReplicas(t, to, m.Environment)
	if made != nil && (len(l.Backups) != 1 || l.Backups[0].Ref.Version != made.Ref.Version || len(l.Halves) > 0) {
		t.Errorf("listed: %+v", l)
	}
	if failed != nil && len(l.Backups) > 0 {
		t.Logf("the answer to the manifest got lost: %v", failed)
	}
	o := replicaOptions()
	o.Lock.Until = o.Lock.Until.Add(time.Minute)
	again, err := Replicate(bound(t), storedIn(from, m, ref), to, o)
	if err != nil {
		t.Fatalf("the next attempt: %v, after %v", err, failed)
	}
	if len(l.Backups) == 1 {
		if again.Bytes != 0 || again.Ref.Version != l.Backups[0].Ref.Version {
			t.Errorf("it was there: %+v", again)
		}
	} else {
		isReplica(t, again, m, to, o)
	}
	l = wholeReplicas(t, to, m.Environment)
	if len(l.Backups) != 1 || len(l.Halves) != 0 || len(l.Packs) != len(m.Packs) || len(l.Strange) != 0 {
		t.Errorf("listed: %+v", l)
	}
	if v, err := Verify(bound(t), storedIn(to, m, again.Ref), L0, ProofOptions{}); err != nil || !v.Passed() {
		t.Errorf("%+v, %v", v, err)
	}
}

// A replicateTask says what a process replicates.
type replicateTask struct {
	From, To    bucketTask
	Environment string
	ID          ID
	Ref         store.Object
	Store       string
	Lock        store.Lock
}

type bucketTask struct{ Endpoint, Bucket, Prefix, Credentials, CA string }

func childStore(b backend) bucketTask {
	return bucketTask{b.options.Endpoint, b.options.Bucket, b.options.Prefix, b.options.Credentials, b.options.CA}
}

func (b bucketTask) open() (*store.S3, error) {
	return store.NewS3(store.S3Options{Endpoint: b.Endpoint, Region: lab.S3Region, Bucket: b.Bucket, Prefix: b.Prefix, Credentials: b.Credentials, CA: b.CA})
}

// replicateChild replicates a backup. It says when it begins.
func replicateChild() error {
	var p replicateTask
	if err := json.NewDecoder(os.Stdin).Decode(&p); err != nil {
		return err
	}
	from, err := p.From.open()
	if err != nil {
		return err
	}
	to, err := p.To.open()
	if err != nil {
		return err
	}
	fmt.Println("begins")
	_, err = Replicate(context.Background(), Stored{Store: from, Environment: p.Environment, ID: p.ID, Manifest: p.Ref}, to, ReplicateOptions{Store: p.Store, Lock: p.Lock})
	return err
}
