package evidence

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
)

// tamperer changes a mirror clone with stock Git, as someone who owns the
// remote but no trusted key could.
type tamperer struct {
	*testing.T
	dir string
	key *Key // of the writer, for those tests that assume it was stolen
}

const branchRef = "refs/heads/audit/2026"

func (m tamperer) git(args ...string) string { m.Helper(); return git(m.T, m.dir, args...) }

func (m tamperer) show(path string) []byte {
	m.Helper()
	out, err := gitOutput(m.dir, nil, "cat-file", "blob", branchRef+":"+path)
	if err != nil {
		m.Fatal(out)
	}
	return []byte(out)
}

func (m tamperer) blob(data []byte) string {
	m.Helper()
	out, err := gitOutput(m.dir, data, "hash-object", "-w", "--stdin")
	if err != nil {
		m.Fatal(out)
	}
	return strings.TrimSpace(out)
}

// tree makes the tip's tree with files changed; nil removes one.
func (m tamperer) tree(files map[string][]byte) string {
	m.Helper()
	m.git("read-tree", branchRef)
	for path, data := range files {
		if data == nil {
			m.git("rm", "-q", "--cached", path)
			continue
		}
		m.git("update-index", "--add", "--cacheinfo", "100644,"+m.blob(data)+","+path)
	}
	return m.git("write-tree")
}

// amend replaces the tip by an unsigned commit; commit adds one.
func (m tamperer) amend(files map[string][]byte) {
	m.Helper()
	m.git("update-ref", branchRef, m.git("commit-tree", "-m", "x", "-p", branchRef+"~1", m.tree(files)))
}

func (m tamperer) commit(files map[string][]byte) {
	m.Helper()
	m.git("update-ref", branchRef, m.git("commit-tree", "-m", "x", "-p", branchRef, m.tree(files)))
}

// resign replaces the tip by a commit signed with the writer's key.
func (m tamperer) resign(files map[string][]byte) {
	m.Helper()
	c, err := commit{
		tree: plumbing.NewHash(m.tree(files)), parents: []plumbing.Hash{plumbing.NewHash(m.git("rev-parse", branchRef+"~1"))},
		writer: "hq", when: day, message: "x\n",
	}.sign(m.key)
	if err != nil {
		m.Fatal(err)
	}
	out, err := gitOutput(m.dir, c.data, "hash-object", "-w", "-t", "commit", "--stdin")
	if err != nil {
		m.Fatal(out)
	}
	m.git("update-ref", branchRef, strings.TrimSpace(out))
}

const (
	file3 = "records/00/00/00/03.json"
	file4 = "records/00/00/00/04.json"
	file7 = "records/00/00/00/07.json"
	file8 = "records/00/00/00/08.json"
)

// tamperTable: each change, with the class it must be given and words of the
// finding that must name it.
var tamperTable = []struct {
	name  string
	do    func(m tamperer)
	exit  int
	words string // of one problem
}{
	{"nothing", func(tamperer) {}, ExitComplete, ""},
	{"flip a byte of a payload", func(m tamperer) {
		data := m.show(file3)
		at := strings.Index(string(data), `"payload":"`) + 300
		data[at] ^= 2
		m.amend(map[string][]byte{file3: data})
	}, ExitTampered, "record 3"},
	{"flip a byte of a signature", func(m tamperer) {
		data := m.show(file3)
		at := strings.Index(string(data), `"sig":"`) + 20
		data[at] = 'A' + (data[at]-'A'+1)%20
		m.amend(map[string][]byte{file3: data})
	}, ExitTampered, "record 3"},
	{"flip a byte with the commit re-signed", func(m tamperer) {
		data := m.show(file3)
		data[strings.Index(string(data), `"payload":"`)+300] ^= 2
		m.resign(map[string][]byte{file3: data})
	}, ExitTampered, "record 3"},
	{"append white space to a record", func(m tamperer) {
		m.resign(map[string][]byte{file3: append(m.show(file3), '\n')})
	}, ExitTampered, "another root than the records"},
	{"drop a record", func(m tamperer) { m.amend(map[string][]byte{file3: nil}) }, ExitTampered, "incomplete: audit/2026 record 3: file records/00/00/00/03.json is gone"},
	{"drop a record in a signed commit", func(m tamperer) { m.resign(map[string][]byte{file3: nil}) }, ExitIncomplete, "record 3"},
	{"drop the newest record in a signed commit", func(m tamperer) { m.resign(map[string][]byte{file8: nil}) }, ExitIncomplete, "record 8"},
	{"reorder", func(m tamperer) {
		m.amend(map[string][]byte{file3: m.show(file4), file4: m.show(file3)})
	}, ExitTampered, "record 3 ("},
	{"replay an old record as a new one", func(m tamperer) {
		m.commit(map[string][]byte{"records/00/00/00/09.json": m.show(file3)})
	}, ExitTampered, "appends nothing"},
	{"replay an old record in place of another", func(m tamperer) {
		m.resign(map[string][]byte{file7: m.show(file3)})
	}, ExitTampered, "it is record 3 of audit/2026"},
	{"cut the tail off, leaving the blobs", func(m tamperer) { m.git("update-ref", branchRef, branchRef+"~1") }, ExitIncomplete, "which ends at 8"},
	{"cut the tail off by a commit", func(m tamperer) {
		m.commit(map[string][]byte{file8: nil, "checkpoint": []byte(m.git("cat-file", "blob", branchRef+"~1:checkpoint") + "\n")})
	}, ExitTampered, "appends nothing"},
	{"swap a blob", func(m tamperer) {
		blobs := "refs/purser/blobs/2026-03"
		name, _, _ := strings.Cut(m.git("ls-tree", "--name-only", blobs), "\n")
		tree, err := gitOutput(m.dir, []byte("100644 blob "+m.blob([]byte("forged"))+"\t"+name+"\n"), "mktree")
		if err != nil {
			m.Fatal(tree)
		}
		m.git("update-ref", blobs, m.git("commit-tree", "-m", "x", strings.TrimSpace(tree)))
		m.gc()
	}, ExitTampered, "in its place"},
	{"remove one blob of a month", func(m tamperer) {
		blobs := "refs/purser/blobs/2026-03"
		m.git("update-ref", blobs, m.git("commit-tree", "-m", "x", m.git("hash-object", "-w", "-t", "tree", "/dev/null")))
		m.gc()
	}, ExitTampered, "incomplete: audit/2026 record 8"},
	{"erase a month", func(m tamperer) {
		m.git("update-ref", "-d", "refs/purser/blobs/2026-03")
		m.gc()
	}, ExitComplete, ""},
	{"checkpoint with another root", func(m tamperer) {
		text := strings.Split(string(m.show("checkpoint")), "\n")
		text[2] = "AAAA" + text[2][4:]
		m.amend(map[string][]byte{"checkpoint": []byte(strings.Join(text, "\n"))})
	}, ExitTampered, "verify checkpoint"},
	{"checkpoint signed by another key", func(m tamperer) {
		other, _ := newKeyFile(m.T)
		c, err := parseCheckpoint(m.show("checkpoint"))
		if err != nil {
			m.Fatal(err)
		}
		data, err := c.sign(other)
		if err != nil {
			m.Fatal(err)
		}
		m.resign(map[string][]byte{"checkpoint": data})
	}, ExitTampered, "verify checkpoint"},
	{"checkpoint of another size, signed by the writer", func(m tamperer) {
		c, err := parseCheckpoint(m.show("checkpoint"))
		if err != nil {
			m.Fatal(err)
		}
		c.Size++
		data, err := c.sign(m.key)
		if err != nil {
			m.Fatal(err)
		}
		m.resign(map[string][]byte{"checkpoint": data})
	}, ExitIncomplete, "record 9"},
	{"checkpoint of another log", func(m tamperer) {
		c, err := parseCheckpoint(m.show("checkpoint"))
		if err != nil {
			m.Fatal(err)
		}
		c.Origin = origin("hq", "audit/2025")
		data, err := c.sign(m.key)
		if err != nil {
			m.Fatal(err)
		}
		m.resign(map[string][]byte{"checkpoint": data})
	}, ExitTampered, "its checkpoint is of"},
	{"no checkpoint", func(m tamperer) { m.amend(map[string][]byte{"checkpoint": nil}) }, ExitTampered, "checkpoint"},
	{"a file besides", func(m tamperer) { m.resign(map[string][]byte{"note": []byte("x")}) }, ExitTampered, "more than it appends"},
	{"an empty commit on top", func(m tamperer) { m.commit(nil) }, ExitTampered, "commit signature"},
	{"the tip without its signature", func(m tamperer) { m.amend(nil) }, ExitTampered, "commit signature"},
	{"two commits squashed", func(m tamperer) {
		m.git("update-ref", branchRef, m.git("commit-tree", "-m", "x", "-p", branchRef+"~2", branchRef+"^{tree}"))
	}, ExitTampered, "commit signature"},
	{"a merge", func(m tamperer) {
		m.git("update-ref", branchRef, m.git("commit-tree", "-m", "x", "-p", branchRef, "-p", branchRef+"~2", branchRef+"^{tree}"))
	}, ExitTampered, "not linear"},
	{"keep ref moved back", func(m tamperer) { m.git("update-ref", keepRef, m.git("rev-parse", "refs/tests/kept-first")) }, ExitTampered, "no record kept this commit last"},
	{"keep ref replaced", func(m tamperer) {
		m.git("update-ref", keepRef, m.git("commit-tree", "-m", "x", branchRef+"^{tree}"))
	}, ExitTampered, "commit signature"},
	{"keep ref removed", func(m tamperer) { m.git("update-ref", "-d", keepRef) }, ExitIncomplete, "is gone"},
	{"branch removed", func(m tamperer) { m.git("update-ref", "-d", branchRef) }, ExitIncomplete, "no audit branch"},
	{"an object missing", func(m tamperer) { m.loose(file3, os.Remove) }, ExitIncomplete, "record 3"},
	{"an object damaged on disk", func(m tamperer) {
		m.loose(file3, func(path string) error { return os.WriteFile(path, []byte("not zlib"), 0o600) })
	}, ExitUnreadable, "record 3"},
	{"an object exchanged on disk", func(m tamperer) {
		other, err := os.ReadFile(m.looseObject(m.git("rev-parse", branchRef+":"+file4)))
		if err != nil {
			m.Fatal(err)
		}
		m.loose(file3, func(path string) error { return os.WriteFile(path, other, 0o600) })
	}, ExitTampered, "does not match its ID"},
}

const keepRef = "refs/purser/keep/north-dev/live"

func (m tamperer) gc() {
	m.git("reflog", "expire", "--expire=now", "--all")
	m.git("prune", "--expire=now")
}

func (m tamperer) looseObject(id string) string {
	return filepath.Join(m.dir, "objects", id[:2], id[2:])
}

func (m tamperer) loose(path string, change func(string) error) {
	m.Helper()
	at := m.looseObject(m.git("rev-parse", branchRef+":"+path))
	if err := os.Chmod(at, 0o600); err != nil {
		m.Fatal(err)
	}
	if err := change(at); err != nil {
		m.Fatal(err)
	}
}

// tamperFixture is a log of nine records in three commits: the first and the
// last record keep a ref, the last has a blob and stands alone in its commit.
func tamperFixture(t *testing.T) *fixture {
	f := newFixture(t)
	f.open()
	keep := func(n int) Record {
		d := applyDraft(n)
		d.Keep = []Keep{{Ref: keepRef, Files: map[string][]byte{"n": fmt.Append(nil, n)}}}
		d.Blobs = []Blob{{Name: "diff", Data: fmt.Append(nil, "diff ", n)}, {Name: "report", Data: fmt.Append(nil, "report ", n)}}
		r, err := f.log.record(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	publish := func(r Record) {
		f.run()
		f.wait(r.Index)
		f.stop()
	}
	keep(1000)
	publish(f.add(3))
	git(t, f.bare, "update-ref", "refs/tests/kept-first", keepRef)
	publish(f.add(4))
	publish(keep(1001))
	f.close()
	f.verified(9)
	return f
}

func TestTampering(t *testing.T) {
	f := tamperFixture(t)
	for _, c := range tamperTable {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "clone.git")
			git(t, ".", "clone", "-q", "--mirror", "--no-hardlinks", f.bare, dir)
			unpack(t, dir)
			c.do(tamperer{t, dir, f.key})
			r, err := Verify(t.Context(), dir, f.o.Trusted, VerifyOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range r.Problems {
				t.Log(p)
			}
			if r.ExitCode() != c.exit {
				t.Errorf("exit %d, want %d", r.ExitCode(), c.exit)
			}
			if !mentions(r, c.words) {
				t.Errorf("no problem says %q", c.words)
			}
		})
	}
}

// unpack turns a clone's packs into loose objects.
func unpack(t *testing.T, dir string) {
	t.Helper()
	packs, err := filepath.Glob(filepath.Join(dir, "objects/pack/*.pack"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range packs {
		away := filepath.Join(t.TempDir(), "pack")
		if err := os.Rename(p, away); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(away)
		if err != nil {
			t.Fatal(err)
		}
		remove(t, strings.TrimSuffix(p, ".pack")+".idx")
		if out, err := gitOutput(dir, data, "unpack-objects", "-q"); err != nil {
			t.Fatal(out)
		}
	}
}

func mentions(r Report, words string) bool {
	if words == "" {
		return len(r.Problems) == 0
	}
	for _, p := range r.Problems {
		if strings.Contains(p.String(), words) {
			return true
		}
	}
	return false
}

func TestEveryRecordIsMissed(t *testing.T) {
	f := tamperFixture(t)
	for seq := range uint64(9) {
		dir := f.clone()
		m := tamperer{t, dir, f.key}
		m.resign(map[string][]byte{recordPath(seq): nil})
		r := f.verify(dir, VerifyOptions{})
		if r.ExitCode() != ExitIncomplete || !mentions(r, fmt.Sprintf("record %d: file %s is gone", seq, recordPath(seq))) {
			t.Errorf("without record %d: %+v", seq, r.Problems)
		}
	}
}

func TestSinceFindsCutTail(t *testing.T) {
	f := tamperFixture(t)
	dir := f.clone()
	m := tamperer{t, dir, f.key}
	since := m.show("checkpoint")
	if r := f.verify(dir, VerifyOptions{Pinned: since}); r.ExitCode() != ExitComplete {
		t.Errorf("%+v", r.Problems)
	}
	for ref := range strings.FieldsSeq(git(t, dir, "for-each-ref", "--format=%(refname)", "refs/purser", "refs/tests")) {
		git(t, dir, "update-ref", "-d", ref)
	}
	git(t, dir, "update-ref", branchRef, branchRef+"~1")
	if r := f.verify(dir, VerifyOptions{}); r.ExitCode() != ExitComplete {
		t.Errorf("a shorter log by itself: %+v", r.Problems)
	}
	if r := f.verify(dir, VerifyOptions{Pinned: since}); r.ExitCode() != ExitIncomplete || !mentions(r, "counts 9 records") {
		t.Errorf("cut back behind a known checkpoint: %+v", r.Problems)
	}
	c, err := parseCheckpoint(since)
	if err != nil {
		t.Fatal(err)
	}
	c.Size, c.Root[0] = 5, c.Root[0]+1
	forked, err := c.sign(f.key)
	if err != nil {
		t.Fatal(err)
	}
	if r := f.verify(dir, VerifyOptions{Pinned: forked}); r.ExitCode() != ExitTampered {
		t.Errorf("another history before a known checkpoint: %+v", r.Problems)
	}
}

func TestVerifyPlainClone(t *testing.T) {
	f := tamperFixture(t)
	dir := filepath.Join(t.TempDir(), "clone")
	git(t, ".", "clone", "-q", f.bare, "-b", "audit/2026", dir)
	r := f.verify(dir, VerifyOptions{})
	if r.ExitCode() != ExitComplete || r.Records != 9 || len(r.Notes) != 2 || r.Blobs.Erased != 4 {
		t.Errorf("%+v", r)
	}
	git(t, dir, "fetch", "-q", "origin", "refs/purser/*:refs/purser/*")
	r = f.verify(dir, VerifyOptions{})
	if r.ExitCode() != ExitComplete || len(r.Notes) != 0 || r.Blobs.Present != 4 {
		t.Errorf("%+v", r)
	}
	shallow := filepath.Join(t.TempDir(), "shallow")
	git(t, ".", "clone", "-q", "--depth=1", "file://"+f.bare, "-b", "audit/2026", shallow)
	if r := f.verify(shallow, VerifyOptions{}); r.ExitCode() != ExitIncomplete {
		t.Errorf("shallow clone: %+v", r.Problems)
	}
	if r := f.verify(t.TempDir(), VerifyOptions{}); r.ExitCode() != ExitUnreadable {
		t.Errorf("empty directory: %+v", r.Problems)
	}
	if data, err := json.Marshal(r); err != nil || !strings.Contains(string(data), `"records":9`) {
		t.Errorf("%s %v", data, err)
	}
}

func TestVerifyTrust(t *testing.T) {
	f := tamperFixture(t)
	other, _ := newKeyFile(t)
	parse := func(text string) *Trusted {
		tr, err := parseTrusted([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return tr
	}
	for name, c := range map[string]struct {
		trusted *Trusted
		exit    int
	}{
		"the writer's key":     {parse("hq " + f.key.Public().Line()), ExitComplete},
		"a pattern":            {parse(`h*,edge namespaces="git" ` + f.key.Public().Line() + " comment"), ExitComplete},
		"another key":          {Trust(other.Public()), ExitTampered},
		"another writer's key": {parse("edge " + f.key.Public().Line() + "\nhq " + other.Public().Line()), ExitTampered},
	} {
		r, err := Verify(t.Context(), f.bare, c.trusted, VerifyOptions{})
		if err != nil || r.ExitCode() != c.exit {
			t.Errorf("%s: exit %d, want %d: %v %v", name, r.ExitCode(), c.exit, err, r.Problems)
		}
		if len(r.Problems) > 0 && len(r.Problems) > maxProblems {
			t.Errorf("%s: %d problems", name, len(r.Problems))
		}
	}
}

func TestVerifyYears(t *testing.T) {
	f := newFixture(t)
	now := day
	f.o.Now = func() time.Time { return now }
	f.run()
	f.wait(f.add(3).Index)
	now = day.AddDate(1, 0, 0)
	f.wait(f.add(1).Index)
	f.wait(f.add(1).Index)
	now = day.AddDate(2, 0, 0)
	f.wait(f.add(2).Index)
	f.close()
	f.verified(9) // 3 + state and 2 + state and 2
	for name, c := range map[string]struct {
		do   func(m tamperer)
		exit int
	}{
		"year removed":       {func(m tamperer) { m.git("update-ref", "-d", "refs/heads/audit/2027") }, ExitIncomplete},
		"first year removed": {func(m tamperer) { m.git("update-ref", "-d", "refs/heads/audit/2026") }, ExitIncomplete},
		"year cut back":      {func(m tamperer) { m.git("update-ref", "refs/heads/audit/2027", "refs/heads/audit/2027~1") }, ExitIncomplete},
		"last year removed":  {func(m tamperer) { m.git("update-ref", "-d", "refs/heads/audit/2028") }, ExitComplete}, // needs an earlier checkpoint
		"year renamed":       {func(m tamperer) { m.git("branch", "-m", "audit/2027", "audit/2029") }, ExitTampered},
	} {
		dir := f.clone()
		c.do(tamperer{t, dir, f.key})
		if r := f.verify(dir, VerifyOptions{}); r.ExitCode() != c.exit {
			t.Errorf("%s: exit %d, want %d: %v", name, r.ExitCode(), c.exit, r.Problems)
		}
	}
	r := f.verify(f.bare, VerifyOptions{branches: []string{"audit/2027"}})
	if r.ExitCode() != ExitComplete || r.Records != 3 {
		t.Errorf("one year: %+v", r)
	}
}

func TestReportIsFitForATerminal(t *testing.T) {
	f := tamperFixture(t)
	m := tamperer{t, f.clone(), f.key}
	forged := strings.Replace(string(m.show(file3)), `"keyid":"SHA256:`, `"keyid":"\u001b[2J\n`+strings.Repeat("x", 5000), 1)
	m.resign(map[string][]byte{file3: []byte(forged)})
	r := f.verify(m.dir, VerifyOptions{})
	if r.ExitCode() != ExitTampered {
		t.Errorf("exit %d", r.ExitCode())
	}
	for _, p := range r.Problems {
		if text := p.String(); strings.ContainsAny(text, "\x1b\n") || len(text) > 700 {
			t.Errorf("%q", text)
		}
	}
}

func TestVerifyStops(t *testing.T) {
	f := tamperFixture(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Verify(ctx, f.bare, f.o.Trusted, VerifyOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	enough := errors.New("enough")
	n := 0
	_, err := Verify(t.Context(), f.bare, f.o.Trusted, VerifyOptions{OnRecord: func(r Record, data []byte) error {
		if n++; n == 4 {
			return enough
		}
		return nil
	}})
	if !errors.Is(err, enough) || n != 4 {
		t.Errorf("%d records, %v", n, err)
	}
}

func TestRebuildRefusesTamperedBranch(t *testing.T) {
	f := tamperFixture(t)
	m := tamperer{t, f.bare, f.key}
	m.amend(map[string][]byte{file3: nil})
	f.o.Dir += "-new"
	l, err := Open(t.Context(), f.o)
	if err == nil {
		_ = l.Close(t.Context())
	}
	wantStalled(t, err, "does not verify")
}
