package evidence

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// originPrefix begins the first line of every checkpoint.
const originPrefix = "purser.dev/log/"

// maxCheckpoint bounds a checkpoint file, in bytes.
const maxCheckpoint = 8 << 10

// frontier is the right edge of an RFC 6962 Merkle tree: the roots of its
// complete subtrees, largest first. It is all that is needed to append.
type frontier struct {
	Size  uint64      `json:"size"`
	Roots []tlog.Hash `json:"roots"`
}

func (f frontier) clone() frontier {
	return frontier{Size: f.Size, Roots: append([]tlog.Hash(nil), f.Roots...)}
}

// add appends a leaf. Leaf data is a record file's exact bytes.
func (f *frontier) add(leaf tlog.Hash) {
	f.Roots = append(f.Roots, leaf)
	for n := f.Size; n&1 == 1; n >>= 1 {
		last := len(f.Roots) - 1
		f.Roots[last-1] = tlog.NodeHash(f.Roots[last-1], f.Roots[last])
		f.Roots = f.Roots[:last]
	}
	f.Size++
}

// root is the tree hash of RFC 6962, section 2.1.
func (f frontier) root() tlog.Hash {
	if len(f.Roots) == 0 {
		return sha256.Sum256(nil)
	}
	root := f.Roots[len(f.Roots)-1]
	for i := len(f.Roots) - 2; i >= 0; i-- {
		root = tlog.NodeHash(f.Roots[i], root)
	}
	return root
}

// valid says whether the number of roots fits the size.
func (f frontier) valid() bool {
	n := 0
	for s := f.Size; s > 0; s &= s - 1 {
		n++
	}
	return len(f.Roots) == n
}

// checkpoint is a C2SP tlog-checkpoint: a note of origin, size and root.
type checkpoint struct {
	Origin string    `json:"origin"`
	Size   uint64    `json:"size"`
	Root   tlog.Hash `json:"root"`
}

// origin names one branch of one writer; it is also the note key's name.
func origin(writer, branch string) string { return originPrefix + writer + "/" + branch }

func (c checkpoint) text() string {
	return fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, c.Root)
}

// sign gives the bytes of the branch's checkpoint file.
func (c checkpoint) sign(key *Key) ([]byte, error) {
	signer := noteSigner{name: c.Origin, key: key}
	data, err := note.Sign(&note.Note{Text: c.text()}, signer)
	if err != nil {
		return nil, fmt.Errorf("sign checkpoint: %w", err)
	}
	return data, nil
}

// parseCheckpoint reads a checkpoint without verifying it.
func parseCheckpoint(data []byte) (checkpoint, error) {
	if len(data) > maxCheckpoint {
		return checkpoint{}, fmt.Errorf("checkpoint of %d bytes: %w", len(data), ErrTooLarge)
	}
	text, _, ok := strings.Cut(string(data), "\n\n")
	lines := strings.Split(text, "\n")
	if !ok || len(lines) != 3 {
		return checkpoint{}, errors.New("parse checkpoint: want three lines, a blank one and signatures")
	}
	size, err := strconv.ParseUint(lines[1], 10, 63)
	if err != nil || strconv.FormatUint(size, 10) != lines[1] {
		return checkpoint{}, fmt.Errorf("parse checkpoint: size %q", lines[1])
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		return checkpoint{}, fmt.Errorf("parse checkpoint: root: %w", err)
	}
	if !strings.HasPrefix(lines[0], originPrefix) {
		return checkpoint{}, fmt.Errorf("parse checkpoint: origin %q", lines[0])
	}
	return checkpoint{Origin: lines[0], Size: size, Root: root}, nil
}

// openCheckpoint reads a checkpoint of the writer's branch and verifies that a
// trusted key signed it.
func openCheckpoint(data []byte, trusted *Trusted, writer, branch string) (checkpoint, error) {
	c, err := parseCheckpoint(data)
	if err != nil {
		return c, err
	}
	if want := origin(writer, branch); c.Origin != want {
		return c, fmt.Errorf("checkpoint is of %q, want %q", c.Origin, want)
	}
	var verifiers []note.Verifier
	for _, key := range trusted.forWriter(writer) {
		vkey, err := note.NewEd25519VerifierKey(c.Origin, key.raw)
		if err != nil {
			return c, fmt.Errorf("use key for checkpoint: %w", err)
		}
		v, err := note.NewVerifier(vkey)
		if err != nil {
			return c, fmt.Errorf("use key for checkpoint: %w", err)
		}
		verifiers = append(verifiers, v)
	}
	if _, err := note.Open(data, note.VerifierList(verifiers...)); err != nil {
		return c, fmt.Errorf("verify checkpoint: %w", err)
	}
	return c, nil
}

// noteSigner is a [note.Signer] over the writer's key.
type noteSigner struct {
	name string
	key  *Key
}

func (s noteSigner) Name() string { return s.name }

// KeyHash is as in [note.NewEd25519VerifierKey]: algorithm 1 is Ed25519.
func (s noteSigner) KeyHash() uint32 {
	h := sha256.New()
	h.Write([]byte(s.name + "\n\x01"))
	h.Write(s.key.public.raw)
	sum := h.Sum(nil)
	return uint32(sum[0])<<24 | uint32(sum[1])<<16 | uint32(sum[2])<<8 | uint32(sum[3])
}

func (s noteSigner) Sign(msg []byte) ([]byte, error) {
	return ed25519.Sign(s.key.private, msg), nil
}
