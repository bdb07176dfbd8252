package statement

import (
	"context"
	"fmt"
	"strings"

	"github.com/purser-gitops/purser/sources"
)

// RefPrefix begins the names of the refs that hold statements; the ID follows.
const RefPrefix = "refs/purser/statements/"

const (
	payloadFile   = "statement.json"
	signatureFile = "statement.sig"
)

// Push stores a statement in the governance repository and gives the ref. Pushing the same again changes nothing; a
// statement that is there with another signature is [sources.ErrRefTaken].
func Push(ctx context.Context, url string, auth sources.Auth, signed Signed) (ref string, err error) {
	s, err := Decode(signed.Payload)
	if err != nil {
		return "", fmt.Errorf("push: %w", err)
	}
	ref = RefPrefix + signed.ID()
	_, err = sources.CreateRef(ctx, url, auth, ref, sources.Orphan{
		Files: map[string][]byte{payloadFile: signed.Payload, signatureFile: signed.Signature},
		Name:  "Purser", Email: "statement@purser.invalid", When: s.At,
		Message: fmt.Sprintf("Statement: %s\n\nStatement-Id: %s\n", s.Verb, signed.ID()),
	})
	if err != nil {
		return "", fmt.Errorf("push statement: %w", err)
	}
	return ref, nil
}

// objects are the commits of a [sources.Repository].
type objects interface {
	Parents(commit string) ([]string, error)
	Tree(commit string) (*sources.Tree, error)
}

// Read reads the statement that a ref stands for from the commit it points at. It fails when the commit is not exactly
// what [Push] makes, or the statement is another than the ref's name says. It does not say that anybody signed it:
// [Verify] does.
func Read(from objects, ref, commit string) (Signed, error) {
	s, err := read(from, commit)
	if err == nil && ref != RefPrefix+s.ID() {
		err = fmt.Errorf("its statement is %s", s.ID())
	}
	if err == nil {
		_, err = Decode(s.Payload)
	}
	if err != nil {
		return Signed{}, fmt.Errorf("read statement %s: %w", strings.TrimPrefix(ref, RefPrefix), err)
	}
	return s, nil
}

func read(from objects, commit string) (s Signed, err error) {
	parents, err := from.Parents(commit)
	if err != nil {
		return s, err
	}
	if len(parents) > 0 {
		return s, fmt.Errorf("commit %s has parents", commit)
	}
	tree, err := from.Tree(commit)
	if err != nil {
		return s, err
	}
	entries, err := tree.ReadDir("")
	if err != nil {
		return s, err
	}
	if len(entries) != 2 || entries[0].Name != payloadFile || entries[1].Name != signatureFile ||
		entries[0].IsDir || entries[0].IsLink || entries[1].IsDir || entries[1].IsLink {
		return s, fmt.Errorf("commit %s holds something else than the files %s and %s", commit, payloadFile, signatureFile)
	}
	if s.Payload, err = tree.ReadFile(payloadFile); err != nil {
		return s, err
	}
	if s.Signature, err = tree.ReadFile(signatureFile); err != nil {
		return s, err
	}
	if len(s.Payload) > maxPayload || len(s.Signature) > maxSignature {
		return s, fmt.Errorf("a file has more than %d bytes", maxPayload)
	}
	return s, nil
}
