// Package attestation reads in-toto statements that were committed beside a release: DSSE envelopes with JSON statements
// of version 1 (https://github.com/in-toto/attestation/tree/main/spec/v1), signed with the SSH key of a person. The key ID
// of a signature is the key's fingerprint, SHA256:…, as ssh-keygen -l prints it.
package attestation

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/purser-gitops/purser/sources/identity"
)

// MaxBytes is the largest envelope that is read.
const MaxBytes = 1 << 20

const (
	payloadType   = "application/vnd.in-toto+json"
	statementType = "https://in-toto.io/Statement/v1"
	// TestResult is the predicate of test runs, whose result can be a failure.
	TestResult = "https://in-toto.io/attestation/test-result/v0.1"

	maxSignatures = 16
	maxSubjects   = 1000
)

// Attestation is an in-toto statement and the first of its signatures that counts, else of a person, else the first.
type Attestation struct {
	PredicateType string
	Subjects      []string // algorithm:value
	Failed        bool     // a test result that says so
	Signature     identity.Signature
}

type envelope struct {
	PayloadType string `json:"payloadType"`
	Payload     []byte `json:"payload"`
	Signatures  []struct {
		KeyID string `json:"keyid"`
		Sig   []byte `json:"sig"`
	} `json:"signatures"`
}

type statement struct {
	Type    string `json:"_type"`
	Subject []struct {
		Digest map[string]string `json:"digest"`
	} `json:"subject"`
	PredicateType string          `json:"predicateType"`
	Predicate     json.RawMessage `json:"predicate"`
}

// Read reads an envelope and judges its signatures. seen is when the agent first saw it. An error says that it is no
// attestation; whether anybody's signature counts is for the caller to ask.
func Read(data []byte, keyring *identity.Keyring, seen time.Time) (Attestation, error) {
	if len(data) > MaxBytes {
		return Attestation{}, fmt.Errorf("it has %d bytes, more than %d", len(data), MaxBytes)
	}
	var e envelope
	if err := decode(data, &e); err != nil {
		return Attestation{}, fmt.Errorf("read envelope: %w", err)
	}
	switch {
	case e.PayloadType != payloadType:
		return Attestation{}, fmt.Errorf("read envelope: payload type %.80q, want %q", e.PayloadType, payloadType)
	case len(e.Signatures) == 0 || len(e.Signatures) > maxSignatures:
		return Attestation{}, fmt.Errorf("read envelope: %d signatures, want 1 to %d", len(e.Signatures), maxSignatures)
	}
	var s statement
	if err := decode(e.Payload, &s); err != nil {
		return Attestation{}, fmt.Errorf("read statement: %w", err)
	}
	if s.Type != statementType || s.PredicateType == "" {
		return Attestation{}, fmt.Errorf("read statement: type %.80q, want %q and a predicate type", s.Type, statementType)
	}
	if len(s.Subject) > maxSubjects {
		return Attestation{}, fmt.Errorf("read statement: more than %d subjects", maxSubjects)
	}
	a := Attestation{PredicateType: s.PredicateType}
	for _, subject := range s.Subject {
		for algorithm, value := range subject.Digest {
			a.Subjects = append(a.Subjects, algorithm+":"+value)
		}
	}
	if err := a.result(s); err != nil {
		return Attestation{}, err
	}
	message := pae(e.PayloadType, e.Payload)
	for i, signature := range e.Signatures {
		judged := keyring.VerifyDetached(message, signature.KeyID, signature.Sig, seen)
		if i == 0 || judged.Counts() || a.Signature.Person == "" && judged.Person != "" {
			a.Signature = judged
		}
		if judged.Counts() {
			break
		}
	}
	return a, nil
}

// result reads what a test result says. One that does not say that all passed has failed.
func (a *Attestation) result(s statement) error {
	if s.PredicateType != TestResult {
		return nil
	}
	var p struct {
		Result string `json:"result"`
	}
	if err := json.Unmarshal(s.Predicate, &p); err != nil {
		return fmt.Errorf("read test result: %w", err)
	}
	a.Failed = p.Result != "PASSED" && p.Result != "WARNED"
	return nil
}

func decode(data []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows it")
	}
	return nil
}

// pae is DSSE's pre-authentication encoding (https://github.com/secure-systems-lab/dsse/blob/master/protocol.md).
func pae(kind string, payload []byte) []byte {
	out := []byte("DSSEv1 ")
	out = strconv.AppendInt(out, int64(len(kind)), 10)
	out = append(append(append(out, ' '), kind...), ' ')
	out = strconv.AppendInt(out, int64(len(payload)), 10)
	return append(append(out, ' '), payload...)
}
