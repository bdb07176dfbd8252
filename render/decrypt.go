package render

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/aes"
	sopsage "github.com/getsops/sops/v3/age"
	"github.com/getsops/sops/v3/keyservice"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/credential"
)

// maxKeyFile bounds the file of age identities, in bytes.
const maxKeyFile = 64 << 10

// Decrypter decrypts SOPS values in memory. It holds no key: the file is read at
// every use, so that rotation needs no restart.
type Decrypter struct{ keyFile string }

// NewDecrypter gives a decrypter with the age identities in ageKeyFile. With ""
// it passes plain objects through and refuses ciphertext.
func NewDecrypter(ageKeyFile string) *Decrypter { return &Decrypter{keyFile: ageKeyFile} }

// String tells nothing about the key.
func (d *Decrypter) String() string { return "decrypter" }

// Decrypt gives copies of objs with every SOPS value of a Secret decrypted and
// the SOPS metadata removed. No error tells a value or a key.
//
// A value that is a whole encrypted file is verified by its own MAC. The values
// of an encrypted manifest are bound to their key in the Secret by the cipher,
// and as a whole by [Decrypter.VerifySource].
func (d *Decrypter) Decrypt(objs []*unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
	out := make([]*unstructured.Unstructured, len(objs))
	var keys *ageKeys // read once for this call
	for i, o := range objs {
		out[i] = o.DeepCopy()
		if !RefOf(o).isSecret() || !anyString(o.Object, mayBeCiphertext) {
			if _, ok := o.Object["sops"]; ok && RefOf(o).isSecret() {
				delete(out[i].Object, "sops") // encrypted, but without values
			}
			continue
		}
		if keys == nil {
			k, err := d.keys()
			if err != nil {
				return nil, fmt.Errorf("decrypt %s: %w", RefOf(o), err)
			}
			keys = k
		}
		if err := keys.secret(out[i]); err != nil {
			return nil, fmt.Errorf("decrypt %s: %w", RefOf(o), err)
		}
	}
	return out, nil
}

// VerifySource verifies the MAC of every SOPS file among the inputs of a render
// of t, with only age recipients allowed. The error is a *[RefusedError] for a
// file that does not verify.
func (d *Decrypter) VerifySource(t *sources.Tree, in Inputs) error {
	var keys *ageKeys
	for _, i := range in {
		if i.Hash == hashAbsent || i.Hash == hashDir || strings.HasPrefix(i.Hash, hashLink) {
			continue
		}
		e, err := t.Lookup(i.Path)
		if err != nil {
			return fmt.Errorf("verify %q: %w", i.Path, err)
		}
		if e.IsDir {
			continue
		}
		data, err := t.ReadFile(i.Path)
		if err != nil {
			return fmt.Errorf("verify %q: %w", i.Path, err)
		}
		if !bytes.Contains(data, []byte(ciphertextMark)) || isKustomizationName(e.Name) {
			continue
		}
		if keys == nil {
			if keys, err = d.keys(); err != nil {
				return fmt.Errorf("verify %q: %w", i.Path, err)
			}
		}
		if _, err := keys.wholeFile(i.Path, data); err != nil {
			return &RefusedError{File: i.Path, Reason: err.Error(), Remedy: "encrypt it again with sops, for the agent's recipient; never edit ciphertext by hand", Err: err}
		}
	}
	return nil
}

// ageKeys is a key service that knows nothing but the agent's identities.
type ageKeys struct {
	keyservice.UnimplementedKeyServiceServer
	identities sopsage.ParsedIdentities
	file       string
}

var errNoKeyFile = errors.New("no age key file is configured (decryption.ageKeyFile in the agent's configuration)")

// keys reads the key file. Its content is in no error.
func (d *Decrypter) keys() (*ageKeys, error) {
	if d.keyFile == "" {
		return nil, errNoKeyFile
	}
	data, err := credential.ReadFile(d.keyFile, maxKeyFile)
	if err != nil {
		return nil, fmt.Errorf("read age key file: %w", err)
	}
	ids, err := age.ParseIdentities(strings.NewReader(string(data)))
	if err != nil || len(ids) == 0 {
		return nil, fmt.Errorf("read age key file %s: it holds no identities as age-keygen writes them", d.keyFile)
	}
	return &ageKeys{identities: ids, file: d.keyFile}, nil
}

// Decrypt implements [keyservice.KeyServiceServer] for data keys.
func (k *ageKeys) Decrypt(_ context.Context, req *keyservice.DecryptRequest) (*keyservice.DecryptResponse, error) {
	key, ok := req.GetKey().GetKeyType().(*keyservice.Key_AgeKey)
	if !ok {
		return nil, errors.New("not an age key")
	}
	m := sopsage.MasterKey{Recipient: key.AgeKey.GetRecipient(), EncryptedKey: string(req.GetCiphertext())}
	k.identities.ApplyToMasterKey(&m)
	plain, err := m.Decrypt()
	if err != nil {
		return nil, errors.New("no identity matches")
	}
	return &keyservice.DecryptResponse{Plaintext: plain}, nil
}

// dataKey opens the key that encrypts the values of one file.
func (k *ageKeys) dataKey(m *sops.Metadata) ([]byte, error) {
	if err := onlyAge(m); err != nil {
		return nil, err
	}
	key, err := m.GetDataKeyWithKeyServices([]keyservice.KeyServiceClient{keyservice.NewCustomLocalClient(k)}, nil)
	if err != nil {
		var recipients []string
		for _, g := range m.KeyGroups {
			for _, r := range g {
				recipients = append(recipients, r.ToString())
			}
		}
		return nil, fmt.Errorf("no identity in %s opens it; its recipients are %s", k.file, strings.Join(recipients, ", "))
	}
	return key, nil
}

// The library's own errors can quote values and are replaced.
var (
	errValue = errors.New("the value was altered, moved to another key, or belongs to another file")
	errMAC   = errors.New("the file was altered after SOPS encrypted it (its MAC does not match)")
)

// wholeFile decrypts a file, verifies its MAC and gives its plain bytes.
func (k *ageKeys) wholeFile(name string, data []byte) ([]byte, error) {
	tree, s, err := loadSOPS(name, data)
	if err != nil {
		return nil, err
	}
	key, err := k.dataKey(&tree.Metadata)
	if err != nil {
		return nil, err
	}
	cipher := aes.NewCipher()
	mac, err := tree.Decrypt(key, cipher)
	if err != nil {
		return nil, errMAC
	}
	want, err := cipher.Decrypt(tree.Metadata.MessageAuthenticationCode, key, tree.Metadata.LastModified.Format(time.RFC3339))
	if err != nil || want != mac {
		return nil, errMAC
	}
	plain, err := s.EmitPlainFile(tree.Branches)
	if err != nil {
		return nil, errors.New("its plain form cannot be written")
	}
	return plain, nil
}

// secret decrypts the values of one Secret in place.
func (k *ageKeys) secret(o *unstructured.Unstructured) error {
	meta, isManifest := o.Object["sops"]
	delete(o.Object, "sops")
	if isManifest {
		return k.manifest(o, meta)
	}
	return secretValues(o, func(field, name string, value any) error {
		text, _ := value.(string)
		raw, ok := decodeBase64(text)
		if field != "data" || !ok || !hasCiphertext(string(raw)) {
			return nil
		}
		plain, err := k.wholeFile(name, raw)
		if err != nil {
			return fmt.Errorf("%s.%s: %w", field, name, err)
		}
		o.Object[field].(map[string]any)[name] = base64.StdEncoding.EncodeToString(plain)
		return nil
	})
}

// manifest decrypts the values of an encrypted Secret manifest in place.
func (k *ageKeys) manifest(o *unstructured.Unstructured, meta any) error {
	data, err := json.Marshal(map[string]any{"sops": meta})
	if err != nil {
		return errNotSOPS
	}
	tree, _, err := loadSOPS("metadata.json", data)
	if err != nil {
		return err
	}
	key, err := k.dataKey(&tree.Metadata)
	if err != nil {
		return err
	}
	cipher := aes.NewCipher()
	return secretValues(o, func(field, name string, value any) error {
		text, _ := value.(string)
		if !hasCiphertext(text) {
			return nil
		}
		plain, err := cipher.Decrypt(text, key, field+":"+name+":")
		if err != nil {
			return fmt.Errorf("%s.%s: %w", field, name, errValue)
		}
		s, ok := plain.(string)
		if !ok {
			return fmt.Errorf("%s.%s: it is not a string: quote the value before encrypting it", field, name)
		}
		o.Object[field].(map[string]any)[name] = s
		return nil
	})
}
