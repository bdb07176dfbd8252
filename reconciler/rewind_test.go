package reconciler_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/sources/statement"
)

// auditRefs are all refs of the audit remote, one a line.
func (w *world) auditRefs() string {
	return w.auditGit("for-each-ref", "--format", "%(refname) %(objectname)")
}

// rewindAudit sets the refs of the audit remote back to what they were.
func (w *world) rewindAudit(to string) {
	w.t.Helper()
	were := map[string]string{}
	for _, line := range strings.Split(to, "\n") {
		ref, commit, _ := strings.Cut(line, " ")
		were[ref] = commit
	}
	for _, line := range strings.Split(w.auditRefs(), "\n") {
		switch ref, _, _ := strings.Cut(line, " "); {
		case were[ref] == "":
			w.auditGit("update-ref", "-d", ref)
		default:
			w.auditGit("update-ref", ref, were[ref])
		}
	}
}

// untilPublished waits until the audit remote has every record.
func (w *world) untilPublished() {
	w.t.Helper()
	w.until("all is published", func(s reconciler.Status, _ reconciler.EnvironmentStatus) error {
		if s.Evidence.Spooled > 0 {
			return fmt.Errorf("%d records are spooled", s.Evidence.Spooled)
		}
		return nil
	})
}

// TestAuditRewound sets the audit remote back by a release. The agent that knows better says what would be forgotten; an empty
// directory with a pinned checkpoint is refused; without one nothing that runs is rolled back before a person has looked.
func TestAuditRewound(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) { w.person("release-manager-1", "release-manager") })
	w.run()
	w.untilLive("dev", "one")
	w.untilPublished()
	before, branch := w.auditRefs(), w.auditBranch()
	w.setValue("two")
	w.untilLive("dev", "two")
	w.says("release-manager-1", statement.Statement{Verb: statement.Resume, Environment: "dev", Reason: "heard again later, and no longer meant"})
	w.says("release-manager-1", statement.Statement{Verb: statement.Pause, Environment: "dev", Reason: "stock count"})
	w.until("the pause is heard", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if dev.Hold == nil {
			return fmt.Errorf("dev is %s: %s", dev.Outcome, dev.Reason)
		}
		return nil
	})
	w.untilPublished()
	tip, checkpoint := w.auditGit("rev-parse", branch), w.auditGit("show", branch+":checkpoint")+"\n"
	after := w.auditRefs()
	w.rewindAudit(before)

	w.setValue("three")
	w.until("the loss is reported", func(s reconciler.Status, dev reconciler.EnvironmentStatus) error {
		for _, words := range []string{"it was rewound, replaced or written by another", "git push '" + w.audit.URL + "' '" + tip + ":" + branch + "'", "instead forgets "} {
			if !strings.Contains(s.Evidence.Problem, words) {
				return fmt.Errorf("evidence does not say %q: %q", words, s.Evidence.Problem)
			}
		}
		return nil
	})
	w.stop()
	refused := func(when, words string) {
		t.Helper()
		agent, err := w.newAgent()
		if err == nil {
			_ = agent.Close()
		}
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s a start gives %v", when, err)
		}
	}
	refused("with its directory", "it was rewound, to the first ")
	refused("with its directory", "statement about dev")

	keys := w.dir
	w.moveMachine()
	copyFile(t, filepath.Join(keys, "key-release-manager-1"), w.key("release-manager-1"))
	if err := os.WriteFile(filepath.Join(w.dir, "checkpoint"), []byte(checkpoint), 0o600); err != nil {
		t.Fatal(err)
	}
	w.settings.more = "    checkpointFile: checkpoint\n"
	refused("with a pinned checkpoint", "the log does not contain the pinned checkpoint of ")

	w.settings.more = ""
	for _, line := range strings.Split(after, "\n") { // whoever sets back the branch alone leaves these
		if ref, commit, _ := strings.Cut(line, " "); strings.HasPrefix(ref, "refs/purser/keep/") {
			w.auditGit("update-ref", ref, commit)
		}
	}
	refused("with kept refs that are ahead", "it belongs to record ")
	w.rewindAudit(before)
	w.run()
	w.until("a person has to look", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if dev.Outcome != "stalled" || !strings.Contains(dev.Reason, "c0 bears the mark of a release that the log does not know") || !strings.Contains(dev.Hint, "purser resume dev") {
			return fmt.Errorf("dev is %s: %s (%s)", dev.Outcome, dev.Reason, dev.Hint)
		}
		if strings.Contains(dev.Reason, "more object") {
			t.Errorf("each number of such objects would make another record: %s", dev.Reason)
		}
		return nil
	})
	if err := w.runs(t.Context(), "two"); err != nil {
		t.Errorf("what runs was changed: %v", err)
	}
	w.says("release-manager-1", statement.Statement{Verb: statement.Resume, Environment: "dev", Reason: "nothing is missing"})
	w.untilLive("dev", "three")
	everyIntentHasOneOutcome(t, w.records())
}
