package evidence

import (
	"errors"
	"fmt"

	"github.com/go-git/go-git/v5/plumbing"
)

// ReadBlob gives a record's blob from a clone of the audit repository, after checking its digest. It is [ErrErased]
// where the blob is gone.
func ReadBlob(clone string, blob BlobRef) (_ []byte, err error) {
	repo, err := openRepository(clone)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, repo.close()) }()
	data, err := repo.read(plumbing.BlobObject, plumbing.NewHash(blob.Object), maxBlob)
	switch {
	case errors.Is(err, errMissing):
		return nil, fmt.Errorf("read blob %q: %w: it was deleted with its month, or refs/purser/* is not fetched", blob.Name, ErrErased)
	case err != nil:
		return nil, fmt.Errorf("read blob %q: %w", blob.Name, err)
	case digestOf(data) != blob.Digest:
		return nil, fmt.Errorf("read blob %q: it does not have the digest %s", blob.Name, blob.Digest)
	}
	return data, nil
}
