package backup

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/purser-gitops/purser/backup/filestore"
	"github.com/purser-gitops/purser/backup/postgres"
	"github.com/purser-gitops/purser/backup/seal"
	"github.com/purser-gitops/purser/backup/store"
)

// Format is the version of the manifest that this package writes and reads.
const Format = 1

// MaxManifest bounds a manifest, in bytes: S3 knows the SHA-256 of an object up to 16 MiB.
const MaxManifest = 15 << 20

// ErrManifest says that a manifest is not one, or not that of the backup that was asked for.
var ErrManifest = errors.New("the manifest is not that of the backup")

// A Manifest says what a backup consists of. It is written once and last, and never changed.
type Manifest struct {
	Format        int           `json:"format"`
	Environment   string        `json:"environment"`
	ID            ID            `json:"id"`
	Policy        string        `json:"policy"` // name of the BackupPolicy
	Store         string        `json:"store"`  // name of the store that it was written to
	Reason        string        `json:"reason"` // why it was made, as text for people
	Times         Times         `json:"times"`
	Configuration Configuration `json:"configuration"`

	Streams Streams `json:"streams"`
	Packs   []Entry `json:"packs,omitempty"` // that the attachments are in, sorted by key

	Postgres     postgres.Facts         `json:"postgres"`
	Fingerprints []postgres.Fingerprint `json:"fingerprints,omitempty"`
	Filestore    Filestore              `json:"filestore"`

	Recipients []string          `json:"recipients"` // public keys of age that it is sealed to
	Tools      map[string]string `json:"tools"`      // versions, such as that of purser
}

// Times of a backup, by the clock of whoever made it.
type Times struct {
	Began    time.Time `json:"began"`    // as in the ID, more precisely
	Snapshot time.Time `json:"snapshot"` // what was committed before is in the backup
	Finished time.Time `json:"finished"` // when all objects but the manifest were stored
}

// Configuration says what was declared and deployed.
type Configuration struct {
	Commit  string `json:"commit"`            // of the declarations
	Release string `json:"release,omitempty"` // digest of what is deployed, such as sha256:…; empty if nothing is
}

// Streams are the objects that belong to one backup alone.
type Streams struct {
	Database      Entry `json:"database"`
	Roles         Entry `json:"roles"`
	Configuration Entry `json:"configuration"`
	Attachments   Entry `json:"attachments"`
}

// An Entry is a sealed stream in the store.
type Entry struct {
	store.Object
	PlainSHA256 string `json:"plainSHA256"` // hexadecimal
	PlainBytes  int64  `json:"plainBytes"`
	ContentType string `json:"contentType"` // of the plain content
}

// Sealed is what reading the stream has to give.
func (e Entry) Sealed() seal.Sealed {
	return seal.Sealed{PlainSHA256: e.PlainSHA256, PlainBytes: e.PlainBytes, SHA256: e.SHA256, Bytes: e.Size}
}

// Filestore says what the stream of attachments amounts to.
type Filestore struct {
	Index      filestore.Index  `json:"index"`
	New        filestore.Amount `json:"new"` // what this backup copied
	Rows       int64            `json:"rows"`
	InDatabase int64            `json:"inDatabase"` // rows whose content is in the database, or a URL
	// Problems are how many contents of each kind the backup lacks.
	Problems map[filestore.Kind]int64 `json:"problems,omitempty"`
}

// named lists the streams by their names.
func (m *Manifest) named() []struct {
	name  string
	entry *Entry
} {
	return []struct {
		name  string
		entry *Entry
	}{
		{DatabaseName, &m.Streams.Database}, {RolesName, &m.Streams.Roles},
		{ConfigurationName, &m.Streams.Configuration}, {AttachmentsName, &m.Streams.Attachments},
	}
}

// Entries are all objects of the backup but the manifest: the streams, then the packs.
func (m *Manifest) Entries() []Entry {
	entries := make([]Entry, 0, 4+len(m.Packs))
	for _, s := range m.named() {
		entries = append(entries, *s.entry)
	}
	return append(entries, m.Packs...)
}

// encode gives the only form of the manifest.
func (m *Manifest) encode() ([]byte, error) {
	data, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return nil, err
	}
	if data = append(data, '\n'); len(data) > MaxManifest {
		return nil, fmt.Errorf("it has %d bytes, and may have %d", len(data), MaxManifest)
	}
	return data, nil
}

// read reads the manifest of a backup, to the end of r. Only the form that [Write] writes is one: each field once, in order,
// and nothing else.
func read(r io.Reader, environment string, id ID) (*Manifest, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxManifest+1))
	if err != nil {
		return nil, err
	}
	if len(data) > MaxManifest {
		return nil, fmt.Errorf("%w: it has more than %d bytes", ErrManifest, MaxManifest)
	}
	// What a later version adds is told apart from what is damaged.
	var head struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, fmt.Errorf("%w: it cannot be read: %w", ErrManifest, err)
	}
	if head.Format != Format {
		return nil, fmt.Errorf("%w: it has format %d, and this version of Purser reads %d", ErrManifest, head.Format, Format)
	}
	m := new(Manifest)
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(m); err != nil {
		return nil, fmt.Errorf("%w: it cannot be read: %w", ErrManifest, err)
	}
	if err := m.check(environment, id); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	same, err := m.encode()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	if !bytes.Equal(same, data) {
		return nil, fmt.Errorf("%w: it is not in the form in which manifests are written", ErrManifest)
	}
	return m, nil
}
