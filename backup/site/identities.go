package site

import (
	"bytes"
	"fmt"

	"filippo.io/age"

	"github.com/purser-gitops/purser/sources/credential"
)

// maxIdentities bounds a file of identities, in bytes.
const maxIdentities = 64 << 10

// identities reads the file that a field of the configuration names. age's own errors may repeat what they read.
func identities(file, field string) ([]age.Identity, error) {
	if file == "" {
		return nil, fmt.Errorf("read age identities (%s): %w", field, ErrNotConfigured)
	}
	data, err := credential.ReadFile(file, maxIdentities)
	if err != nil {
		return nil, fmt.Errorf("read age identities (%s): %w", field, err)
	}
	defer clear(data)
	list, err := age.ParseIdentities(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("read age identities (%s): %s holds none that can be read: each is a line that begins with AGE-SECRET-KEY, as age-keygen prints it", field, file)
	}
	return list, nil
}
