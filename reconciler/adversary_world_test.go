package reconciler_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/sources/statement"
)

// besieged is a governed world whose first release is live. Attacks on it come one after the other.
type besieged struct {
	*world
	good     string // commit that main goes back to
	live     string // release
	versions string // of the objects
}

func besiege(t *testing.T, change func(*world)) *besieged {
	t.Helper()
	w := governed(t, func(w *world) {
		w.person("owner-1", "governance-owner")
		w.person("release-bot", "release-manager")
		w.write("purser/people/release-bot.yaml", strings.Replace(w.read("purser/people/release-bot.yaml"), "spec:", "spec:\n  bot: true", 1))
		w.write("purser/estate.yaml", "apiVersion: purser.dev/v1alpha1\nkind: Estate\nmetadata: {name: test}\n"+
			"spec: {governance: {signatures: required, approvals: [{count: 1, roles: [governance-owner]}]}}\n")
		w.write(kustomization, "resources: [../../base, objects.yaml]\n")
		w.write("base/kustomization.yaml", "resources: [common.yaml]\n")
		w.write("base/common.yaml", named("common", "one"))
		w.write("other/kustomization.yaml", "resources: [common.yaml]\n")
		w.write("other/common.yaml", named("common", "planted"))
		if change != nil {
			change(w)
		}
	})
	w.run()
	w.firstRelease()
	b := &besieged{world: w, live: w.untilLive("dev", "one")}
	b.settled()
	return b
}

// settled takes what is there now as what must stay.
func (b *besieged) settled() {
	b.t.Helper()
	b.good, b.versions = b.git("rev-parse", "HEAD"), b.resourceVersions()
	b.live = find(b.agent.Status(), "dev").Live.Release
}

func (w *world) read(name string) string {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join(w.work, name))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

func named(name, value string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {value: %q}\n", name, value)
}

// keepsOut makes an attack and waits until the agent has said no to it, with a gate, a reason and a remedy. Then main
// goes back to what was good.
func (b *besieged) keepsOut(name string, attack func()) {
	b.t.Helper()
	b.signedBy("developer-1")
	attack()
	head := b.git("rev-parse", "HEAD")
	b.until(name+" is denied", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		refused := dev.Refused != nil && strings.HasSuffix(dev.Refused.Revision.Revision, head)
		judged := dev.Verdict != nil && dev.Verdict.Answer != policy.Allow && strings.HasSuffix(dev.Proposed.Revision.Revision, head)
		if !refused && !judged || dev.Reason == "" {
			return fmt.Errorf("dev is %s: %s", dev.Outcome, dev.Reason)
		}
		return nil
	})
	b.stands(name)
	b.git("reset", "--quiet", "--hard", b.good)
	b.git("clean", "--quiet", "-fd")
	b.git("push", "--quiet", "--force", "origin", "HEAD:main")
	b.until(name+" is undone", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if dev.Proposed.Release != b.live || dev.Refused != nil {
			return fmt.Errorf("dev is %s: %s", dev.Outcome, dev.Reason)
		}
		return nil
	})
}

// stands checks that nothing of an attack went live, and that what is said about it is of use.
func (b *besieged) stands(name string) {
	b.t.Helper()
	dev := find(b.agent.Status(), "dev")
	if dev.Live.Release != b.live || b.resourceVersions() != b.versions {
		b.t.Errorf("%s: live is %s, not %s; objects changed from %s to %s", name, dev.Live.Release, b.live, b.versions, b.resourceVersions())
	}
	if dev.Verdict == nil {
		return
	}
	for _, g := range dev.Verdict.Gates {
		if g.Answer != policy.Allow && (g.Reason == "" || g.Hint == "" && g.Until == nil) {
			b.t.Errorf("%s: gate %s has no remedy: %s", name, g.Gate, g.Reason)
		}
	}
}

// goesOn checks that a good change still goes through, and that the whole log verifies and decides the same again.
func (b *besieged) goesOn() []evidence.Record {
	b.t.Helper()
	b.signedBy("developer-1")
	b.setValue("good")
	head := b.git("rev-parse", "HEAD")
	b.until("the good change waits", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if dev.Verdict == nil || !strings.HasSuffix(dev.Proposed.Revision.Revision, head) {
			return fmt.Errorf("dev is %s: %s", dev.Outcome, dev.Reason)
		}
		return nil
	})
	b.approves("release-manager-2")
	b.untilLive("dev", "good")
	records := b.records()
	clone := b.clone()
	for _, r := range records {
		if r.Type == evidence.TypeDecision {
			b.decidesTheSameAgain(clone, r)
		}
	}
	return records
}

// TestAdversaryWorldContent pushes content that nobody approved to a running agent.
func TestAdversaryWorldContent(t *testing.T) {
	t.Parallel()
	b := besiege(t, nil)
	link := func(name, target string) {
		file := filepath.Join(b.work, name)
		if err := os.RemoveAll(file); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, file); err != nil {
			t.Fatal(err)
		}
	}
	b.keepsOut("a signed change", func() { b.setValue("evil 1") })
	b.keepsOut("a neighbour's change of a shared base", func() {
		b.write("base/common.yaml", named("common", "evil"))
		b.push("For qa")
	})
	b.keepsOut("a base that was there before", func() {
		b.write(kustomization, "resources: [../../other, objects.yaml]\n")
		b.push("Use the other base")
	})
	b.keepsOut("a link for a base", func() { link("base", "other"); b.push("Link") })
	b.keepsOut("a renamed file", func() {
		b.git("mv", "apps/dev/objects.yaml", "apps/dev/OBJECTS.yaml")
		b.write("apps/dev/OBJECTS.yaml", configMaps(5, "evil 2"))
		b.write(kustomization, "resources: [../../base, OBJECTS.yaml]\n")
		b.push("Rename")
	})
	b.keepsOut("attributes", func() {
		b.write(".gitattributes", "* ident eol=crlf filter=evil\napps/dev/objects.yaml export-ignore\n")
		b.setValue("$Id$")
	})
	b.keepsOut("a submodule", func() {
		b.git("rm", "--quiet", "-r", "base")
		b.git("update-index", "--add", "--cacheinfo", "160000,"+strings.Repeat("1", 40)+",base")
		b.git("commit", "--quiet", "--message", "Submodule")
		b.git("push", "--quiet", "origin", "main")
	})
	b.keepsOut("something else than was approved", func() {
		b.setValue("two")
		head := b.git("rev-parse", "HEAD")
		b.until("it waits", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
			if dev.Verdict == nil || !strings.HasSuffix(dev.Proposed.Revision.Revision, head) {
				return fmt.Errorf("dev is %s: %s", dev.Outcome, dev.Reason)
			}
			return nil
		})
		b.write("apps/dev/objects.yaml", configMaps(5, "evil 3")) // approved and amended in one poll
		b.git("commit", "--quiet", "--all", "--amend", "--no-edit")
		b.git("push", "--quiet", "--force", "origin", "main")
		b.approves("release-manager-1")
	})
	b.keepsOut("edits in a merge", func() {
		b.git("checkout", "--quiet", "-b", "topic")
		b.write("README.md", "topic\n")
		b.git("add", "--all")
		b.git("commit", "--quiet", "--message", "Harmless")
		b.git("checkout", "--quiet", "main")
		b.signedBy("")
		b.git("merge", "--quiet", "--no-ff", "--no-commit", "topic")
		b.setValue("evil 4")
		b.git("branch", "--delete", "--force", "topic")
	})
	b.keepsOut("another history", func() {
		b.git("checkout", "--quiet", "--orphan", "other-history")
		b.write("apps/dev/objects.yaml", configMaps(5, "evil 5"))
		b.git("add", "--all")
		b.git("commit", "--quiet", "--message", "Another history")
		b.git("push", "--quiet", "--force", "origin", "HEAD:main")
		head := b.git("rev-parse", "HEAD")
		b.git("checkout", "--quiet", "--force", "main")
		b.git("reset", "--quiet", "--hard", head)
		b.git("branch", "--delete", "--force", "other-history")
	})
	b.keepsOut("a huge message", func() {
		message := filepath.Join(t.TempDir(), "message")
		if err := os.WriteFile(message, []byte(strings.Repeat("x", 1<<20)), 0o600); err != nil {
			t.Fatal(err)
		}
		b.write("apps/dev/objects.yaml", configMaps(5, "evil 6"))
		b.git("commit", "--quiet", "--all", "--file", message)
		b.git("push", "--quiet", "origin", "main")
	})
	b.goesOn()
}

// TestAdversaryWorldPeople has people sign, approve and state what they may not, to a running agent.
func TestAdversaryWorldPeople(t *testing.T) {
	t.Parallel()
	b := besiege(t, func(w *world) {
		w.write("purser/people/developer-2.yaml", strings.Replace(w.read("purser/people/developer-2.yaml"), "keys: [{", "keys: [{validBefore: 2026-01-01T00:00:00Z, ", 1))
	})
	proposed := func(head string) {
		b.until("it is judged", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
			if dev.Verdict == nil || !strings.HasSuffix(dev.Proposed.Revision.Revision, head) {
				return fmt.Errorf("dev is %s: %s", dev.Outcome, dev.Reason)
			}
			return nil
		})
	}
	heard := func() int {
		return strings.Count(b.logs.String(), "msg=statement ") + strings.Count(b.logs.String(), `msg="junk statement" `)
	}
	said := func(what string, before int) {
		b.until(what+" is heard", func(s reconciler.Status, dev reconciler.EnvironmentStatus) error {
			if heard := heard(); heard <= before {
				return fmt.Errorf("%d statements are heard", heard)
			}
			return nil
		})
	}
	say := func(person string, s statement.Statement) {
		before := heard()
		b.says(person, s)
		said(string(s.Verb), before)
	}
	b.keepsOut("an unsigned change", func() { b.signedBy(""); b.setValue("evil 7") })
	b.keepsOut("an expired key", func() {
		b.signedBy("developer-2")
		b.setValue("evil 8")
		proposed(b.git("rev-parse", "HEAD"))
		b.approves("release-manager-1")
	})
	b.keepsOut("the approval of the author, a bot and a co-author", func() {
		b.signedBy("release-manager-1")
		b.write("apps/dev/objects.yaml", configMaps(5, "evil 9"))
		b.push("Evil\n\nCo-authored-by: RM <release-manager-2@estate.example>")
		proposed(b.git("rev-parse", "HEAD"))
		for _, person := range []string{"release-manager-1", "release-manager-2", "release-bot", "developer-1", "owner-1"} {
			before := heard()
			b.approves(person)
			said("the approval of "+person, before)
		}
	})
	b.keepsOut("statements that may not be", func() {
		b.setValue("evil 10")
		proposed(b.git("rev-parse", "HEAD"))
		hour := time.Now().Add(time.Hour)
		say("developer-2", statement.Statement{Verb: statement.Override, Environment: "dev", Gates: []string{"approvals"}, Reason: "now", Ticket: "ERP-1", Expires: hour})
		say("release-bot", statement.Statement{Verb: statement.Override, Environment: "dev", Gates: []string{"approvals"}, Reason: "now", Ticket: "ERP-1", Expires: hour})
		say("release-manager-1", statement.Statement{Verb: statement.Override, Environment: "dev", Gates: []string{"isolation", "veto"}, Reason: "now", Ticket: "ERP-1", Expires: hour})
		dev := find(b.agent.Status(), "dev")
		say("release-manager-1", statement.Statement{Verb: statement.Approve, Environment: "dev", From: dev.Proposed.Release, To: b.live, Class: "standard", Expires: hour})
		say("release-manager-1", statement.Statement{Verb: statement.Approve, Environment: "dev", From: b.live, To: dev.Proposed.Release, Class: "low", Expires: hour})
	})
	b.keepsOut("an approval that is taken back in the same poll", func() {
		b.setValue("evil 11")
		proposed(b.git("rev-parse", "HEAD"))
		b.says("release-manager-2", statement.Statement{Verb: statement.Revoke, Statement: b.approves("release-manager-2"), Reason: "wrong"})
	})
	b.goesOn()
}

// TestAdversaryWorldPolicyAndTime loosens rules in the push that profits, and sets the clock, of a running agent.
func TestAdversaryWorldPolicyAndTime(t *testing.T) {
	t.Parallel()
	var offset atomic.Int64
	b := besiege(t, func(w *world) {
		w.settings.now = func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
	})
	b.keepsOut("a class that asks for nothing", func() {
		b.write("purser/standard.yaml", "apiVersion: purser.dev/v1alpha1\nkind: ReleaseClass\nmetadata: {name: standard}\nspec: {rank: 20}\n")
		b.setValue("evil 12")
	})
	b.keepsOut("another class, and a person who approves it", func() {
		b.write("purser/dev.yaml", b.environment("dev", "apps/dev", "class: low"))
		b.write("purser/people/developer-1.yaml", strings.Replace(b.read("purser/people/developer-1.yaml"), "[developer]", "[developer, governance-owner, release-manager]", 1))
		b.setValue("evil 13")
		b.approvesGovernance("developer-1")
	})
	b.keepsOut("declarations that are gone", func() {
		b.git("rm", "--quiet", "-r", "purser")
		b.setValue("evil 14")
	})
	b.keepsOut("a second environment of the namespace", func() {
		b.write("purser/twin.yaml", b.environment("twin", "apps/twin", ""))
		b.write("apps/twin/kustomization.yaml", "resources: [../dev]\n")
		b.setValue("evil 15")
	})
	b.keepsOut("an approval, with the clock back", func() {
		offset.Store(int64(-2 * time.Hour))
		b.setValue("evil 16")
		head := b.git("rev-parse", "HEAD")
		b.until("the clock is doubted", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
			if dev.Verdict == nil || !strings.HasSuffix(dev.Proposed.Revision.Revision, head) || !strings.Contains(dev.Reason, "the clock shows") {
				return fmt.Errorf("dev is %s: %s", dev.Outcome, dev.Reason)
			}
			return nil
		})
		before := strings.Count(b.logs.String(), "msg=statement ")
		b.approves("release-manager-2")
		b.until("the approval is heard", func(reconciler.Status, reconciler.EnvironmentStatus) error {
			if strings.Count(b.logs.String(), "msg=statement ") == before {
				return fmt.Errorf("not yet")
			}
			return nil
		})
	})
	offset.Store(0)
	b.goesOn()
}
