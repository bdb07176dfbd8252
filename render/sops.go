package render

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"
	"sync"

	"github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/config"
	"github.com/getsops/sops/v3/logging"
	"github.com/getsops/sops/v3/stores/dotenv"
	"github.com/getsops/sops/v3/stores/ini"
	sopsjson "github.com/getsops/sops/v3/stores/json"
	sopsyaml "github.com/getsops/sops/v3/stores/yaml"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// SOPS writes each value as ENC[AES256_GCM,data:…,iv:…,tag:…,type:…] and its
// metadata (recipients, MAC) below the top-level key sops. See
// https://getsops.io/docs/ and github.com/getsops/sops/v3/aes.
const ciphertextMark = "ENC[AES256_GCM,"

var ciphertextRE = regexp.MustCompile(`^ENC\[AES256_GCM,data:[A-Za-z0-9+/=]+,iv:[A-Za-z0-9+/=]+,tag:[A-Za-z0-9+/=]+,type:[a-z]+\]$`)

func hasCiphertext(s string) bool { return strings.Contains(s, ciphertextMark) }

func isCiphertext(s string) bool { return ciphertextRE.MatchString(s) }

// store is the part of a SOPS store that decryption needs.
type store interface {
	LoadEncryptedFile([]byte) (sops.Tree, error)
	EmitPlainFile(sops.TreeBranches) ([]byte, error)
}

// storeFor chooses the store by the file's name as sops does, and by content
// where the name says nothing. A file that starts with "{" was never written by
// another store than JSON or binary; binary is what has data and sops alone and
// is not named .json.
func storeFor(name string, data []byte) store {
	ext := path.Ext(name)
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		var keys map[string]json.RawMessage
		if json.Unmarshal(data, &keys) == nil && len(keys) == 2 && keys["data"] != nil && keys["sops"] != nil && ext != ".json" {
			return sopsjson.NewBinaryStore(&config.JSONBinaryStoreConfig{Indent: -1})
		}
		return sopsjson.NewStore(&config.JSONStoreConfig{Indent: -1})
	}
	switch {
	case ext == ".env", ext != ".yaml" && ext != ".yml" && bytes.Contains(data, []byte("\nsops_mac=")):
		return dotenv.NewStore(&config.DotenvStoreConfig{})
	case ext == ".ini", ext != ".yaml" && ext != ".yml" && bytes.Contains(data, []byte("\n[sops]\n")):
		return ini.NewStore(&config.INIStoreConfig{})
	}
	return sopsyaml.NewStore(&config.YAMLStoreConfig{})
}

var quietOnce sync.Once

// loadSOPS parses an encrypted file. No error tells a value of it.
func loadSOPS(name string, data []byte) (tree sops.Tree, s store, err error) {
	// The library logs comments that it takes for unencrypted.
	quietOnce.Do(func() {
		for _, l := range logging.Loggers {
			l.SetOutput(io.Discard)
		}
	})
	defer func() {
		if recover() != nil {
			err = errNotSOPS
		}
	}()
	s = storeFor(name, data)
	tree, err = s.LoadEncryptedFile(data)
	if err != nil || tree.Metadata.MessageAuthenticationCode == "" {
		return sops.Tree{}, nil, errNotSOPS
	}
	return tree, s, nil
}

var errNotSOPS = errors.New("it has no readable SOPS metadata")

// onlyAge refuses recipients that would need a network, a program or another
// key than the agent's.
func onlyAge(m *sops.Metadata) error {
	for _, g := range m.KeyGroups {
		for _, k := range g {
			if k.TypeToIdentifier() != "age" {
				return fmt.Errorf("it is encrypted for a %s key, and only age is supported", k.TypeToIdentifier())
			}
		}
	}
	return nil
}

const ageRemedy = "encrypt it for the agent's age recipient alone (sops updatekeys)"

// encryptedSource is a Secret manifest encrypted by SOPS, as committed.
type encryptedSource struct {
	file   string
	sops   string // canonical JSON
	object map[string]any
}

// judgeCiphertext refuses ciphertext that cannot be decrypted later, or that is
// not what a source file holds: only then does the MAC of that file speak for it.
func judgeCiphertext(objs []*unstructured.Unstructured, content map[string][]byte) error {
	var encrypted []*unstructured.Unstructured
	for _, o := range objs {
		if _, ok := o.Object["sops"]; ok || anyString(o.Object, mayBeCiphertext) {
			encrypted = append(encrypted, o)
		}
	}
	if len(encrypted) == 0 {
		return nil
	}
	j := ciphertextJudge{content: content}
	if err := j.load(); err != nil {
		return err
	}
	for _, o := range encrypted {
		if err := j.object(o); err != nil {
			return err
		}
	}
	return nil
}

type ciphertextJudge struct {
	content   map[string][]byte
	manifests []encryptedSource
}

func (j *ciphertextJudge) load() error {
	for _, file := range sortedKeys(j.content) {
		data := j.content[file]
		if !bytes.Contains(data, []byte(ciphertextMark)) {
			continue
		}
		objs, err := parseObjects(string(data))
		if err != nil {
			continue // a whole file for a secretGenerator
		}
		for _, o := range objs {
			m, err := o.Map()
			if err != nil || m["sops"] == nil {
				continue
			}
			tree, _, err := loadSOPS(file, data)
			if err == nil {
				err = onlyAge(&tree.Metadata)
			}
			if err != nil {
				return &RefusedError{File: file, Reason: err.Error(), Remedy: ageRemedy}
			}
			id, err := canonicalJSON(m["sops"])
			if err != nil {
				return &RefusedError{File: file, Reason: err.Error(), Remedy: "encrypt the file again"}
			}
			j.manifests = append(j.manifests, encryptedSource{file: file, sops: string(id), object: m})
		}
	}
	return nil
}

// file finds a file that holds the text.
func (j *ciphertextJudge) file(text string) string {
	for _, f := range sortedKeys(j.content) {
		if bytes.Contains(j.content[f], []byte(text)) {
			return f
		}
	}
	return ""
}

func (j *ciphertextJudge) object(o *unstructured.Unstructured) error {
	ref := RefOf(o)
	if !ref.isSecret() {
		return &RefusedError{File: j.file(ciphertextIn(o.Object)), Object: ref.String(),
			Reason: "SOPS is decrypted in Secrets only", Remedy: "move the value into a Secret"}
	}
	rest := map[string]any{}
	for k, v := range o.Object {
		if k != "data" && k != "stringData" && k != "sops" {
			rest[k] = v
		}
	}
	if anyString(rest, hasCiphertext) {
		return &RefusedError{File: j.file(ciphertextIn(rest)), Object: ref.String(), Reason: "more than its values is encrypted, and Kustomize has to read the rest",
			Remedy: "encrypt with encrypted_regex: '^(data|stringData)$'"}
	}
	if meta, ok := o.Object["sops"]; ok {
		return j.manifest(o, meta)
	}
	return secretValues(o, func(field, key string, value any) error {
		text, _ := value.(string)
		if hasCiphertext(text) {
			return &RefusedError{File: j.file(text), Object: ref.String(),
				Reason: fmt.Sprintf("%s.%s is a SOPS value without its metadata, so it cannot be decrypted", field, key),
				Remedy: "encrypt a whole Secret manifest, or list a whole file in secretGenerator files"}
		}
		raw, ok := decodeBase64(text)
		if field != "data" || !ok || !hasCiphertext(string(raw)) {
			return nil
		}
		return j.wholeFile(ref, key, raw)
	})
}

// manifest judges a Secret that was committed as an encrypted manifest.
func (j *ciphertextJudge) manifest(o *unstructured.Unstructured, meta any) error {
	ref := RefOf(o)
	id, err := canonicalJSON(meta)
	if err != nil {
		return err
	}
	return secretValues(o, func(field, key string, value any) error {
		text, _ := value.(string)
		if !hasCiphertext(text) {
			return nil // plain: refused by NewRelease
		}
		file := ""
		for _, s := range j.manifests {
			if s.sops != string(id) {
				continue
			}
			file = s.file
			if source, _ := s.object[field].(map[string]any); source[key] == text {
				return nil
			}
		}
		return &RefusedError{File: file, Object: ref.String(),
			Reason: fmt.Sprintf("%s.%s is ciphertext that no encrypted source file holds for it: a patch or replacement altered it", field, key),
			Remedy: "change the value with sops in the encrypted file, and patch nothing in it but metadata"}
	})
}

// wholeFile judges a value that is a file of a secretGenerator.
func (j *ciphertextJudge) wholeFile(ref Ref, key string, raw []byte) error {
	for _, file := range sortedKeys(j.content) {
		if !bytes.Equal(j.content[file], raw) {
			continue
		}
		tree, _, err := loadSOPS(file, raw)
		if err == nil {
			err = onlyAge(&tree.Metadata)
		}
		if err != nil {
			return &RefusedError{File: file, Object: ref.String(), Reason: fmt.Sprintf("data.%s: %v", key, err), Remedy: ageRemedy}
		}
		return nil
	}
	return &RefusedError{File: j.file(string(raw)), Object: ref.String(),
		Reason: fmt.Sprintf("data.%s is ciphertext, but not a whole file that SOPS encrypted", key),
		Remedy: "list the encrypted file in secretGenerator files, not in envs or literals, and do not patch it"}
}

// mayBeCiphertext also finds it below base64.
func mayBeCiphertext(s string) bool {
	if hasCiphertext(s) {
		return true
	}
	if len(s) < 4*len(ciphertextMark)/3 {
		return false
	}
	raw, ok := decodeBase64(s)
	return ok && bytes.Contains(raw, []byte(ciphertextMark))
}

func anyString(v any, is func(string) bool) bool {
	switch v := v.(type) {
	case string:
		return is(v)
	case []any:
		for _, e := range v {
			if anyString(e, is) {
				return true
			}
		}
	case map[string]any:
		for k, e := range v {
			if is(k) || anyString(e, is) {
				return true
			}
		}
	}
	return false
}

// ciphertextIn gives one string of v that has ciphertext, or "".
func ciphertextIn(v any) string {
	got := "\x00"
	anyString(v, func(s string) bool {
		if hasCiphertext(s) {
			got, _, _ = strings.Cut(s, "\n")
		}
		return got != "\x00"
	})
	return got
}
