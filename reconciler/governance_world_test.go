package reconciler_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/statement"
)

// governed makes a world whose environment dev asks for a signature on every commit and the approval of a release
// manager.
func governed(t *testing.T, change func(*world)) *world {
	t.Helper()
	return newWorld(t, func(w *world) {
		w.person("developer-1", "developer")
		w.person("developer-2", "developer")
		w.person("release-manager-1", "release-manager")
		w.person("release-manager-2", "release-manager")
		w.write("purser/standard.yaml", `apiVersion: purser.dev/v1alpha1
kind: ReleaseClass
metadata: {name: standard}
spec:
  rank: 20
  signatures: required
  approvals: [{count: 1, roles: [release-manager]}]
`)
		w.write("purser/dev.yaml", w.environment("dev", "apps/dev", "class: standard"))
		if change != nil {
			change(w)
		}
	})
}

// firstRelease approves the first release of dev. One of the two may have made it.
func (w *world) firstRelease() {
	w.t.Helper()
	w.untilGate("approvals", policy.Wait, "first release")
	w.approves("release-manager-1")
	w.approves("release-manager-2")
}

// person declares somebody with a new key.
func (w *world) person(name, role string) {
	w.t.Helper()
	w.member(name, role, "emails: ["+name+"@estate.example]")
}

// member declares somebody with a new key; more is further YAML of the spec.
func (w *world) member(name, role, more string) {
	w.t.Helper()
	if w.estateName() == "" {
		w.write("purser/estate.yaml", "apiVersion: purser.dev/v1alpha1\nkind: Estate\nmetadata: {name: test}\nspec: {}\n")
	}
	key := w.key(name)
	if out, err := exec.CommandContext(w.t.Context(), "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", key).CombinedOutput(); err != nil {
		w.t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
	w.write("purser/people/"+name+".yaml", fmt.Sprintf(`apiVersion: purser.dev/v1alpha1
kind: Person
metadata: {name: %s}
spec:
  roles: [%s]
  keys: [{ssh: %s}]
%s`, name, role, w.publicKey(name), indent(more)))
}

func (w *world) key(name string) string { return filepath.Join(w.dir, "key-"+name) }

func (w *world) publicKey(name string) string {
	w.t.Helper()
	text, err := os.ReadFile(w.key(name) + ".pub")
	if err != nil {
		w.t.Fatal(err)
	}
	fields := strings.Fields(string(text))
	return fields[0] + " " + fields[1]
}

// signedBy makes somebody sign what is committed from now on; "" is nobody.
func (w *world) signedBy(name string) {
	w.t.Helper()
	if name == "" {
		w.git("config", "commit.gpgsign", "false")
		return
	}
	w.git("config", "gpg.format", "ssh")
	w.git("config", "user.signingkey", w.key(name))
	w.git("config", "commit.gpgsign", "true")
}

// says pushes a statement of a person and gives its ID.
func (w *world) says(person string, s statement.Statement) string {
	w.t.Helper()
	signed := w.signs(person, s)
	if _, err := statement.Push(w.t.Context(), w.estate.URL, w.settings.auth, signed); err != nil {
		w.t.Fatal(err)
	}
	return signed.ID()
}

// signs makes a statement of a person.
func (w *world) signs(person string, s statement.Statement) statement.Signed {
	w.t.Helper()
	signer, err := statement.LoadSigner(w.key(person), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if s.Statement == "" && s.Environment != statement.Governance {
		s.Estate = w.estateName()
	}
	if s.Statement == "" {
		s.Repository = w.address()
	}
	payload, err := statement.New(s, w.settings.now()).Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	signed, err := statement.Sign(payload, signer)
	if err != nil {
		w.t.Fatal(err)
	}
	return signed
}

// address is the governance repository, as statements name it.
func (w *world) address() string {
	w.t.Helper()
	address, err := sources.Address(w.estate.URL)
	if err != nil {
		w.t.Fatal(err)
	}
	return address
}

// estateName is the name of the Estate in the work tree; "" when there is none.
func (w *world) estateName() string {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join(w.work, "purser/estate.yaml"))
	if err != nil {
		return ""
	}
	_, name, _ := strings.Cut(string(text), "metadata: {name: ")
	name, _, _ = strings.Cut(name, "}")
	return name
}

// approves says that somebody approves what dev proposes now.
func (w *world) approves(person string) string { return w.approvesIn(person, "dev") }

func (w *world) approvesIn(person, environment string) string {
	w.t.Helper()
	dev := find(w.agent.Status(), environment)
	asked, err := w.agent.Explain(w.t.Context(), environment, w.settings.now())
	if err != nil {
		w.t.Fatal(err)
	}
	s := statement.Statement{Verb: statement.Approve, Environment: environment, To: dev.Proposed.Release, Class: asked.Class, Expires: w.settings.now().Add(time.Hour)}
	if dev.Approved != nil {
		s.From = dev.Approved.Release
	}
	return w.says(person, s)
}

// approvesGovernance says that somebody approves the declarations of the newest commit.
func (w *world) approvesGovernance(person string) string {
	w.t.Helper()
	return w.says(person, statement.Statement{
		Verb: statement.Approve, Environment: statement.Governance, To: w.git("rev-parse", "HEAD"), From: governanceCommit(w.t, w.agent.Status()),
		Expires: w.settings.now().Add(time.Hour),
	})
}

func governanceCommit(t *testing.T, s reconciler.Status) string {
	t.Helper()
	revision, err := sources.ParseRevision(s.Governance.Revision)
	if err != nil {
		t.Fatal(err)
	}
	return revision.Commit
}

// untilGate waits until a gate gives an answer about dev that says something.
func (w *world) untilGate(gate string, answer policy.Answer, says string) {
	w.t.Helper()
	w.until(fmt.Sprintf("gate %s answers %s: %s", gate, answer, says), func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if dev.Verdict == nil {
			return fmt.Errorf("no verdict: %s %s", dev.Outcome, dev.Reason)
		}
		for _, g := range dev.Verdict.Gates {
			if g.Gate == gate && (g.Answer != answer || !strings.Contains(g.Reason, says)) {
				return fmt.Errorf("%s: %s", g.Answer, g.Reason)
			}
		}
		return nil
	})
}

// setValue changes all objects of dev and pushes that.
func (w *world) setValue(value string) {
	w.t.Helper()
	w.write("apps/dev/objects.yaml", configMaps(5, value))
	w.push("Say " + value)
}

func TestReleaseWaitsForApproval(t *testing.T) {
	w := governed(t, nil)
	w.run()
	w.firstRelease()
	w.untilLive("dev", "one")

	w.signedBy("developer-1")
	w.setValue("two")
	w.untilGate("approvals", policy.Wait, "needs 1 more of release-manager (release-manager-1, release-manager-2)")
	w.approves("developer-2") // has not the role
	w.approves("release-manager-2")
	w.untilLive("dev", "two")

	w.signedBy("release-manager-1")
	w.setValue("three")
	w.untilGate("approvals", policy.Wait, "needs 1 more of release-manager (release-manager-2)")
	w.approves("release-manager-1") // the author
	w.until("the reason names the author", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if !strings.Contains(dev.Reason, "release-manager-1 had a part in it (signer)") {
			return errors.New(dev.Reason)
		}
		return nil
	})
	w.approves("release-manager-2")
	w.untilLive("dev", "three")

	w.signedBy("")
	w.setValue("four")
	w.untilGate("signatures", policy.Deny, "the commit is not signed")

	statements := 0
	records := w.records()
	clone := w.clone()
	for _, r := range records {
		switch r.Type {
		case evidence.TypeStatement:
			statements++
		case evidence.TypeDecision:
			w.decidesTheSameAgain(clone, r)
		}
	}
	if statements != 6 {
		t.Errorf("%d statements are recorded, not 6", statements)
	}
}

// decidesTheSameAgain evaluates a decision from its record.
func (w *world) decidesTheSameAgain(clone string, r evidence.Record) {
	w.t.Helper()
	if r.Environment == "" {
		return
	}
	var d evidence.Decision
	decode(w.t, r, &d)
	inputs, err := evidence.InputsOf(clone, []evidence.Record{r})
	if err != nil {
		w.t.Fatal(err)
	}
	again := inputs[0].Evaluate()
	for i, g := range d.Verdict.Gates {
		if a := again.Gates[i]; a.Gate != g.Gate || a.Answer != g.Answer || a.Reason != g.Reason {
			w.t.Errorf("record %d: %s: %s became %s: %s: %s", r.Index, g.Gate, g.Answer, g.Reason, a.Answer, a.Reason)
		}
	}
}

func TestDeletionsAreApproved(t *testing.T) {
	w := governed(t, func(w *world) { w.write("purser/dev.yaml", w.environment("dev", "apps/dev", "class: low")) })
	w.run()
	first := w.untilLive("dev", "one")
	w.write("apps/dev/objects.yaml", configMaps(1, "one"))
	w.push("Drop four of five")
	w.untilGate("prune", policy.Deny, "delete 4 of 5 objects")
	dev := find(w.agent.Status(), "dev")
	allow := statement.Statement{Verb: statement.ApproveDelete, Environment: "dev", From: first, To: dev.Proposed.Release, Expires: time.Now().Add(time.Hour)}
	w.says("developer-1", allow) // may not
	w.says("release-manager-1", allow)
	w.until("one object is left", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if len(dev.Inventory) != 1 || dev.Live.Release != dev.Proposed.Release {
			return fmt.Errorf("%d objects: %s", len(dev.Inventory), dev.Reason)
		}
		return nil
	})
	w.records()
}
