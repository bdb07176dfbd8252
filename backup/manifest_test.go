package backup

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/purser-gitops/purser/backup/filestore"
	"github.com/purser-gitops/purser/backup/postgres"
	"github.com/purser-gitops/purser/backup/store"
)

const (
	sum   = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	began = "2026-11-22T10:15:00.25Z"
)

// entry is an object as a store has written it.
func entry(key string, lockedUntil time.Time) Entry {
	return Entry{Object: store.Object{Key: key, Version: "v-" + key[strings.LastIndexByte(key, '/')+1:], Size: 100, SHA256: sum, LockedUntil: lockedUntil},
		PlainSHA256: sum, PlainBytes: 1000, ContentType: "application/octet-stream"}
}

// sample is a whole manifest of an environment.
func sample(t testing.TB, environment string) *Manifest {
	start := at(t, began)
	id := ID("20261122T101500Z-" + environment + "-abcdefgh")
	lock := at(t, "2026-11-25T10:15:00Z")
	return &Manifest{
		Format: Format, Environment: environment, ID: id, Policy: "shop", Store: "main", Reason: "schedule",
		Times:         Times{Began: start, Snapshot: start.Add(time.Second), Finished: start.Add(time.Minute)},
		Configuration: Configuration{Commit: strings.Repeat("a", 40), Release: "sha256:" + sum},
		Streams: Streams{Database: entry(Key(environment, id, DatabaseName), lock), Roles: entry(Key(environment, id, RolesName), lock),
			Configuration: entry(Key(environment, id, ConfigurationName), lock), Attachments: entry(Key(environment, id, AttachmentsName), lock)},
		Packs:        []Entry{entry(PackKey(environment, "2026-10/p1"), lock), entry(PackKey(environment, "2026-11/p2"), lock)},
		Postgres:     postgres.Facts{At: start.Add(time.Second), LSN: "0/1A2B3C4D", Timeline: 1, SystemIdentifier: "7", ServerVersion: "16.4", Major: 16, DumpVersion: "16.4"},
		Fingerprints: []postgres.Fingerprint{{Table: "public.pos_order", Rows: 3, Sum: "42", Sample: &postgres.Range{Key: "id", Min: 1, Max: 9, Rows: 2}}},
		Filestore: Filestore{Index: filestore.Index{Contents: filestore.Amount{Contents: 2, Bytes: 20}, Packs: []string{"2026-10/p1", "2026-11/p2"}},
			Rows: 5, Problems: map[filestore.Kind]int64{filestore.Missing: 1}},
		Recipients: []string{"age1sample"}, Tools: map[string]string{"purser": "1.0", "pg_dump": "16.4"},
	}
}

func encoded(t testing.TB, m *Manifest) []byte {
	t.Helper()
	data, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Every way in which a manifest can be another one than that which was asked for.
func TestManifestRefuses(t *testing.T) {
	t.Parallel()
	other := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		change func(m *Manifest)
		want   string
	}{
		"environment":        {func(m *Manifest) { m.Environment = "prod" }, `it is of environment "prod", not of "prod-eu"`},
		"ID":                 {func(m *Manifest) { m.ID = "20261122T101500Z-prod-eu-zzzzzzzz" }, "it is of backup"},
		"ID of another":      {func(m *Manifest) { *m = *sample(t, "prod") }, `it is of environment "prod"`},
		"format":             {func(m *Manifest) { m.Format = 2 }, "it has format 2, and this version of Purser reads 1"},
		"database elsewhere": {func(m *Manifest) { m.Streams.Database.Key = "dev/backups/" + string(m.ID) + "/database" }, "is not prod-eu/backups/"},
		"database of another": {func(m *Manifest) {
			m.Streams.Database.Key = Key("prod-eu", "20261121T101500Z-prod-eu-abcdefgh", "database")
		}, "is not prod-eu/backups/"},
		"climbs":                {func(m *Manifest) { m.Streams.Roles.Key = Key("prod-eu", m.ID, "../roles") }, "is not prod-eu/backups/"},
		"swapped streams":       {func(m *Manifest) { m.Streams.Roles, m.Streams.Database = m.Streams.Database, m.Streams.Roles }, "is not prod-eu/backups/"},
		"missing stream":        {func(m *Manifest) { m.Streams.Attachments = Entry{} }, "is not prod-eu/backups/"},
		"pack of another":       {func(m *Manifest) { m.Packs[0].Key = "prod/filestore/2026-10/p1" }, "is no pack of environment"},
		"pack climbs":           {func(m *Manifest) { m.Packs[0].Key = "prod-eu/filestore/2026-10/../p1" }, "is no pack of environment"},
		"pack is a backup's":    {func(m *Manifest) { m.Packs[0].Key = m.Streams.Database.Key }, "is no pack of environment"},
		"pack twice":            {func(m *Manifest) { m.Packs[1] = m.Packs[0] }, "not sorted, or one is there twice"},
		"pack too few":          {func(m *Manifest) { m.Packs = m.Packs[:1] }, "not those that the attachments are in"},
		"pack swapped":          {func(m *Manifest) { m.Packs[1].Key = PackKey("prod-eu", "2026-11/p3") }, "not those that the attachments are in"},
		"no version":            {func(m *Manifest) { m.Streams.Roles.Version = "" }, "has no version"},
		"no sum":                {func(m *Manifest) { m.Packs[0].SHA256 = "" }, "has no SHA-256"},
		"no plain sum":          {func(m *Manifest) { m.Packs[0].PlainSHA256 = strings.ToUpper(sum) }, "has no SHA-256"},
		"empty object":          {func(m *Manifest) { m.Streams.Database.Size = 0 }, "has no size"},
		"negative":              {func(m *Manifest) { m.Streams.Database.PlainBytes = -1 }, "has no size"},
		"no content type":       {func(m *Manifest) { m.Streams.Database.ContentType = "" }, "has no content type"},
		"unlocked object":       {func(m *Manifest) { m.Packs[1].LockedUntil = time.Time{} }, "some of its objects are locked and some are not"},
		"lock ended":            {func(m *Manifest) { m.Packs[1].LockedUntil = at(t, began) }, "before the backup was finished"},
		"began at another time": {func(m *Manifest) { m.Times.Began = m.Times.Began.Add(-time.Second) }, "not the time in its ID"},
		"times":                 {func(m *Manifest) { m.Times.Snapshot = other }, "times are not in order"},
		"no commit":             {func(m *Manifest) { m.Configuration.Commit = "main" }, "commit or release are none"},
		"no digest":             {func(m *Manifest) { m.Configuration.Release = "18.0.15" }, "commit or release are none"},
		"no policy":             {func(m *Manifest) { m.Policy = "" }, "policy, store or reason"},
		"long reason":           {func(m *Manifest) { m.Reason = strings.Repeat("x", maxText+1) }, "policy, store or reason"},
		"no recipient":          {func(m *Manifest) { m.Recipients = nil }, "recipients are missing"},
		"too many fingerprints": {func(m *Manifest) { m.Fingerprints = make([]postgres.Fingerprint, maxFingerprints+1) }, "fingerprints, and may have"},
	} {
		t.Run(name, func(t *testing.T) {
			id := sample(t, "prod-eu").ID
			m := sample(t, "prod-eu")
			test.change(m)
			_, err := read(bytes.NewReader(encoded(t, m)), "prod-eu", id)
			if !errors.Is(err, ErrManifest) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

// Only one text is the manifest.
func TestManifestForm(t *testing.T) {
	t.Parallel()
	m := sample(t, "prod-eu")
	data := string(encoded(t, m))
	got, err := read(strings.NewReader(data), "prod-eu", m.ID)
	if err != nil || string(encoded(t, got)) != data {
		t.Fatalf("got %+v, %v", got, err)
	}
	if len(got.Entries()) != 6 || got.Entries()[4].Sealed().Bytes != 100 {
		t.Errorf("entries: %+v", got.Entries())
	}
	m.Streams.Database.LockedUntil, m.Streams.Roles.LockedUntil, m.Streams.Configuration.LockedUntil, m.Streams.Attachments.LockedUntil = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	m.Packs, m.Filestore.Index.Packs, m.Filestore.Problems = nil, nil, nil
	if _, err := read(bytes.NewReader(encoded(t, m)), "prod-eu", m.ID); err != nil {
		t.Errorf("without locks and packs: %v", err)
	}
	compact := new(bytes.Buffer)
	if err := json.Compact(compact, []byte(data)); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"empty":           "",
		"cut in half":     data[:len(data)/2],
		"cut at its end":  data[:len(data)-1],
		"more behind it":  data + "{}",
		"twice":           data + data,
		"unknown field":   strings.Replace(data, `"policy"`, `"extra": 1, "policy"`, 1),
		"duplicate field": strings.Replace(data, `"policy": "shop"`, `"policy": "other", "policy": "shop"`, 1),
		"other case":      strings.Replace(data, `"policy"`, `"Policy"`, 1),
		"compact":         compact.String(),
		"null":            "null",
		"list":            "[]",
		"other type":      strings.Replace(data, `"store": "main"`, `"store": 1`, 1),
		"NUL":             strings.Repeat("\x00", len(data)),
		"too long":        strings.Repeat(" ", MaxManifest) + data,
		"deep":            strings.Repeat("[", 1<<20),
	} {
		if _, err := read(strings.NewReader(text), "prod-eu", m.ID); !errors.Is(err, ErrManifest) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	// Any flipped bit is either found here or changes a text that only the SHA-256 in the evidence log protects.
	broken := []byte(data)
	for i := range broken {
		broken[i] ^= 1 << (i % 8)
		got, err := read(bytes.NewReader(broken), "prod-eu", sample(t, "prod-eu").ID)
		if err == nil && !bytes.Equal(encoded(t, got), broken) {
			t.Fatalf("byte %d: what is read is not what is there", i)
		}
		broken[i] ^= 1 << (i % 8)
	}
	reading := errors.New("connection reset")
	if _, err := read(failing{reading}, "prod-eu", m.ID); !errors.Is(err, reading) || errors.Is(err, ErrManifest) {
		t.Errorf("a broken reader: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestID(t *testing.T) {
	t.Parallel()
	now := at(t, "2026-11-22T11:15:00.9+01:00")
	a, b := NewID("prod-eu", now), NewID("prod-eu", now.Add(time.Second))
	if a >= b || a == NewID("prod-eu", now) || !strings.HasPrefix(string(a), "20261122T101500Z-prod-eu-") || !a.Began().Equal(now.Truncate(time.Second)) {
		t.Errorf("got %s and %s", a, b)
	}
	if err := a.check("prod-eu"); err != nil {
		t.Error(err)
	}
	for _, wrong := range []ID{"", "20261122T101500Z", "20261122T101500Z-prod-eu", "20261122T101500Z-prod-abcdefgh", "20261122T101500Z-prod-eu-abcdefg", "20261122T101500Z-prod-eu-abcdefg1",
		"20261122T101500Z-prod-eu-ABCDEFGH", "20261322T101500Z-prod-eu-abcdefgh", "20261122T101500Z_prod-eu-abcdefgh", "20261122T101500Z-prod-eu_abcdefgh", "20261122T101500Z--abcdefgh",
		"20261122T101500Z-../..-abcdefgh", "20261122T101500Z-prod-eu-abcdefgh ", "20261122T101500Z-prod-eu-abc/efgh", "2026112ZT101500Z-prod-eu-abcdefgh"} {
		if err := wrong.check("prod-eu"); err == nil {
			t.Errorf("%q is an ID", string(wrong))
		}
	}
}

func FuzzManifest(f *testing.F) {
	data := encoded(f, sample(f, "prod-eu"))
	f.Add(data)
	f.Add(data[:100])
	id := sample(f, "prod-eu").ID
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := read(bytes.NewReader(data), "prod-eu", id)
		if err != nil {
			return
		}
		if !bytes.Equal(encoded(t, m), data) || m.ID != id {
			t.Errorf("accepts %q", data)
		}
		for _, e := range m.Entries() {
			if !strings.HasPrefix(e.Key, "prod-eu/") || !fs.ValidPath(e.Key) {
				t.Errorf("accepts the key %q", e.Key)
			}
		}
	})
}
