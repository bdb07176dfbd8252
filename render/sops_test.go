package render

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/aes"
	sopsage "github.com/getsops/sops/v3/age"
	"github.com/getsops/sops/v3/config"
	"github.com/getsops/sops/v3/keys"
	"github.com/getsops/sops/v3/keyservice"
	sopsjson "github.com/getsops/sops/v3/stores/json"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// sopsKey is an identity of one test run.
type sopsKey struct {
	identity *age.X25519Identity
	file     string
}

func newSOPSKey(t testing.TB) sopsKey {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "age.txt")
	if err := os.WriteFile(file, []byte("# a comment\n"+id.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return sopsKey{id, file}
}

// encrypt does what `sops --encrypt` does.
func (k sopsKey) encrypt(t testing.TB, name, plain, encryptedRegex string) string {
	t.Helper()
	return k.encryptWith(t, storeFor(name, []byte(plain)), plain, encryptedRegex)
}

// encryptBinary does what `sops --encrypt --input-type binary` does.
func (k sopsKey) encryptBinary(t testing.TB, plain string) string {
	t.Helper()
	return k.encryptWith(t, sopsjson.NewBinaryStore(&config.JSONBinaryStoreConfig{}), plain, "")
}

func (k sopsKey) encryptWith(t testing.TB, to store, plain, encryptedRegex string) string {
	t.Helper()
	master, err := sopsage.MasterKeyFromRecipient(k.identity.Recipient().String())
	if err != nil {
		t.Fatal(err)
	}
	store := to.(interface {
		LoadPlainFile([]byte) (sops.TreeBranches, error)
		EmitEncryptedFile(sops.Tree) ([]byte, error)
	})
	branches, err := store.LoadPlainFile([]byte(plain))
	if err != nil {
		t.Fatal(err)
	}
	tree := sops.Tree{Branches: branches, Metadata: sops.Metadata{
		KeyGroups: []sops.KeyGroup{{keys.MasterKey(master)}}, EncryptedRegex: encryptedRegex, Version: "3.13.3",
		LastModified: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
	}}
	if encryptedRegex == "" {
		tree.Metadata.UnencryptedSuffix = sops.DefaultUnencryptedSuffix
	}
	key, errs := tree.GenerateDataKeyWithKeyServices([]keyservice.KeyServiceClient{keyservice.NewLocalClient()})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	cipher := aes.NewCipher()
	mac, err := tree.Encrypt(key, cipher)
	if err != nil {
		t.Fatal(err)
	}
	tree.Metadata.MessageAuthenticationCode, err = cipher.Encrypt(mac, key, tree.Metadata.LastModified.Format(time.RFC3339))
	if err != nil {
		t.Fatal(err)
	}
	out, err := store.EmitEncryptedFile(tree)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

const secretManifest = `apiVersion: v1
kind: Secret
metadata:
    name: credentials
    # a comment with hidden words
stringData:
    username: odoo
    password: hidden-password
    empty: ""
data:
    token: aGlkZGVuLXRva2Vu
`

const secretsOnly = "^(data|stringData)$"

// sopsEstate is a base with an encrypted manifest, and an overlay that moves it.
func sopsEstate(manifest string, more ...string) string {
	return "-- base/kustomization.yaml --\nresources: [secret.yaml, web.yaml]\n-- base/secret.yaml --\n" + manifest +
		"-- base/web.yaml --\napiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers:\n  - {name: odoo, image: x, envFrom: [{secretRef: {name: credentials}}]}\n" +
		"-- env/kustomization.yaml --\nresources: [../base]\nnamespace: north-dev\nnamePrefix: n-\nlabels: [{pairs: {team: retail}}]\ncommonAnnotations: {owner: retail}\n" + strings.Join(more, "")
}

func find(t testing.TB, objs []*unstructured.Unstructured, kind string) *unstructured.Unstructured {
	t.Helper()
	for _, o := range objs {
		if o.GetKind() == kind {
			return o
		}
	}
	t.Fatalf("no %s", kind)
	return nil
}

func expectNothingHidden(t testing.TB, what, text string) {
	t.Helper()
	for _, s := range []string{"hidden", "aGlkZGVu", "AGE-SECRET-KEY"} {
		if strings.Contains(text, s) {
			t.Errorf("%s tells a secret: %.300s", what, text)
		}
	}
}

func TestSOPSManifest(t *testing.T) {
	key := newSOPSKey(t)
	dir := t.TempDir()
	writeFiles(t, dir, sopsEstate(key.encrypt(t, "secret.yaml", secretManifest, secretsOnly)))
	expectEqual(t, dir)
	tree := openTree(t, dir)
	res := mustRender(t, tree, "env")
	rel := mustRelease(t, res, nil, Binding{})
	encoded, err := rel.Encode()
	if err != nil {
		t.Fatal(err)
	}
	expectNothingHidden(t, "the encoded release", string(encoded))
	back, err := DecodeRelease(encoded)
	if err != nil {
		t.Fatal(err)
	}
	d := NewDecrypter(key.file)
	if err := d.VerifySource(tree, res.Inputs); err != nil {
		t.Fatal(err)
	}
	objs, err := d.Decrypt(back.Objects)
	if err != nil {
		t.Fatal(err)
	}
	s := find(t, objs, "Secret")
	want := `{"apiVersion":"v1","data":{"token":"aGlkZGVuLXRva2Vu"},"kind":"Secret","metadata":{"annotations":{"owner":"retail"},"labels":{"team":"retail"},"name":"n-credentials","namespace":"north-dev"},"stringData":{"empty":"","password":"hidden-password","username":"odoo"}}`
	if got, _ := canonicalJSON(s.Object); string(got) != want {
		t.Errorf("decrypted Secret is\n%s, want\n%s", got, want)
	}
	still, err := rel.Encode()
	if err != nil || !bytes.Equal(still, encoded) {
		t.Error("Decrypt changed the release's objects")
	}
	find(t, objs, "Pod").SetName("changed")
	if find(t, back.Objects, "Pod").GetName() != "n-web" {
		t.Error("a plain object is shared, not copied")
	}
}

func TestSOPSWholeFiles(t *testing.T) {
	key := newSOPSKey(t)
	plain := map[string]string{
		"a.yaml":   "password: hidden-1\nnested:\n    list:\n        - hidden-2\n",
		"a.json":   "{\n\t\"password\": \"hidden-3\"\n}",
		"a.env":    "PASSWORD=hidden-4\nUSER=odoo\n",
		"a.ini":    "[options]\npassword = hidden-5\n",
		"odoo.bin": "hidden-6\x01 raw\n",
	}
	files := "-- env/kustomization.yaml --\nsecretGenerator:\n- name: files\n  files: [a.yaml, a.json, a.env, a.ini, odoo.bin, renamed=a.yaml]\n"
	for name, text := range plain {
		if name == "odoo.bin" {
			files += "-- env/odoo.bin --\n" + key.encryptBinary(t, text) + "\n"
			continue
		}
		files += "-- env/" + name + " --\n" + key.encrypt(t, name, text, "")
	}
	dir := t.TempDir()
	writeFiles(t, dir, files)
	expectEqual(t, dir)
	tree := openTree(t, dir)
	res := mustRender(t, tree, "env")
	rel := mustRelease(t, res, nil, Binding{})
	d := NewDecrypter(key.file)
	if err := d.VerifySource(tree, res.Inputs); err != nil {
		t.Fatal(err)
	}
	objs, err := d.Decrypt(rel.Objects)
	if err != nil {
		t.Fatal(err)
	}
	plain["renamed"] = plain["a.yaml"]
	data := find(t, objs, "Secret").Object["data"].(map[string]any)
	for name, want := range plain {
		got, err := base64.StdEncoding.DecodeString(data[name].(string))
		if err != nil || strings.TrimSpace(string(got)) != strings.TrimSpace(want) {
			t.Errorf("%s is %q, want %q (%v)", name, got, want, err)
		}
	}
	if find(t, objs, "Secret").GetName() != find(t, rel.Objects, "Secret").GetName() {
		t.Error("decryption changed the name")
	}
}

func TestSOPSTampering(t *testing.T) {
	key := newSOPSKey(t)
	good := key.encrypt(t, "secret.yaml", secretManifest, secretsOnly)
	swap := func(s, a, b string) string {
		line := func(k string) string {
			_, rest, _ := strings.Cut(s, k+": ")
			v, _, _ := strings.Cut(rest, "\n")
			return v
		}
		va, vb := line(a), line(b)
		return strings.NewReplacer(a+": "+va, a+": "+vb, b+": "+vb, b+": "+va).Replace(s)
	}
	other := newSOPSKey(t).encrypt(t, "secret.yaml", secretManifest, secretsOnly)
	_, mac, _ := strings.Cut(other, "mac: ")
	mac, _, _ = strings.Cut(mac, "\n")
	_, own, _ := strings.Cut(good, "mac: ")
	own, _, _ = strings.Cut(own, "\n")
	for name, bad := range map[string]string{
		"a plain field":        strings.Replace(good, "name: credentials", "name: altered", 1),
		"a removed value":      removeLine(good, "username: ENC"),
		"swapped values":       swap(good, "username", "password"),
		"another file's MAC":   strings.Replace(good, own, mac, 1),
		"an added plain value": strings.Replace(good, "stringData:\n", "stringData:\n    extra: hidden-plain\n", 1),
	} {
		t.Run(name, func(t *testing.T) {
			if bad == good {
				t.Fatal("nothing was altered")
			}
			tree := treeOf(t, sopsEstate(bad))
			res := mustRender(t, tree, "env")
			err := NewDecrypter(key.file).VerifySource(tree, res.Inputs)
			var refused *RefusedError
			if !errors.As(err, &refused) || refused.File != "base/secret.yaml" {
				t.Errorf("error is %v, want a RefusedError for base/secret.yaml", err)
			}
			expectNothingHidden(t, "the error", fmt.Sprint(err))
			if name == "swapped values" {
				_, err := NewDecrypter(key.file).Decrypt(res.Objects)
				if err == nil {
					t.Error("swapped values are decrypted")
				}
				expectNothingHidden(t, "the error", fmt.Sprint(err))
			}
		})
	}
	whole := key.encrypt(t, "a.yaml", "a: hidden-1\nb: hidden-2\n", "")
	tree := treeOf(t, "-- env/kustomization.yaml --\nsecretGenerator: [{name: f, files: [a.yaml]}]\n-- env/a.yaml --\n"+removeLine(whole, "a: ENC"))
	if _, err := NewDecrypter(key.file).Decrypt(mustRender(t, tree, "env").Objects); !errors.Is(err, errMAC) {
		t.Errorf("error is %v, want %v", err, errMAC)
	}
}

func removeLine(s, part string) string {
	var kept []string
	for _, l := range strings.SplitAfter(s, "\n") {
		if !strings.Contains(l, part) {
			kept = append(kept, l)
		}
	}
	return strings.Join(kept, "")
}

func TestSOPSRefusals(t *testing.T) {
	key := newSOPSKey(t)
	good := key.encrypt(t, "secret.yaml", secretManifest, secretsOnly)
	value := func(s, k string) string {
		_, rest, _ := strings.Cut(s, k+": ")
		v, _, _ := strings.Cut(rest, "\n")
		return v
	}
	patch := func(p string) string { return "patches:\n- target: {kind: Secret}\n  patch: '" + p + "'\n" }
	second := key.encrypt(t, "secret.yaml", strings.Replace(secretManifest, "hidden-password", "hidden-second", 1), secretsOnly)
	for _, c := range []struct{ name, files, file, part string }{
		{"value from another file", sopsEstate(good, patch(`[{"op": "replace", "path": "/stringData/password", "value": "`+value(second, "password")+`"}]`)), "base/secret.yaml", "altered it"},
		{"value under another key", sopsEstate(good, patch(`[{"op": "copy", "from": "/stringData/password", "path": "/stringData/other"}]`)), "base/secret.yaml", "stringData.other"},
		{"altered metadata", sopsEstate(good, patch(`[{"op": "replace", "path": "/sops/mac", "value": "x"}]`)), "", "altered it"},
		{"removed metadata", sopsEstate(good, patch(`[{"op": "remove", "path": "/sops"}]`)), "base/secret.yaml", "without its metadata"},
		{"replacement into a ConfigMap", sopsEstate(good, "configMapGenerator: [{name: c, literals: [k=v]}]\nreplacements:\n- source: {kind: Secret, fieldPath: stringData.password}\n  targets: [{select: {kind: ConfigMap}, fieldPaths: [data.k]}]\n"),
			"base/secret.yaml", "Secrets only"},
		{"replacement into an annotation", sopsEstate(good, "replacements:\n- source: {kind: Secret, fieldPath: stringData.password}\n  targets: [{select: {kind: Secret}, fieldPaths: [metadata.annotations.k], options: {create: true}}]\n"),
			"base/secret.yaml", "more than its values"},
		{"another kind", "-- env/kustomization.yaml --\nresources: [x.yaml]\n-- env/x.yaml --\n" + key.encrypt(t, "x.yaml", strings.Replace(secretManifest, "kind: Secret", "kind: ConfigMap", 1), secretsOnly), "env/x.yaml", "Secrets only"},
		{"encrypted name", "-- env/kustomization.yaml --\nresources: [x.yaml]\n-- env/x.yaml --\n" + key.encrypt(t, "x.yaml", secretManifest, "^(name|data|stringData)$"), "env/x.yaml", "more than its values"},
		{"envs of a builtin", "-- env/kustomization.yaml --\ngenerators: [g.yaml]\n-- env/g.yaml --\n{apiVersion: builtin, kind: SecretGenerator, metadata: {name: s}, envs: [a.env]}\n-- env/a.env --\n" + key.encrypt(t, "a.env", "PASSWORD=hidden\n", ""), "env/a.env", "not a whole file"},
		{"merged file", "-- env/kustomization.yaml --\nresources: [../b]\npatches: [{target: {kind: Secret}, patch: '[{\"op\": \"replace\", \"path\": \"/data/a.yaml\", \"value\": \"" + base64.StdEncoding.EncodeToString([]byte(key.encrypt(t, "a.yaml", "a: hidden\n", ""))) + "\"}]'}]\n" +
			"-- b/kustomization.yaml --\nsecretGenerator: [{name: s, files: [a.yaml]}]\n-- b/a.yaml --\n" + key.encrypt(t, "a.yaml", "a: hidden\n", ""), "", "not a whole file"},
		{"PGP beside age", sopsEstate(withPGP(t, key)), "base/secret.yaml", "only age"},
		{"PGP in a whole file", "-- env/kustomization.yaml --\nsecretGenerator: [{name: s, files: [a=x.yaml]}]\n-- env/x.yaml --\n" + withPGP(t, key), "env/x.yaml", "only age"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := newRenderer(t, Options{}).Render(testContext(t), treeOf(t, c.files), "env")
			var refused *RefusedError
			if !errors.As(err, &refused) || !strings.Contains(refused.Reason, c.part) || refused.File != c.file || refused.Remedy == "" {
				t.Errorf("error is %v, want %q in %q", err, c.part, c.file)
			}
			expectNothingHidden(t, "the error", fmt.Sprint(err))
		})
	}
}

func withPGP(t testing.TB, key sopsKey) string {
	t.Helper()
	s := key.encrypt(t, "secret.yaml", secretManifest, secretsOnly)
	return strings.Replace(s, "sops:\n", "sops:\n    pgp:\n        - created_at: \"2026-03-01T12:00:00Z\"\n          enc: x\n          fp: 0000000000000000000000000000000000000000\n", 1)
}

// The renderer refuses other recipients; the decrypter does not rely on it.
func TestDecrypterTakesOnlyAge(t *testing.T) {
	key := newSOPSKey(t)
	manifest := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(withPGP(t, key)), &manifest.Object); err != nil {
		t.Fatal(err)
	}
	whole := object(t, `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a"}}`)
	whole.Object["data"] = map[string]any{"a.yaml": base64.StdEncoding.EncodeToString([]byte(withPGP(t, key)))}
	for _, o := range []*unstructured.Unstructured{manifest, whole} {
		_, err := NewDecrypter(key.file).Decrypt([]*unstructured.Unstructured{o})
		if err == nil || !strings.Contains(err.Error(), "only age") {
			t.Errorf("error is %v", err)
		}
	}
}

func TestDecrypterKeys(t *testing.T) {
	key, stranger := newSOPSKey(t), newSOPSKey(t)
	tree := treeOf(t, sopsEstate(key.encrypt(t, "secret.yaml", secretManifest, secretsOnly)))
	res := mustRender(t, tree, "env")
	garbage := filepath.Join(t.TempDir(), "garbage")
	if err := os.WriteFile(garbage, []byte(strings.Replace(key.identity.String(), "A", "B", 5)), 0o600); err != nil {
		t.Fatal(err)
	}
	// The library would look there for keys.
	t.Setenv("SOPS_AGE_KEY", key.identity.String())
	for name, c := range map[string]struct{ file, want string }{
		"another key": {stranger.file, "opens it"}, "no file": {"", "ageKeyFile"},
		"absent file": {filepath.Join(t.TempDir(), "gone"), "no such file"}, "garbage": {garbage, "no identities"},
	} {
		d := NewDecrypter(c.file)
		_, err := d.Decrypt(res.Objects)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want %q", name, err, c.want)
		}
		err2 := d.VerifySource(tree, res.Inputs)
		if err2 == nil || !strings.Contains(err2.Error(), c.want) {
			t.Errorf("%s: error is %v, want %q", name, err2, c.want)
		}
		expectNothingHidden(t, name, fmt.Sprint(err, err2, d))
		if strings.Contains(fmt.Sprint(err, err2), key.identity.String()[18:30]) {
			t.Errorf("%s: error tells the key", name)
		}
	}
	// The file is read at every use: a rotated key is seen.
	d := NewDecrypter(stranger.file)
	data, err := os.ReadFile(key.file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(stranger.file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Decrypt(res.Objects); err != nil {
		t.Error(err)
	}
	// Objects without ciphertext need no key.
	plain := mustRender(t, treeOf(t, twoEnvironments), "north")
	if objs, err := NewDecrypter("").Decrypt(plain.Objects); err != nil || len(objs) != len(plain.Objects) {
		t.Errorf("plain objects: %v", err)
	}
}

// A value that changes changes the release; a neighbour's does not.
func TestSOPSDigest(t *testing.T) {
	key := newSOPSKey(t)
	first := key.encrypt(t, "secret.yaml", secretManifest, secretsOnly)
	second := key.encrypt(t, "secret.yaml", strings.Replace(secretManifest, "hidden-password", "hidden-changed", 1), secretsOnly)
	digest := func(manifest string) string {
		return mustRelease(t, mustRender(t, treeOf(t, sopsEstate(manifest)), "env"), nil, Binding{}).Digest
	}
	if once, again := digest(first), digest(first); once != again || once == digest(second) {
		t.Error("the digest does not follow the ciphertext")
	}
	a := mustRelease(t, mustRender(t, treeOf(t, sopsEstate(first)), "env"), nil, Binding{})
	b := mustRelease(t, mustRender(t, treeOf(t, sopsEstate(second)), "env"), nil, Binding{})
	var text strings.Builder
	if err := FormatDiff(&text, Diff(a, b), false); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(text.String(), "ENC[") || !strings.Contains(text.String(), "stringData.password: (changed)") {
		t.Errorf("diff is\n%s", text.String())
	}
}
