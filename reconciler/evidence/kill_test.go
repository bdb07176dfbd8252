package evidence

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// childEnv holds a child's configuration: the test binary runs itself as a
// writer that can be killed.
const childEnv = "PURSER_EVIDENCE_CHILD"

var soakKills = flag.Int("soak.kills", 8, "how often each writer of the kill test is killed")

type childConfig struct {
	Dir, URL, KeyFile, Branch, Writer string
	Run                               int
	FileLimit                         uint64 // RLIMIT_FSIZE, bytes; 0 for none
	Count                             int    // of records; 0 for no end
	Writers                           int    // goroutines that write; 0 is 1
	DieAt                             string // point at which the process kills itself,
	DieAfter                          int    // having been there that often before
}

type ack struct {
	Index uint64
	ID    string
	Error string
}

// child is a writer in a process of its own.
type child struct {
	childConfig
	log  *Log
	out  sync.Mutex
	died atomic.Int64
}

// runChild writes records and says so on standard output after each.
func runChild() int {
	var c child
	err := json.Unmarshal([]byte(os.Getenv(childEnv)), &c.childConfig)
	if err == nil {
		err = c.run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	return 0
}

func (c *child) run() error {
	key, err := LoadKey(c.KeyFile)
	if err != nil {
		return err
	}
	ctx := context.Background()
	c.log, err = Open(ctx, Options{
		Dir: c.Dir, Remote: Remote{URL: c.URL}, Branch: c.Branch, Writer: c.Writer, Init: true,
		Key: key, Trusted: Trust(key.Public()), RetryMin: time.Millisecond, RetryMax: 20 * time.Millisecond,
		At: c.die,
	})
	if err != nil {
		return err
	}
	c.log.pace = pace{} // kills are to hit pushes, not pauses
	var all errgroup.Group
	if c.FileLimit == 0 {
		all.Go(func() error { return c.log.Run(ctx) })
	} else {
		signal.Ignore(syscall.SIGXFSZ)
	}
	for w := range max(c.Writers, 1) {
		all.Go(func() error { return c.write(ctx, w) })
	}
	return all.Wait()
}

// die ends the process at the point that was asked for, as kill -9 does.
func (c *child) die(point string) {
	if point == c.DieAt && c.died.Add(1) > int64(c.DieAfter) {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // until the signal arrives
	}
}

func (c *child) write(ctx context.Context, writer int) error {
	for i := 0; c.Count == 0 || i < c.Count; i++ {
		d := applyDraft(i)
		d.Key = append(d.Key, fmt.Sprint("run ", c.Run), fmt.Sprint("writer ", writer))
		if i%5 == 0 {
			d.Keep = []Keep{{Ref: fmt.Sprintf("refs/purser/keep/%s/%d/live", c.Writer, writer), Files: map[string][]byte{"i": fmt.Append(nil, i)}}}
			d.Blobs = []Blob{{Name: "diff", Data: fmt.Appendf(nil, "%s %d %d %d", c.Writer, c.Run, writer, i)}}
		}
		if c.FileLimit > 0 && i == c.Count/2 {
			limit := syscall.Rlimit{Cur: c.FileLimit, Max: c.FileLimit}
			if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
				return err
			}
		}
		r, err := c.log.record(ctx, d)
		a := ack{Index: r.Index, ID: r.ID}
		if err != nil {
			a.Error = err.Error()
		}
		if err := c.say(a); err != nil {
			return err
		}
	}
	return nil
}

func (c *child) say(a ack) error {
	c.out.Lock()
	defer c.out.Unlock()
	return json.NewEncoder(os.Stdout).Encode(a)
}

// startChild runs the test binary as a writer.
func startChild(t *testing.T, c childConfig) (*exec.Cmd, *bytes.Buffer, *bytes.Buffer) {
	t.Helper()
	config, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out, complaints := &bytes.Buffer{}, &bytes.Buffer{}
	cmd := exec.Command(self, "-test.run=^$")
	cmd.Env = append(gitEnv(), childEnv+"="+string(config))
	cmd.Stdout, cmd.Stderr = out, complaints
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, out, complaints
}

func parseAcks(t *testing.T, out *bytes.Buffer) []ack {
	t.Helper()
	var acks []ack
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var a ack
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
			break // the line the kill cut short
		}
		acks = append(acks, a)
	}
	return acks
}

// TestKilledWriters kills four writers of one audit repository at random points,
// again and again. Whatever they acknowledged must be on the remote, once, at
// its place.
func TestKilledWriters(t *testing.T) {
	bare := newBare(t)
	s := serve(t, filepath.Dir(bare))
	const writers = 4
	var trusted bytes.Buffer
	configs := make([]childConfig, writers)
	for w := range configs {
		key, path := newKeyFile(t)
		name := fmt.Sprintf("w%d", w)
		fmt.Fprintf(&trusted, "%s %s\n", name, key.Public().Line())
		configs[w] = childConfig{
			Dir: filepath.Join(t.TempDir(), "evidence"), URL: s.URL + "/audit.git", KeyFile: path,
			Branch: "audit/<writer>/<year>", Writer: name,
		}
	}
	acks := make([][]ack, writers)
	for run := range *soakKills {
		var children [writers]*exec.Cmd
		var outs, complaints [writers]*bytes.Buffer
		for w, c := range configs {
			c.Run = run
			children[w], outs[w], complaints[w] = startChild(t, c)
		}
		for w, cmd := range children {
			time.Sleep(rand.N(150 * time.Millisecond))
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait() // it was killed
			if complaints[w].Len() > 0 {
				t.Fatalf("writer %d, run %d: %s", w, run, complaints[w])
			}
			acks[w] = append(acks[w], parseAcks(t, outs[w])...)
		}
		removeStaleLocks(t, bare)
	}
	trust, err := parseTrusted(trusted.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for w, c := range configs {
		total += len(acks[w])
		drain(t, c, trust, acks[w])
	}
	r, err := Verify(t.Context(), bare, trust, VerifyOptions{})
	if err != nil || r.ExitCode() != ExitComplete {
		t.Fatalf("verify: %v %v", err, r.Problems)
	}
	git(t, bare, "fsck", "--full", "--strict")
	t.Logf("%d writers killed %d times each: %d acknowledged, %d recorded, 0 lost", writers, *soakKills, total, r.Records)
	if total == 0 || r.Records < uint64(total) {
		t.Errorf("%d acknowledged, %d recorded", total, r.Records)
	}
}

// TestKilledAmidWriters kills a process with four writers again and again: in
// the middle of writes that others flush for them.
func TestKilledAmidWriters(t *testing.T) {
	f, s := httpFixture(t)
	c := childConfig{Dir: f.o.Dir, URL: s.URL + "/audit.git", KeyFile: f.keyAt, Writer: "hq", Writers: 4}
	var acks []ack
	for c.Run = range *soakKills {
		cmd, out, complaints := startChild(t, c)
		time.Sleep(20*time.Millisecond + rand.N(200*time.Millisecond))
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
		if complaints.Len() > 0 {
			t.Fatalf("run %d: %s", c.Run, complaints)
		}
		acks = append(acks, parseAcks(t, out)...)
		removeStaleLocks(t, f.bare)
	}
	f.drained(c, acks)
}

// TestKilledAtEveryPoint ends the process at each of the points that Options.At
// knows, the first and later times it gets there.
func TestKilledAtEveryPoint(t *testing.T) {
	for _, point := range []string{"added", "durable", "before-push", "pushed", "acknowledged"} {
		t.Run(point, func(t *testing.T) {
			f, s := httpFixture(t)
			c := childConfig{Dir: f.o.Dir, URL: s.URL + "/audit.git", KeyFile: f.keyAt, Writer: "hq", Writers: 2, DieAt: point}
			var acks []ack
			for c.Run = range 4 {
				c.DieAfter = c.Run % 3
				cmd, out, complaints := startChild(t, c)
				if err := cmd.Wait(); err == nil || complaints.Len() > 0 {
					t.Fatalf("run %d: %v, %s", c.Run, err, complaints)
				}
				acks = append(acks, parseAcks(t, out)...)
				removeStaleLocks(t, f.bare)
			}
			f.drained(c, acks)
		})
	}
}

// drained publishes what the killed writer left and verifies the whole.
func (f *fixture) drained(c childConfig, acks []ack) {
	f.t.Helper()
	drain(f.t, c, f.o.Trusted, acks)
	r := f.verify(f.bare, VerifyOptions{})
	if r.ExitCode() != ExitComplete || r.Records < uint64(len(acks)) || r.Records == 0 {
		f.t.Errorf("exit %d, %d records for %d acknowledged: %v", r.ExitCode(), r.Records, len(acks), r.Problems)
	}
	f.t.Logf("%d acknowledged, %d recorded", len(acks), r.Records)
}

// drain publishes what a writer left and compares it with what it acknowledged.
func drain(t testing.TB, c childConfig, trust *Trusted, acks []ack) {
	t.Helper()
	key, err := LoadKey(c.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, o: Options{
		Dir: c.Dir, Remote: Remote{URL: c.URL}, Branch: c.Branch, Writer: c.Writer,
		Key: key, Trusted: trust, RetryMin: time.Millisecond,
		Init: true, // where every kill came before the first push
	}}
	f.run()
	if n := f.log.Status().Records; n > 0 {
		f.wait(n - 1)
	}
	all := f.records()
	for i, r := range all {
		if r.Index != uint64(i) {
			t.Fatalf("writer %s: record %d at place %d", c.Writer, r.Index, i)
		}
	}
	for _, a := range acks {
		if a.Error != "" || a.Index >= uint64(len(all)) || all[a.Index].ID != a.ID {
			t.Fatalf("writer %s: acknowledged %+v is lost", c.Writer, a)
		}
	}
	f.close()
}

// removeStaleLocks does what an operator does after killing Git's server side:
// here the connection's end does not kill it, so nothing is expected.
func removeStaleLocks(t *testing.T, bare string) {
	t.Helper()
	eventually(t, "the server's own locks are gone", func() bool {
		found := false
		err := filepath.WalkDir(filepath.Join(bare, "refs"), func(path string, _ os.DirEntry, err error) error {
			found = found || filepath.Ext(path) == ".lock"
			return nil
		})
		return err == nil && !found
	})
}

// TestDiskFull limits the size of files while a writer works: the system then
// refuses to write, as it does on a full disk.
func TestDiskFull(t *testing.T) {
	f := newFixture(t)
	f.open() // makes the branch setting known
	f.close()
	c := childConfig{Dir: f.o.Dir, URL: f.bare, KeyFile: f.keyAt, Writer: "hq", Count: 10, FileLimit: 512}
	cmd, out, complaints := startChild(t, c)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, complaints)
	}
	acks := parseAcks(t, out)
	for i, a := range acks {
		if full := i >= 5; full != (a.Error != "") {
			t.Errorf("record %d: %+v", i, a)
		}
	}
	f.o.Now = nil
	f.run()
	got := f.records()
	if len(acks) != 10 || len(got) != 5 {
		t.Fatalf("%d answers, %d records", len(acks), len(got))
	}
	f.wait(f.add(1).Index)
	f.close()
	f.verified(6)
}
