package reconciler_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/purser-gitops/purser/health"
	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/reconciler/evidence"
)

// TestEncryptedSecretIsDecryptedInMemoryOnly applies a Secret that Git holds encrypted. Its value reaches the
// cluster and no other place: no record, blob, kept release, log or file of the agent.
func TestEncryptedSecretIsDecryptedInMemoryOnly(t *testing.T) {
	t.Parallel()
	const value = "correct-horse-battery"
	encrypted, err := os.ReadFile("testdata/sops/secret.yaml")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(w *world) {
		w.write("apps/dev/secret.yaml", string(encrypted))
		w.write(kustomization, "resources: [objects.yaml, secret.yaml]\n")
	})
	copyFile(t, "testdata/sops/age.txt", filepath.Join(w.dir, "age.txt"))
	w.settings.more = "  decryption: {ageKeyFile: age.txt}\n"
	w.run()
	w.untilLive("dev", "one")
	secret, err := w.kube.CoreV1().Secrets(w.namespace).Get(t.Context(), "pos", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if string(secret.Data["password"]) != value {
		t.Error("the Secret in the cluster does not hold the decrypted value")
	}
	w.write("apps/dev/secret.yaml", string(encrypted)+"# touched\n")
	w.setValue("two")
	w.untilLive("dev", "two")
	if strings.Contains(w.logs.String(), value) || strings.Contains(fmt.Sprintf("%+v", w.agent.Status()), value) {
		t.Error("the value is in the log or the status")
	}
	for _, r := range w.records() {
		if strings.Contains(string(r.Predicate), value) {
			t.Errorf("the value is in record %d", r.Index)
		}
	}
	w.nowhere(value)
}

// TestKeyThatIsGoneStallsRepair takes the key away that a release is decrypted with. The agent goes on, says what is missing,
// and repairs when the key is back.
func TestKeyThatIsGoneStallsRepair(t *testing.T) {
	t.Parallel()
	encrypted, err := os.ReadFile("testdata/sops/secret.yaml")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(w *world) {
		w.write("apps/dev/secret.yaml", string(encrypted))
		w.write(kustomization, "resources: [objects.yaml, secret.yaml]\n")
	})
	key := filepath.Join(w.dir, "age.txt")
	copyFile(t, "testdata/sops/age.txt", key)
	w.settings.more = "  decryption: {ageKeyFile: age.txt}\n"
	w.run()
	w.untilLive("dev", "one")
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	w.setByHand("c1", "by hand")
	w.until("the missing key is named", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if dev.Outcome != "stalled" || !strings.Contains(dev.Hint, "age key") {
			return fmt.Errorf("%s: %s (%s)", dev.Outcome, dev.Reason, dev.Hint)
		}
		return nil
	})
	copyFile(t, "testdata/sops/age.txt", key)
	w.push("Have all looked at again")
	w.untilRuns("one")
}

// nowhere checks that a value is in no file of the stopped agent and in no object of the audit repository.
func (w *world) nowhere(value string) {
	w.t.Helper()
	for _, dir := range []string{filepath.Join(w.dir, "data"), w.checkout()} {
		if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := os.ReadFile(path)
			if strings.Contains(string(text), value) {
				w.t.Errorf("the value is in %s", path)
			}
			return err
		}); err != nil {
			w.t.Fatal(err)
		}
	}
}

// checkout writes every object of the audit repository to files, in the clear.
func (w *world) checkout() string {
	w.t.Helper()
	dir := w.t.TempDir()
	for i, line := range strings.Split(w.auditGit("cat-file", "--batch-check", "--batch-all-objects"), "\n") {
		id, _, _ := strings.Cut(line, " ")
		text := w.auditGit("cat-file", "-p", id)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), []byte(text), 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
	return dir
}

// TestHTTPCheckHoldsTheLivePointer: objects are fine, the shop does not answer. The release is live only once
// it does, and whoever has to look is named.
func TestHTTPCheckHoldsTheLivePointer(t *testing.T) {
	t.Parallel()
	var open atomic.Bool
	shop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !open.Load() {
			http.Error(w, "closed", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, `{"status": "pass"}`)
	}))
	t.Cleanup(shop.Close)
	w := newWorld(t, func(w *world) {
		w.write("purser/dev.yaml", w.environment("dev", "apps/dev", fmt.Sprintf(
			"health:\n  timeout: 2s\n  http:\n    - {name: payment, url: %q, body: pass, cause: external}\n", shop.URL)))
	})
	w.run()
	w.until("the check is named with its cause", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if dev.Outcome != "stalled" || dev.Cause != health.External || !strings.Contains(dev.Reason, "payment") {
			return fmt.Errorf("dev is %s, cause %q: %s", dev.Outcome, dev.Cause, dev.Reason)
		}
		if dev.Live != nil {
			return errors.New("dev is live")
		}
		return nil
	})
	open.Store(true)
	w.untilLive("dev", "one")
	var transitions []string
	for _, r := range w.records() {
		if r.Type == evidence.TypeHealth {
			var p evidence.Health
			decode(t, r, &p)
			transitions = append(transitions, p.To+" "+p.Cause)
		}
	}
	if want := "Degraded external,Healthy "; strings.Join(transitions, ",") != want {
		t.Errorf("recorded %q, want %q", transitions, want)
	}
}
