package evidence

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	statementType   = "https://in-toto.io/Statement/v1"
	predicatePrefix = "https://purser.dev/evidence/"
	predicateSuffix = "/v1"

	keepPrefix = "refs/purser/keep/"
	blobPrefix = "refs/purser/blobs/"

	// maxBlob bounds one blob and one kept file, in bytes.
	maxBlob = 64 << 20
)

// Subject names what a record is about, as in-toto's ResourceDescriptor.
type Subject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"` // algorithm → hex
}

// Draft is a record to be. Nothing in it may be a secret, except that the
// erasable parts belong in Blobs.
type Draft struct {
	Type        string // lower-case words with dashes: "apply"
	Environment string // "" for what concerns the agent or the estate
	Deployment  int    // number of the attempt within the environment; 0 for none
	// Key tells this happening from every other of the same type, environment
	// and deployment. Type, Environment, Deployment and Key make the record's
	// ID: appending the same again returns the record that exists.
	Key       []string
	Subjects  []Subject
	Predicate any // encoded as JSON; nil is {}
	Blobs     []Blob
	Keep      []Keep
}

// Blob is a bulky or personal part. It is stored outside the tree, on the
// month's own ref, so that it can be erased later.
type Blob struct {
	Name string
	Data []byte
}

// BlobRef is what a record says of a blob.
type BlobRef struct {
	Name   string `json:"name"`
	Digest string `json:"digest"` // "sha256:…" of the bytes
	Size   int64  `json:"size"`
	Ref    string `json:"ref"`    // refs/purser/blobs/<yyyy-mm>
	Object string `json:"object"` // Git blob ID
}

// Keep moves a keep ref to a new parentless commit with these files.
type Keep struct {
	Ref   string // refs/purser/keep/…
	Files map[string][]byte
}

// KeepRef is what a record says of a keep ref it moved.
type KeepRef struct {
	Ref    string `json:"ref"`
	Commit string `json:"commit"`
}

// Previous says where a writer's log was before this branch.
type Previous struct {
	Branch     string `json:"branch"`
	Records    uint64 `json:"records"`    // in all of the writer's earlier branches
	Checkpoint string `json:"checkpoint"` // final signed checkpoint of Branch
}

// Record is one entry of the log, its signature verified.
type Record struct {
	Index uint64 // position over all of the writer's branches, from 0
	Header
	Type      string
	Subjects  []Subject
	Predicate json.RawMessage
}

// Header is the part of the predicate that is alike in every record.
type Header struct {
	ID          string    `json:"id"`  // eventID of type, Environment, Deployment and Key
	Key         []string  `json:"key"` // as in the draft
	Writer      string    `json:"writer"`
	Branch      string    `json:"branch"` // without refs/heads/
	Epoch       int       `json:"epoch"`  // of the writer, from 1
	Gap         bool      `json:"gap,omitempty"`
	Seq         uint64    `json:"seq"` // position in the branch, from 0: leaf index and path
	Time        time.Time `json:"time"`
	Environment string    `json:"environment,omitempty"`
	Deployment  int       `json:"deployment,omitempty"`
	Blobs       []BlobRef `json:"blobs,omitempty"`
	Keep        []KeepRef `json:"keep,omitempty"`
	Previous    *Previous `json:"previous,omitempty"`
}

type statement struct {
	Type          string    `json:"_type"`
	Subject       []Subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	Predicate     predicate `json:"predicate"`
}

type predicate struct {
	Header Header          `json:"header"`
	Body   json.RawMessage `json:"body"`
}

var (
	typePattern   = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)
	namePattern   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)
	refPattern    = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$`)
	digestPattern = regexp.MustCompile(`^[0-9a-f]+$`)
)

// eventID is the ID of the record of a happening: the SHA-256 of the netstrings
// (length ":" bytes ",") of "purser-event-v1", type, environment, deployment in
// decimal, and each key.
func eventID(typ, environment string, deployment int, key []string) recordID {
	var b []byte
	put := func(s string) {
		b = append(append(strconv.AppendInt(b, int64(len(s)), 10), ':'), s...)
		b = append(b, ',')
	}
	put("purser-event-v1")
	put(typ)
	put(environment)
	put(strconv.Itoa(deployment))
	for _, k := range key {
		put(k)
	}
	return sha256.Sum256(b)
}

// check refuses drafts that could not be written or found again.
func (d Draft) check() error {
	if !typePattern.MatchString(d.Type) {
		return fmt.Errorf("record type %q: want lower-case words joined by dashes", d.Type)
	}
	if d.Environment != "" && !namePattern.MatchString(d.Environment) {
		return fmt.Errorf("environment %q is not a name", d.Environment)
	}
	if d.Deployment < 0 {
		return fmt.Errorf("deployment %d is negative", d.Deployment)
	}
	for _, k := range d.Key {
		if !utf8.ValidString(k) {
			return fmt.Errorf("key %q is not UTF-8", k)
		}
	}
	for _, s := range d.Subjects {
		if !utf8.ValidString(s.Name) {
			return fmt.Errorf("subject %q is not UTF-8", s.Name)
		}
		if len(s.Digest) == 0 {
			return fmt.Errorf("subject %q has no digest", s.Name)
		}
		for alg, hex := range s.Digest {
			if !namePattern.MatchString(alg) || !digestPattern.MatchString(hex) {
				return fmt.Errorf("subject %q: %q digest %q is not lower-case hex", s.Name, alg, hex)
			}
		}
	}
	for _, b := range d.Blobs {
		if b.Name == "" || !utf8.ValidString(b.Name) || len(b.Data) > maxBlob {
			return fmt.Errorf("blob %q of %d bytes: want a name and at most %d bytes", b.Name, len(b.Data), maxBlob)
		}
	}
	refs := map[string]bool{}
	for _, k := range d.Keep {
		if err := checkKeep(k); err != nil {
			return err
		}
		if refs[k.Ref] {
			return fmt.Errorf("keep ref %s is moved twice", k.Ref)
		}
		refs[k.Ref] = true
	}
	return nil
}

func checkKeep(k Keep) error {
	name, ok := strings.CutPrefix(k.Ref, keepPrefix)
	if !ok || !validRef(name) {
		return fmt.Errorf("keep ref %q: want a ref name under %s", k.Ref, keepPrefix)
	}
	for file, data := range k.Files {
		if !validRef(file) || len(data) > maxBlob {
			return fmt.Errorf("keep ref %s: file %q of %d bytes: want a relative path and at most %d bytes", k.Ref, file, len(data), maxBlob)
		}
	}
	return nil
}

// validRef is stricter than git-check-ref-format.
func validRef(name string) bool {
	return refPattern.MatchString(name) && !strings.Contains(name, "..") &&
		!strings.HasSuffix(name, ".") && !strings.Contains(name+"/", ".lock/") && !strings.Contains(name, "./")
}

// encodeStatement gives the payload of a record's envelope: a [statement], put
// together from parts so that the body is not encoded twice.
func encodeStatement(r Record) ([]byte, error) {
	subjects, err := marshal(r.Subjects)
	if err != nil {
		return nil, fmt.Errorf("encode subjects: %w", err)
	}
	header, err := marshal(r.Header)
	if err != nil {
		return nil, fmt.Errorf("encode header: %w", err)
	}
	b := make([]byte, 0, len(subjects)+len(header)+len(r.Predicate)+256)
	b = append(b, `{"_type":"`+statementType+`","subject":`...)
	b = append(b, subjects[:len(subjects)-1]...) // without its newline
	b = append(b, `,"predicateType":"`+predicatePrefix...)
	b = append(b, r.Type...)
	b = append(b, predicateSuffix+`","predicate":{"header":`...)
	b = append(b, header[:len(header)-1]...)
	b = append(b, `,"body":`...)
	b = append(b, r.Predicate...)
	return append(b, "}}"...), nil
}

// parseStatement reads an envelope's payload and checks what one record says of
// itself. base is the number of records in the writer's earlier branches.
func parseStatement(payload []byte, base uint64) (Record, error) {
	var s statement
	if err := json.Unmarshal(payload, &s); err != nil {
		return Record{}, fmt.Errorf("parse statement: %w", err)
	}
	typ, ok := strings.CutPrefix(s.PredicateType, predicatePrefix)
	if ok {
		typ, ok = strings.CutSuffix(typ, predicateSuffix)
	}
	if s.Type != statementType || !ok || !typePattern.MatchString(typ) {
		return Record{}, fmt.Errorf("parse statement: type %q with predicate %q", s.Type, s.PredicateType)
	}
	h := s.Predicate.Header
	if want := eventID(typ, h.Environment, h.Deployment, h.Key).String(); h.ID != want {
		return Record{}, fmt.Errorf("record ID %s is not that of its type, environment, deployment and key, %s", h.ID, want)
	}
	if h.Epoch < 1 || h.Writer == "" || h.Branch == "" || len(s.Subject) == 0 {
		return Record{}, errors.New("parse statement: epoch, writer, branch or subject is missing")
	}
	return Record{Index: base + h.Seq, Header: h, Type: typ, Subjects: s.Subject, Predicate: s.Predicate.Body}, nil
}

// openRecord parses and verifies the bytes of a record file.
func openRecord(data []byte, trusted *Trusted, base uint64) (Record, error) {
	e, err := parseEnvelope(data)
	if err != nil {
		return Record{}, err
	}
	r, err := parseStatement(e.Payload, base)
	if err != nil {
		return Record{}, err
	}
	return r, e.verify(trusted, r.Writer)
}

// parseRecord parses the bytes of a record file that were verified before.
func parseRecord(data []byte, base uint64) (Record, error) {
	if payload, ok := cutPayload(data); ok {
		return parseStatement(payload, base)
	}
	e, err := parseEnvelope(data)
	if err != nil {
		return Record{}, err
	}
	return parseStatement(e.Payload, base)
}

// digestOf is the digest as records write it.
func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}
