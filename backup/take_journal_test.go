package backup

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/purser-gitops/purser/backup/store"
)

// A journal is of use as far as it is whole, wherever it breaks off.
func TestJournalBreaksOff(t *testing.T) {
	t.Parallel()
	const environment = "prod-eu"
	scratch, recipients := t.TempDir(), []string{"age1somebody"}
	j, err := openJournal(scratch, environment, NewID(environment, time.Now()), recipients)
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	var lines []string
	for n := range 3 {
		pack := fmt.Sprintf("2026-11/pack-%d", n)
		lines = append(lines, strings.Repeat(fmt.Sprintf("a line about pack %d\n", n), n+1))
		entry := Entry{Object: store.Object{Key: PackKey(environment, pack), Version: "v", Size: 1}}
		if err := j.add(entry, pack, []byte(lines[n]), int64(n+1)); err != nil {
			t.Fatal(err)
		}
	}
	name := filepath.Join(scratch, "packs-of-prod-eu", string(j.id))
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var ends []int // of what is said of each pack
	for _, l := range lines {
		ends = append(ends, bytes.Index(whole, []byte(l))+len(l))
	}
	read := func(content []byte, want int) {
		t.Helper()
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := j.read(name)
		if err != nil {
			t.Fatal(err)
		}
		defer r.lines.Close()
		got, err := io.ReadAll(io.NewSectionReader(r.lines, 0, r.bytes))
		if err != nil || string(got) != strings.Join(lines[:want], "") || len(r.packs) != want || r.contents != int64(want*(want+1)/2) {
			t.Errorf("%d of %d bytes: %d packs instead of %d, lines %q, %v", len(content), len(whole), len(r.packs), want, got, err)
		}
	}
	for length := range len(whole) + 1 {
		want := 0
		for want < len(ends) && ends[want] <= length {
			want++
		}
		read(whole[:length], want)
	}
	flipped := bytes.Clone(whole)
	flipped[ends[1]-2] ^= 1
	read(flipped, 1)
	j.recipients = nil
	read(whole, 0)
}
