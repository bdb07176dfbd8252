package evidence

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

// The frontier gives the same roots as tlog's stored hashes.
func TestFrontierIsTlogs(t *testing.T) {
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, at := range indexes {
			out[i] = stored[at]
		}
		return out, nil
	})
	var f frontier
	for n := range int64(300) {
		want, err := tlog.TreeHash(n, reader)
		if err != nil {
			t.Fatal(err)
		}
		if f.root() != want || !f.valid() || f.Size != uint64(n) {
			t.Fatalf("size %d: root %s, want %s", n, f.root(), want)
		}
		data := fmt.Append(nil, "record ", n)
		hashes, err := tlog.StoredHashes(n, data, reader)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, hashes...)
		f.add(tlog.RecordHash(data))
	}
}

func TestCheckpointParsing(t *testing.T) {
	key, _ := newKeyFile(t)
	c := checkpoint{Origin: origin("hq", "audit/2026"), Size: 7, Root: tlog.RecordHash(nil)}
	signed, err := c.sign(key)
	if err != nil {
		t.Fatal(err)
	}
	got, err := openCheckpoint(signed, Trust(key.Public()), "hq", "audit/2026")
	if err != nil || got != c {
		t.Errorf("%+v, %v", got, err)
	}
	for _, change := range [][2]string{
		{"\n7\n", "\n07\n"}, {"\n7\n", "\n-7\n"}, {"\n7\n", "\n8\n"}, {"\n7\n", "\n7\n\n"},
		{"purser.dev", "example.com"}, {"hq", "edge"}, {"— ", "- "}, {"audit/2026\n", "audit/2026\nextra\n"},
	} {
		text := strings.Replace(string(signed), change[0], change[1], 1)
		if _, err := openCheckpoint([]byte(text), Trust(key.Public()), "hq", "audit/2026"); err == nil {
			t.Errorf("%q instead of %q was accepted", change[1], change[0])
		}
	}
	if _, err := openCheckpoint(make([]byte, maxCheckpoint+1), Trust(key.Public()), "hq", "audit/2026"); err == nil {
		t.Error("a huge checkpoint was accepted")
	}
}

func FuzzOpenRecord(f *testing.F) {
	f.Add([]byte(`{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[{"keyid":"x","sig":"AA=="}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := openRecord(data, Trust(), 0); err == nil {
			t.Error("a record without a trusted key was accepted")
		}
	})
}

func FuzzParseCommit(f *testing.F) {
	f.Add([]byte("tree x\nparent y\ngpgsig a\n b\n\nmessage\n\nBranch: b\nLog-Index: 1-2\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := parseCommit(data); err == nil {
			c.position()
		}
		_, _ = parseTree(data)
		_, _ = parseCheckpoint(data)
		_, _ = parseState(data)
	})
}
