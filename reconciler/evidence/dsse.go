package evidence

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// payloadType is the DSSE type of an in-toto statement.
const payloadType = "application/vnd.in-toto+json"

// maxEnvelope bounds one record file, in bytes. Bulk belongs in blobs; the largest record is the state that opens a year,
// some KiB for each environment.
const maxEnvelope = 64 << 20

// envelope is a DSSE envelope (github.com/secure-systems-lab/dsse,
// envelope.md). The project's own few lines stand here instead of the
// reference library because that one prints to standard output when two keys
// share an ID and accepts two base64 alphabets; a test checks that it verifies
// what this writes.
type envelope struct {
	PayloadType string      `json:"payloadType"`
	Payload     []byte      `json:"payload"` // standard base64 in JSON
	Signatures  []signature `json:"signatures"`
}

type signature struct {
	KeyID string `json:"keyid"`
	Sig   []byte `json:"sig"`
}

// pae is DSSE's pre-authentication encoding (protocol.md).
func pae(typ string, payload []byte) []byte {
	out := make([]byte, 0, len(payload)+len(typ)+32)
	out = append(out, "DSSEv1 "...)
	out = strconv.AppendInt(out, int64(len(typ)), 10)
	out = append(out, ' ')
	out = append(out, typ...)
	out = append(out, ' ')
	out = strconv.AppendInt(out, int64(len(payload)), 10)
	out = append(out, ' ')
	return append(out, payload...)
}

// seal signs a statement and returns the bytes of its record file.
func seal(key *Key, payload []byte) ([]byte, error) {
	b64 := base64.StdEncoding
	data := make([]byte, 0, b64.EncodedLen(len(payload))+512)
	data = append(data, envelopeStart...)
	data = b64.AppendEncode(data, payload)
	data = append(data, `","signatures":[{"keyid":"`...)
	data = append(data, key.ID()...) // base64 and a colon: nothing to escape
	data = append(data, `","sig":"`...)
	data = b64.AppendEncode(data, key.sign(pae(payloadType, payload)))
	data = append(data, "\"}]}\n"...)
	if len(data) > maxEnvelope {
		return nil, fmt.Errorf("record of %d bytes, at most %d: %w", len(data), maxEnvelope, ErrTooLarge)
	}
	return data, nil
}

// envelopeStart is how [seal] begins an envelope. Others may write the same in
// another way.
const envelopeStart = `{"payloadType":"` + payloadType + `","payload":"`

// cutPayload gives the payload of an envelope that seal wrote.
func cutPayload(data []byte) ([]byte, bool) {
	text, ok := bytes.CutPrefix(data, []byte(envelopeStart))
	end := bytes.IndexByte(text, '"')
	if !ok || end < 0 {
		return nil, false
	}
	payload, err := base64.StdEncoding.AppendDecode(make([]byte, 0, end), text[:end])
	return payload, err == nil
}

// marshal encodes one line of JSON without HTML escapes, newline included.
func marshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// parseEnvelope reads the bytes of a record file. It checks no signature.
func parseEnvelope(data []byte) (envelope, error) {
	var e envelope
	if len(data) > maxEnvelope {
		return e, fmt.Errorf("envelope of %d bytes: %w", len(data), ErrTooLarge)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil {
		return e, fmt.Errorf("parse envelope: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return e, errors.New("parse envelope: data after its end")
	}
	if e.PayloadType != payloadType {
		return e, fmt.Errorf("parse envelope: payload type %q", e.PayloadType)
	}
	if len(e.Signatures) != 1 {
		return e, fmt.Errorf("parse envelope: %d signatures, want 1", len(e.Signatures))
	}
	return e, nil
}

// verify checks the signature with a key trusted for the writer.
func (e envelope) verify(trusted *Trusted, writer string) error {
	sig := e.Signatures[0]
	key, err := trusted.find(sig.KeyID, writer)
	if err != nil {
		return err
	}
	if !ed25519.Verify(key.raw, pae(e.PayloadType, e.Payload), sig.Sig) {
		return fmt.Errorf("signature by key %s does not match the payload", sig.KeyID)
	}
	return nil
}
