package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/purser-gitops/purser/render"
)

// TestStatements has people work with a running agent from the command line: what they approve goes live.
func TestStatements(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	d.govern()
	d.purser(0, "init", "--config", d.config)
	d.start()

	// The first release: nobody is named as its author, so one person more than the class asks for answers for the whole.
	d.untilExplained(onItsWay, "(it is the environment's first release), of which it is unknown who made it, so that one person more than the class asks for has to approve, needs 2 more of release-manager")
	said := d.tells("release-manager-1", "approve", "dev")
	for _, want := range []string{"/settings created", "Signed by release-manager-1.", "Class        standard", "Proposed     estate main@"} {
		if !strings.Contains(said, want) {
			t.Errorf("approve does not say %q:\n%s", want, said)
		}
	}
	if strings.Contains(said, "WARNING") {
		t.Errorf("the clone renders something else:\n%s", said)
	}
	d.tells("release-manager-2", "approve", "dev")
	d.poll()
	d.untilLive("one")
	if said := d.purser(0, "explain", "dev", "--server", d.server); !strings.Contains(said, "nothing is proposed that is not approved") {
		t.Errorf("explain said\n%s", said)
	}
	if said := d.purser(1, "approve", "dev", "--key", d.key("release-manager-1"), "--yes", "--repo", d.work, "--server", d.server); !strings.Contains(said, "nothing is proposed") {
		t.Errorf("approving nothing said\n%s", said)
	}

	d.changeAndPause()
	d.takeBack()
	d.breakGlass()
	d.amend()
	d.stop()
}

// changeAndPause lets a signed change wait for its approval, and for the end of a pause.
func (d *daemon) changeAndPause() {
	d.t.Helper()
	d.signedBy("developer-1")
	d.release("two")
	d.poll()
	said := d.untilExplained(onItsWay, "needs 1 more of release-manager (release-manager-1, release-manager-2)")
	if !regexp.MustCompile(`Landed +[0-9a-f]{12} by developer-1 \(signer\)`).MatchString(said) {
		d.t.Errorf("explain does not say who made the change:\n%s", said)
	}
	if !regexp.MustCompile(`Changes +ConfigMap \S*settings configured`).MatchString(said) {
		d.t.Errorf("explain does not say what changes:\n%s", said)
	}
	if j := d.judged(); len(j.Changes) != 1 || !slices.Contains(j.Changes[0].Fields, render.FieldChange{Path: "data.value", Old: "one", New: "two"}) {
		d.t.Errorf("explain says to programs that it changes %+v", j.Changes)
	}
	if said := d.purser(onItsWay, "explain", "dev", "--server", d.server, "-o", "github"); !strings.Contains(said, "::warning title=dev%3A gate approvals::") {
		d.t.Errorf("explain says to CI\n%s", said)
	}
	other := "sha256:" + strings.Repeat("ab", 32)
	if said := d.purser(1, "approve", "dev", "--to", other, "--key", d.key("release-manager-1"), "--yes", "--repo", d.work, "--server", d.server); !strings.Contains(said, "the agent proposes sha256:") {
		d.t.Errorf("approving another release said\n%s", said)
	}
	d.tells("release-manager-1", "pause", "dev", "--reason", "stock count")
	d.tells("release-manager-2", "approve", "dev")
	d.poll()
	d.untilExplained(onItsWay, "paused by release-manager-1")
	d.tells("release-manager-2", "resume", "dev", "--reason", "counted")
	d.poll()
	d.untilLive("two")
}

// takeBack revokes an approval that was not enough, by a part of its ID.
func (d *daemon) takeBack() {
	d.t.Helper()
	d.release("three")
	d.poll()
	d.untilExplained(onItsWay, "needs 1 more")
	id := idIn(d.tells("release-manager-1", "approve", "dev", "--class", "low"))
	d.poll()
	d.untilExplained(onItsWay, `release-manager-1 approved it as class "low"`)
	if j := d.judged(); len(j.Statements) != 1 || j.Statements[0].ID != id {
		d.t.Errorf("statements in force: %+v", j.Statements)
	}
	d.tells("release-manager-1", "revoke", id[:12], "--reason", "wrong class")
	d.poll()
	d.eventually("the approval is taken back", func(context.Context) error {
		if j := d.judged(); len(j.Statements) != 0 {
			return fmt.Errorf("in force: %+v", j.Statements)
		}
		return nil
	})
	d.tells("release-manager-2", "approve", "dev")
	d.poll()
	d.untilLive("three")
}

// breakGlass overrides what an unsigned commit cannot pass, and has somebody else review that.
func (d *daemon) breakGlass() {
	d.t.Helper()
	d.signedBy("")
	d.release("four")
	d.poll()
	said := d.untilExplained(deniedExit, "the commit is not signed")
	if !strings.Contains(said, "→ ") {
		d.t.Errorf("explain gives no hint:\n%s", said)
	}
	id := idIn(d.tells("release-manager-1", "override", "dev", "--gate", "signatures", "--gate", "approvals", "--reason", "orders are lost", "--ticket", "ERP-911", "--expires", "1h"))
	d.poll()
	d.untilLive("four")
	d.tells("release-manager-2", "review", id[:8])
	d.poll()
	d.eventually("the override is reviewed", func(context.Context) error {
		if j := d.judged(); len(j.Overrides) != 1 || j.Overrides[0].Reviewer != "release-manager-2" {
			return fmt.Errorf("overrides: %+v", j.Overrides)
		}
		return nil
	})
}

// amend lets the declarations themselves wait for an approval.
func (d *daemon) amend() {
	d.t.Helper()
	d.signedBy("developer-1")
	d.write("purser/estate.yaml", estateOfTwo)
	d.push("Let declarations be approved")
	d.poll()
	d.untilGoverned()
	d.write("purser/standard.yaml", class("{count: 1, roles: [release-manager, developer]}"))
	d.push("Let developers approve")
	d.poll()
	d.eventually("the agent considers the declarations", func(context.Context) error { return d.says(http.StatusOK, "/api/v1/status", "governanceProposed") })
	d.write("purser/estate.yaml", strings.Replace(estateOfTwo, "shop", "shops", 1))
	d.push("Rename the estate")
	approve := []string{"approve", "governance", "--key", d.key("release-manager-2"), "--yes", "--repo", d.work, "--server", d.server}
	if said := d.purser(1, approve...); !strings.Contains(said, "it is not clear what is meant: the agent considers ") {
		d.t.Errorf("approving one of two commits said\n%s", said)
	}
	d.poll()
	d.eventually("the agent considers the newer declarations", func(context.Context) error {
		if code, said := d.command(append(approve, "--output", filepath.Join(d.t.TempDir(), "approval"))...); code != 0 {
			return errors.New(said)
		}
		return nil
	})
	_, status := d.command("status", "--server", d.server)
	if !regexp.MustCompile(`(?m)^governance main@sha1:[0-9a-f]{40} is not in force:\n  approvals: landed change [0-9a-f]{12} needs 1 more`).MatchString(status) {
		d.t.Errorf("status says of the declarations that wait\n%s", status)
	}
	said := d.tells("release-manager-2", "approve", "governance")
	if !strings.Contains(said, "Changes      purser/estate.yaml\nChanges      purser/standard.yaml\n") || !strings.Contains(said, "From         ") {
		d.t.Errorf("approving declarations said\n%s", said)
	}
	d.poll()
	d.untilGoverned()
}

const estateOfTwo = `apiVersion: purser.dev/v1alpha1
kind: Estate
metadata: {name: shop}
spec: {governance: {approvals: [{count: 1, roles: [release-manager]}]}}
`

func class(approval string) string {
	return fmt.Sprintf(`apiVersion: purser.dev/v1alpha1
kind: ReleaseClass
metadata: {name: standard}
spec: {rank: 20, signatures: required, approvals: [%s], override: {gates: [signatures, approvals]}}
`, approval)
}

// govern declares people, a class that asks for an approval, and dev as of this class.
func (d *daemon) govern() {
	d.t.Helper()
	for name, role := range map[string]string{"developer-1": "developer", "release-manager-1": "release-manager", "release-manager-2": "release-manager"} {
		if out, err := exec.CommandContext(d.t.Context(), "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", d.key(name)).CombinedOutput(); err != nil {
			d.t.Fatalf("ssh-keygen: %v\n%s", err, out)
		}
		public, err := os.ReadFile(d.key(name) + ".pub")
		if err != nil {
			d.t.Fatal(err)
		}
		d.write("purser/people/"+name+".yaml", fmt.Sprintf(`apiVersion: purser.dev/v1alpha1
kind: Person
metadata: {name: %s}
spec: {roles: [%s], keys: [{ssh: %s}]}
`, name, role, strings.TrimSuffix(strings.TrimSpace(string(public)), " "+name)))
	}
	d.write("purser/estate.yaml", strings.Replace(estateOfTwo, "governance: {approvals: [{count: 1, roles: [release-manager]}]}", "", 1))
	d.write("purser/standard.yaml", class("{count: 1, roles: [release-manager]}"))
	d.declare("dev", "apps/dev", "class: standard")
	d.release("one")
}

func (d *daemon) key(name string) string { return filepath.Join(d.dir, "key-"+name) }

// signedBy makes somebody sign what is committed from now on; "" is nobody.
func (d *daemon) signedBy(name string) {
	d.t.Helper()
	d.git("config", "gpg.format", "ssh")
	d.git("config", "user.signingkey", d.key(name))
	d.git("config", "commit.gpgsign", fmt.Sprint(name != ""))
}

// poll makes the agent look now.
func (d *daemon) poll() {
	d.t.Helper()
	d.signal(syscall.SIGHUP)
}

// tells makes a statement as somebody.
func (d *daemon) tells(person, verb, subject string, more ...string) string {
	d.t.Helper()
	return d.purser(0, append([]string{verb, subject, "--key", d.key(person), "--yes", "--repo", d.work, "--server", d.server}, more...)...)
}

// idIn finds a statement's ID in what the command said.
func idIn(said string) string { return regexp.MustCompile(`(?m)^[0-9a-f]{64}$`).FindString(said) }

// untilExplained waits until explain ends with a code and says something.
func (d *daemon) untilExplained(code int, says string) (said string) {
	d.t.Helper()
	d.eventually("explain says "+says, func(context.Context) error {
		var got int
		if got, said = d.command("explain", "dev", "--server", d.server); got != code || !strings.Contains(said, says) {
			return fmt.Errorf("it ends with %d: %s", got, said)
		}
		return nil
	})
	return said
}

// judged is what explain says to programs.
func (d *daemon) judged() (j judgement) {
	d.t.Helper()
	_, said := d.command("explain", "dev", "--server", d.server, "-o", "json")
	if err := json.Unmarshal([]byte(said), &j); err != nil {
		d.t.Errorf("explain -o json: %v\n%s", err, said)
	}
	return j
}

// untilGoverned waits until the declarations of the newest commit are in force.
func (d *daemon) untilGoverned() {
	d.t.Helper()
	out, err := exec.CommandContext(d.t.Context(), "git", "-C", d.work, "rev-parse", "HEAD").Output()
	if err != nil {
		d.t.Fatal(err)
	}
	head := strings.TrimSpace(string(out))
	d.eventually("the declarations are in force", func(context.Context) error {
		if j := d.judged(); j.Governance != head {
			return errors.New(j.Governance)
		}
		return nil
	})
}
