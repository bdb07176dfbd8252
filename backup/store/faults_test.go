package store_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/purser-gitops/purser/backup/store"
	"github.com/purser-gitops/purser/backup/store/storetest"
	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
)

// testStall is after which time a connection that stands still is given up. A busy machine that takes longer makes one more
// fault of it.
const testStall = 2 * time.Second

// A storeFault is one thing that goes wrong while an object is written or read.
type storeFault struct {
	name  string
	match string // requests that are concerned
	fault lab.Fault
	size  int
}

// requests are the sorts of requests, and whether a request is one of them.
var requests = map[string]func(*http.Request) bool{
	"any":      func(*http.Request) bool { return true },
	"put":      func(r *http.Request) bool { return r.Method == http.MethodPut && !r.URL.Query().Has("partNumber") },
	"begin":    func(r *http.Request) bool { return r.Method == http.MethodPost && r.URL.Query().Has("uploads") },
	"part":     func(r *http.Request) bool { return r.URL.Query().Has("partNumber") },
	"complete": func(r *http.Request) bool { return r.Method == http.MethodPost && r.URL.Query().Has("uploadId") },
	"head":     func(r *http.Request) bool { return r.Method == http.MethodHead },
	"get":      func(r *http.Request) bool { return r.Method == http.MethodGet && r.URL.Query().Has("versionId") },
	"list":     func(r *http.Request) bool { return r.URL.Query().Has("versions") },
	"abort":    func(r *http.Request) bool { return r.Method == http.MethodDelete },
}

// generate makes up a fault; the same for the same number.
func generate(number int) storeFault {
	rng := rand.New(rand.NewPCG(20261122, uint64(number)))
	f := storeFault{size: []int{0, 1, 70_000, testPart, testPart + 1, testPart + 300_000}[rng.IntN(6)]}
	sorts := []string{"any", "put", "head", "get", "list"}
	if f.size >= testPart {
		sorts = []string{"any", "begin", "part", "part", "complete", "complete", "head", "get", "get", "list"}
	}
	f.match = sorts[rng.IntN(len(sorts))]
	modes := []lab.Fault{
		{Mode: lab.CutBefore}, {Mode: lab.CutAfter}, {Mode: lab.CutAfter, Bytes: 1 + rng.Int64N(3*testPart/2)}, {Mode: lab.CutAfter, Bytes: 1 + rng.Int64N(200)},
		{Mode: lab.CutDuring, Bytes: rng.Int64N(testPart)}, {Mode: lab.CutDuring, Bytes: rng.Int64N(100)}, {Mode: lab.Answer, Status: 503},
		{Mode: lab.Answer, Status: 500}, {Mode: lab.Answer, Status: 429, RetryAfter: time.Second}, {Mode: lab.Answer, Status: 403},
		{Mode: lab.Slow, Delay: 30 * time.Millisecond, Bytes: 256 << 10}, {Mode: lab.Hang}, {Mode: lab.Refuse},
	}
	f.fault = modes[rng.IntN(len(modes))]
	f.fault.Match = requests[f.match]
	f.fault.Times = []int{1, 1, 2, 3, 100}[rng.IntN(5)] // with the last one the writer gives up
	if f.fault.Mode == lab.Hang {
		f.fault.Times = 1 + rng.IntN(2)
	}
	f.name = fmt.Sprintf("%03d-mode%d-%d-%s-times%d-bytes%d-size%d", number, f.fault.Mode, f.fault.Status, f.match, f.fault.Times, f.fault.Bytes, f.size)
	return f
}

// Whatever happens between the store and its client, nothing is listed or read that is not a whole object; and once it is
// over, the object can be written.
func TestFaults(t *testing.T) {
	t.Parallel()
	l := labtest.Shared(t, lab.S3)
	bucket := labtest.Bucket(t, l)
	slots := make(chan struct{}, 4)
	for number := range 85 {
		f := generate(number)
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			slots <- struct{}{}
			defer func() { <-slots }()
			surviveFault(t, l, bucket, fmt.Sprintf("fault/%03d", number), f)
		})
	}
}

func surviveFault(t *testing.T, l *lab.Endpoints, bucket, prefix string, f storeFault) {
	var concerned atomic.Int64
	proxy, err := l.S3Proxy(func(r *http.Request) {
		if f.fault.Match(r) {
			concerned.Add(1)
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
	direct := openS3(t, s3Options(l, bucket, lab.S3Writer))
	o := s3Options(l, bucket, lab.S3Writer)
	o.Endpoint, o.Attempts, o.Stall, o.Backoff = proxy.URL, 5, testStall, 20*time.Millisecond
	s := openS3(t, o)
	w := witness{s: direct, key: prefix + "/object", content: storetest.Content(f.size, byte(len(f.name)))}
	stop := w.watch(t)
	if err := proxy.Set(f.fault); err != nil {
		t.Fatal(err)
	}
	lock := store.Lock{Mode: store.Governance, Until: time.Now().Add(time.Hour)}
	object, err := s.Create(t.Context(), w.key, bytes.NewReader(w.content), lock)
	if err == nil {
		w.read(t, s, object) // the fault may be one of reading
	}
	if clearErr := proxy.Clear(); clearErr != nil {
		t.Fatal(clearErr)
	}
	if concerned.Load() == 0 && f.fault.Mode != lab.Refuse {
		t.Error("the fault has concerned no request")
	}
	if err == nil && f.fault.Times < o.Attempts {
		if n, err := direct.Abandoned(t.Context(), prefix, -time.Minute); n != 0 || err != nil {
			t.Errorf("a success left %d uploads, %v", n, err)
		}
	}
	w.retry(t, direct, err)
	if err := stop(); err != nil {
		t.Error(err)
	}
	if _, err := direct.Abandoned(t.Context(), prefix, -time.Minute); err != nil {
		t.Error(err)
	}
	w.retry(t, direct, store.ErrExists) // the object has outlasted that
}

// A witness looks at one object that is being written.
type witness struct {
	s       storetest.Store
	key     string
	content []byte
}

// check reads what is listed: nothing, or the whole object; unless its version is known already.
func (w witness) check(ctx context.Context, known string) (found *store.Object, err error) {
	for o, err := range w.s.List(ctx, w.key) {
		if err != nil {
			return nil, err
		}
		if o.Key != w.key || o.Size != int64(len(w.content)) || found != nil {
			return nil, fmt.Errorf("listed: %+v, and before %+v", o, found)
		}
		o = storetest.Record(o, w.content)
		if found = &o; o.Version == known {
			continue
		}
		got, err := storetest.Read(ctx, w.s, o)
		if err != nil || !bytes.Equal(got, w.content) {
			return nil, fmt.Errorf("listed, but read %d of %d bytes: %w", len(got), len(w.content), err)
		}
	}
	return found, nil
}

// watch looks on until the returned function is called, which says what was wrong.
func (w witness) watch(t *testing.T) (stop func() error) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		for known := ""; ; {
			o, err := w.check(t.Context(), known)
			if err != nil {
				done <- err
				return
			}
			if o != nil {
				known = o.Version
			}
			select {
			case <-ctx.Done():
				done <- nil
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	return func() error { cancel(); return <-done }
}

// read reads an object through faults: either it fails or its content is right.
func (w witness) read(t *testing.T, s storetest.Store, o store.Object) {
	t.Helper()
	got, err := storetest.Read(t.Context(), s, o)
	if err == nil && !bytes.Equal(got, w.content) {
		t.Errorf("read %d bytes without an error, which are not the %d that were written", len(got), len(w.content))
	}
	if errors.Is(err, store.ErrChanged) {
		t.Errorf("a broken connection is taken for a change: %v", err)
	}
	if _, err := s.Stat(t.Context(), o); errors.Is(err, store.ErrChanged) || errors.Is(err, store.ErrMissing) {
		t.Errorf("a broken connection is taken for a change: %v", err)
	}
}

// retry writes the object again after an attempt that ended with an error or nil, and checks that it is there.
func (w witness) retry(t *testing.T, s storetest.Store, before error) {
	t.Helper()
	_, err := s.Create(t.Context(), w.key, bytes.NewReader(w.content), store.Lock{})
	if before == nil && !errors.Is(err, store.ErrExists) || err != nil && !errors.Is(err, store.ErrExists) {
		t.Errorf("write again after %v: %v", before, err)
	}
	o, err := w.check(t.Context(), "")
	if err != nil || o == nil {
		t.Fatalf("after that it is %v, %v", o, err)
	}
	if _, err := w.s.Stat(t.Context(), *o); err != nil && len(w.content) < testPart { // else the list does not know its sum
		t.Error(err)
	}
}

// envChild says in JSON what a child process of the tests writes from its standard input. In the end it prints how many
// bytes of memory it took.
const envChild = "PURSER_STORE_TEST_CHILD"

type childTask struct {
	Folder string
	S3     store.S3Options
	Key    string
	Part   int // bytes; 0 leaves it as it is
}

// child writes an object, says when it begins and what came of it.
func child(text string) int {
	var task childTask
	var s storetest.Store
	err := json.Unmarshal([]byte(text), &task)
	if err == nil && task.Folder != "" {
		s, err = store.OpenDirectory(task.Folder, nil)
	} else if err == nil {
		var bucket *store.S3
		if bucket, err = store.NewS3(task.S3); err == nil {
			if s = bucket; task.Part != 0 {
				bucket.SetSizes(task.Part, 7)
			}
		}
	}
	if err == nil {
		fmt.Println("begins")
		_, err = s.Create(context.Background(), task.Key, os.Stdin, store.Lock{})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	fmt.Println(memory.HeapSys) // the most that the heap has had
	return 0
}

// A writer that is killed at any moment leaves nothing that is listed, and nothing in the way of the next one.
func TestKilledWriter(t *testing.T) {
	t.Parallel()
	l := labtest.Shared(t, lab.S3)
	bucket := labtest.Bucket(t, l)
	folder := t.TempDir()
	slots := make(chan struct{}, 3)
	for number := range 30 {
		rng := rand.New(rand.NewPCG(15, uint64(number)))
		task := childTask{Key: fmt.Sprintf("killed/%02d/object", number), Part: testPart}
		var s storetest.Store
		size := []int{70_000, testPart + 300_000, 2*testPart + 100_000}[rng.IntN(3)]
		if number%2 == 0 {
			task.S3 = s3Options(l, bucket, lab.S3Writer)
			s = openS3(t, task.S3)
		} else {
			task.Folder = folder
			s = openDirectory(t, folder)
		}
		sent, wait := size, time.Duration(rng.IntN(60))*time.Millisecond // after its end, while it is made an object
		if rng.IntN(2) == 0 {
			sent, wait = rng.IntN(size), 0
		}
		t.Run(fmt.Sprintf("%02d-size%d-sent%d-wait%s", number, size, sent, wait), func(t *testing.T) {
			t.Parallel()
			slots <- struct{}{}
			defer func() { <-slots }()
			w := witness{s: s, key: task.Key, content: storetest.Content(size, byte(number))}
			stop := w.watch(t)
			killChild(t, task, w.content[:sent], sent == size, wait)
			if err := stop(); err != nil {
				t.Error(err)
			}
			w.retry(t, s, errors.New("a kill"))
			if _, err := s.Abandoned(t.Context(), strings.TrimSuffix(task.Key, "object"), -time.Minute); err != nil {
				t.Error(err)
			}
			if n, err := s.Abandoned(t.Context(), strings.TrimSuffix(task.Key, "object"), -time.Minute); n != 0 || err != nil {
				t.Errorf("%d uploads are left, %v", n, err)
			}
			w.retry(t, s, store.ErrExists)
		})
	}
}

// startChild starts a process that writes what it is sent.
func startChild(t *testing.T, task childTask) (cmd *exec.Cmd, in io.WriteCloser, out *bufio.Reader) {
	t.Helper()
	text, err := json.Marshal(map[string]any{"Folder": task.Folder, "Key": task.Key, "Part": task.Part, "S3": map[string]any{
		"Endpoint": task.S3.Endpoint, "Region": task.S3.Region, "Bucket": task.S3.Bucket, "Prefix": task.S3.Prefix,
		"CA": task.S3.CA, "Credentials": task.S3.Credentials,
	}})
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envChild+"="+string(text))
	cmd.Stderr = os.Stderr
	in, err = cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out = bufio.NewReader(pipe)
	if line, err := out.ReadString('\n'); line != "begins\n" || err != nil {
		t.Errorf("the child says %q, %v", line, err)
	}
	return cmd, in, out
}

// killChild lets a process write the content, or its beginning, and kills it.
func killChild(t *testing.T, task childTask, content []byte, whole bool, wait time.Duration) {
	t.Helper()
	cmd, in, _ := startChild(t, task)
	if _, err := io.Copy(in, bytes.NewReader(content)); err != nil {
		t.Error(err)
	}
	if whole {
		if err := in.Close(); err != nil {
			t.Error(err)
		}
		time.Sleep(wait)
	}
	if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	_ = cmd.Wait() // it was killed
}

// However much is written, it takes the memory of a few parts.
func TestMemory(t *testing.T) {
	t.Parallel()
	l := labtest.Shared(t, lab.S3)
	const size, most = 300 << 20, 120 << 20
	for name, task := range map[string]childTask{
		"s3": {S3: s3Options(l, labtest.Bucket(t, l), lab.S3Writer)}, "directory": {Folder: t.TempDir()},
	} {
		task.Key = "large"
		cmd, in, out := startChild(t, task)
		if _, err := io.CopyN(in, endless{}, size); err != nil {
			t.Error(err)
		}
		if err := in.Close(); err != nil {
			t.Error(err)
		}
		var memory int64
		if _, err := fmt.Fscan(out, &memory); err != nil || memory > most {
			t.Errorf("%s: %d bytes of memory, %v", name, memory, err)
		}
		t.Logf("%s: %d MiB of memory for %d MiB", name, memory>>20, size>>20)
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
}

// endless is a stream that never ends.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
