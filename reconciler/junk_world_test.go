package reconciler_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/purser-gitops/purser/examples/lab/labtest"
	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/sources/statement"
)

// Who pushes junk under the ID of a statement, its own bytes with another signature or none of it, does not keep it from being
// heard.
func TestJunkTakesNoStatementsPlace(t *testing.T) {
	w := governed(t, nil)
	w.run()
	w.firstRelease()
	w.untilLive("dev", "one")
	for i, junk := range []string{"{}\n", ""} {
		signed := w.signs("release-manager-1", statement.Statement{Verb: statement.Pause, Environment: "dev", Reason: fmt.Sprint("count ", i)})
		if junk == "" { // a stranger signs what they saw
			junk = string(signed.Payload)
		}
		ref := statement.RefPrefix + signed.ID()
		w.pushStatement(ref, junk, "no signature\n")
		labtest.Eventually(w.t, "the junk is heard", func(context.Context) error { return w.logged(ref) })
		w.pushStatement(ref, string(signed.Payload), string(signed.Signature))
		w.untilPaused(true)
		w.says("release-manager-1", statement.Statement{Verb: statement.Resume, Environment: "dev", Reason: "counted"})
		w.untilPaused(false)
	}
}

// pushStatement makes a ref hold what two files of a statement say, whatever it had.
func (w *world) pushStatement(ref, payload, signature string) {
	w.t.Helper()
	dir := w.t.TempDir()
	for name, text := range map[string]string{"statement.json": payload, "statement.sig": signature} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
	w.git("-C", dir, "init", "--quiet")
	w.git("-C", dir, "add", ".")
	w.git("-C", dir, "-c", "user.name=somebody", "-c", "user.email=somebody", "commit", "--quiet", "--no-gpg-sign", "-m", "Statement")
	w.git("fetch", "--quiet", dir, "HEAD")
	w.git("push", "--quiet", "--force", "origin", "FETCH_HEAD:"+ref)
}

func (w *world) untilPaused(want bool) {
	w.t.Helper()
	w.until(fmt.Sprintf("paused: %t", want), func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if (dev.Hold != nil) != want {
			return fmt.Errorf("held: %+v", dev.Hold)
		}
		return nil
	})
}
