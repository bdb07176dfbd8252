package reconciler_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "code.gitea.io/sdk/gitea"

	"github.com/purser-gitops/purser/examples/lab/labtest"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/sources/statement"
)

// forgeCase is what people do about one pull request, and what the agent makes of it.
type forgeCase struct {
	name  string // of the environment
	class string
	play  func(f *forgeWorld, environment string)
	// What the gate approvals answers, and what it says. An allow means that the release goes live.
	answer policy.Answer
	says   []string
}

var forgeCases = []forgeCase{
	{name: "approved", play: func(f *forgeWorld, e string) {
		n := f.propose(f.dev, e)
		f.repo.Approve(f.manager, n)
		f.merge(n, sdk.MergeStyleMerge)
	}},
	{name: "squash", play: func(f *forgeWorld, e string) {
		f.edit(f.dev, e, "main", e, "1.5", "Begin")
		f.edit(f.dev, e, e, e, "two", "Say two")
		n := f.repo.Open(f.dev, e, "main")
		f.repo.Approve(f.manager, n)
		f.merge(n, sdk.MergeStyleSquash)
	}},
	{name: "rebase", play: func(f *forgeWorld, e string) {
		f.editFile(f.dev, e, e+"-more", "more.yaml", "main", e, "two", "Say two here")
		f.edit(f.dev, e, e, e, "two", "Say two there")
		n := f.repo.Open(f.dev, e, "main")
		f.repo.Approve(f.manager, n)
		f.merge(n, sdk.MergeStyleRebase)
	}},
	{name: "stale", play: func(f *forgeWorld, e string) {
		n := f.propose(f.dev, e)
		f.repo.Approve(f.manager, n)
		f.edit(f.dev, e, e, e, "three", "Say three instead")
		f.merge(n, sdk.MergeStyleMerge)
	}, answer: policy.Wait, says: []string{"needs 1 more of release-manager (release-manager-1, release-manager-2, release-manager-3)"}},
	{name: "dismissed", play: func(f *forgeWorld, e string) {
		n := f.propose(f.dev, e)
		id := f.repo.Approve(f.manager, n)
		if _, err := f.owner.API.DismissPullReview(f.owner.Login, f.repo.Name, n, id, sdk.DismissPullReviewOptions{Message: "no"}); err != nil {
			f.t.Fatal(err)
		}
		f.merge(n, sdk.MergeStyleMerge)
	}, answer: policy.Wait, says: []string{"needs 1 more of release-manager"}},
	{name: "objection", play: func(f *forgeWorld, e string) {
		n := f.propose(f.dev, e)
		f.repo.Approve(f.manager, n)
		f.review(f.manager, n, sdk.ReviewStateRequestChanges)
		f.merge(n, sdk.MergeStyleSquash)
	}, answer: policy.Wait, says: []string{"needs 1 more of release-manager"}},
	{name: "own", play: func(f *forgeWorld, e string) {
		n := f.propose(f.manager, e)
		if _, err := f.repo.Review(f.manager, n, sdk.ReviewStateApproved); err == nil {
			f.t.Error("Gitea took the author's approval")
		}
		f.repo.Approve(f.second, n) // the same person
		f.merge(n, sdk.MergeStyleMerge)
	}, answer: policy.Wait, says: []string{"needs 1 more of release-manager (release-manager-2, release-manager-3)", "release-manager-1 had a part in it (author)"}},
	{name: "co-author", play: func(f *forgeWorld, e string) {
		f.edit(f.dev, e, "main", e, "two", "Say two\n\nCo-authored-by: Somebody <"+f.manager.Email+">")
		n := f.repo.Open(f.dev, e, "main")
		f.repo.Approve(f.manager, n)
		f.merge(n, sdk.MergeStyleSquash)
	}, answer: policy.Wait, says: []string{"release-manager-1 had a part in it"}},
	{name: "pusher", play: func(f *forgeWorld, e string) {
		f.commitAs(f.dev, e, "two") // somebody else pushes it
		f.as(f.manager)
		f.git("push", "--quiet", "origin", "HEAD:refs/heads/"+e)
		n := f.repo.Open(f.dev, e, "main")
		f.repo.Approve(f.manager, n)
		f.merge(n, sdk.MergeStyleMerge)
	}, answer: policy.Wait, says: []string{"release-manager-1 had a part in it (pusher)"}},
	{name: "evil-merge", play: (*forgeWorld).mergeWithEdits, answer: policy.Wait, says: []string{
		"needs 1 more of release-manager (release-manager-1, release-manager-3)", "release-manager-2 had a part in it (merger)",
	}},
	{name: "admin-merge", play: func(f *forgeWorld, e string) {
		n := f.propose(f.dev, e)
		if _, _, err := f.owner.API.CreateBranchProtection(f.owner.Login, f.repo.Name, sdk.CreateBranchProtectionOption{RuleName: "main", RequiredApprovals: 1}); err != nil {
			f.t.Fatal(err)
		}
		f.repo.MergeWith(f.owner, n, sdk.MergePullRequestOption{Style: sdk.MergeStyleMerge, ForceMerge: true})
		if _, err := f.owner.API.DeleteBranchProtection(f.owner.Login, f.repo.Name, "main"); err != nil {
			f.t.Fatal(err)
		}
	}, answer: policy.Wait, says: []string{"needs 1 more of release-manager"}},
	{name: "bot", play: func(f *forgeWorld, e string) {
		n := f.propose(f.dev, e)
		f.repo.Approve(f.bot, n)
		f.merge(n, sdk.MergeStyleMerge)
	}, answer: policy.Wait, says: []string{"release-bot is a bot"}},
	{name: "two-accounts", class: "double", play: func(f *forgeWorld, e string) {
		n := f.propose(f.dev, e)
		f.repo.Approve(f.manager, n)
		f.repo.Approve(f.second, n)
		f.merge(n, sdk.MergeStyleMerge)
	}, answer: policy.Wait, says: []string{"needs 1 more of release-manager (release-manager-2, release-manager-3)"}},
	{name: "look-alike", play: func(f *forgeWorld, e string) {
		n := f.propose(f.dev, e)
		f.repo.Approve(f.stranger, n)
		f.merge(n, sdk.MergeStyleMerge)
	}, answer: policy.Wait, says: []string{"needs 1 more of release-manager"}},
	{name: "renamed", play: func(f *forgeWorld, e string) {
		n := f.propose(f.dev, e)
		f.repo.Approve(f.renamed, n)
		f.rename(f.renamed, f.renamed.Login+"-x")
		f.merge(n, sdk.MergeStyleMerge)
	}},
	{name: "login-taken", play: func(f *forgeWorld, e string) { // after the case before
		n := f.propose(f.dev, e)
		f.repo.Approve(f.stranger, n)
		f.rename(f.stranger, strings.TrimSuffix(f.renamed.Login, "-x"))
		f.merge(n, sdk.MergeStyleMerge)
	}, answer: policy.Wait, says: []string{"needs 1 more of release-manager"}},
	{name: "direct", play: func(f *forgeWorld, e string) {
		f.edit(f.owner, e, "main", "main", "two", "Say two")
	}, answer: policy.Deny, says: []string{"it is not signed and came by no pull request"}},
	{name: "fork", play: func(f *forgeWorld, e string) {
		if _, _, err := f.dev.API.CreateFork(f.owner.Login, f.repo.Name, sdk.CreateForkOption{}); err != nil {
			f.t.Fatal(err)
		}
		fork := *f
		repo := *f.repo
		repo.Owner, fork.repo, fork.owner = f.dev, &repo, f.dev
		fork.edit(f.dev, e, "main", "main", "two", "Say two")
		n := f.repo.Open(f.dev, f.dev.Login+":main", "main")
		f.repo.Approve(f.manager, n)
		f.merge(n, sdk.MergeStyleMerge)
	}, answer: policy.Wait, says: []string{"who pushed to pull request", "is not known"}},
	{name: "signed", class: "signed", play: func(f *forgeWorld, e string) {
		f.signedBy("developer-1")
		f.commitAs(f.dev, e, "two")
		f.signedBy("")
		f.git("push", "--quiet", "origin", "HEAD:refs/heads/"+e)
		n := f.repo.Open(f.dev, e, "main")
		f.repo.Approve(f.manager, n)
		f.merge(n, sdk.MergeStyleSquash)
	}},
	{name: "unsigned", class: "signed", play: func(f *forgeWorld, e string) {
		n := f.propose(f.dev, e)
		f.repo.Approve(f.manager, n)
		f.merge(n, sdk.MergeStyleMerge)
	}, answer: policy.Deny, says: []string{"who made it is unknown"}},
}

// commitAs commits "two" for an environment on top of main in the work tree, in an account's name.
func (f *forgeWorld) commitAs(by *labtest.GiteaUser, environment, value string) {
	f.t.Helper()
	f.as(by)
	f.git("fetch", "--quiet", "origin", "main")
	f.git("checkout", "--quiet", "--detach", "FETCH_HEAD")
	f.write("apps/"+environment+"/objects.yaml", oneObject(environment, value))
	f.git("commit", "--quiet", "--all", "--message", "Say "+value)
}

// mergeWithEdits merges an approved pull request on the machine of release-manager-2, with one more edit in the name of
// developer-1, and has it marked as merged.
func (f *forgeWorld) mergeWithEdits(environment string) {
	n := f.propose(f.dev, environment)
	f.repo.Approve(f.manager, n)
	f.as(f.other)
	f.git("fetch", "--quiet", "origin", "main", environment)
	f.git("checkout", "--quiet", "--detach", "origin/main")
	f.git("merge", "--quiet", "--no-ff", "--no-commit", "origin/"+environment)
	f.write("apps/"+environment+"/objects.yaml", oneObject(environment, "evil"))
	author := f.gitEnv
	f.as(f.dev)
	f.git("commit", "--quiet", "--all", "--message", "Merge "+environment)
	f.gitEnv = author
	f.git("push", "--quiet", "origin", "HEAD:main")
	f.repo.MergeWith(f.owner, n, sdk.MergePullRequestOption{Style: sdk.MergeStyleManuallyMerged, MergeCommitID: f.git("rev-parse", "HEAD")})
}

func (f *forgeWorld) rename(u *labtest.GiteaUser, login string) {
	f.t.Helper()
	if _, err := f.g.Admin.AdminRenameUser(u.Login, sdk.RenameUserOption{NewUsername: login}); err != nil {
		f.t.Fatal(err)
	}
	u.Login = login
}

// TestForgeBesideTheAgent has a forge fail, and people go on, while the agent runs.
func TestForgeBesideTheAgent(t *testing.T) {
	t.Parallel()
	f := newForgeWorld(t, map[string]string{"outage": "reviewed", "cached": "reviewed", "both": "reviewed", "again": "reviewed"})
	f.forgeFails(t)
	f.forgeAnswersAnOlderState(t)
	f.twoAtOnce(t)
	f.revertOfARevert(t)
	f.recorded(t, 1, map[string][]string{
		"outage": {"release-manager-1 review"}, "cached": {"release-manager-2 statement"},
		"both":  {"release-manager-1 statement", "release-manager-2 review"},
		"again": {"release-manager-1 review", "release-manager-1 review", "release-manager-2 statement"},
	})
}

// TestPullRequestsOnGitea plays what people do on a forge, and looks at what goes live.
func TestPullRequestsOnGitea(t *testing.T) {
	t.Parallel()
	classes := map[string]string{}
	for _, c := range forgeCases {
		classes[c.name] = "reviewed"
		if c.class != "" {
			classes[c.name] = c.class
		}
	}
	f := newForgeWorld(t, classes)
	f.protection(true, "branch main of estate is not protected: whoever may write to the project can push to it")
	f.stop() // it finds all that follows at once
	for _, c := range forgeCases {
		c.play(f, c.name)
	}
	if _, _, err := f.owner.API.CreateBranchProtection(f.owner.Login, f.repo.Name, sdk.CreateBranchProtectionOption{RuleName: "main", RequiredApprovals: 1}); err != nil {
		t.Fatal(err)
	}
	f.settings.interval = "10s" // so many that wait would ask the forge all the time
	f.run()
	f.protection(false, "branch main of estate is protected; who may land changes there without a review is unknown")
	f.untilAnswers("evil-merge", policy.Wait)
	f.approvesIn("release-manager-2", "evil-merge") // who made the edit
	f.agent.Reload()
	for _, c := range forgeCases {
		if c.answer == policy.Allow {
			f.untilRunning(c.name, "two")
		} else {
			f.untilAnswers(c.name, c.answer, c.says...)
		}
	}
	for _, c := range forgeCases {
		if c.answer == policy.Allow {
			continue
		}
		if err := f.answers(c.name, "approvals", c.answer, c.says...); err != nil {
			t.Errorf("%s: afterwards: %v", c.name, err)
		}
		if err := f.holds(c.name, "one"); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	f.recorded(t, 2, map[string][]string{
		"approved": {"release-manager-1 review"}, "squash": {"release-manager-1 review"}, "rebase": {"release-manager-1 review"},
		"renamed": {"release-manager-3 review"}, "signed": {"release-manager-1 review"},
	})
}

// protection waits until the agent knows how the branch is protected, which it tells wherever approvals are of interest.
func (f *forgeWorld) protection(known bool, says string) {
	f.t.Helper()
	f.untilAnswer("main", says, func() error {
		x, err := f.agent.Explain(f.t.Context(), "approved", f.settings.now())
		if err != nil {
			return err
		}
		if x.Protection == nil || x.Protection.Known != known || !strings.HasPrefix(x.Protection.Hint(), says) {
			return fmt.Errorf("%+v", x.Protection)
		}
		if s := f.agent.Status().Sources; len(s) != 1 || len(s[0].Branches) != 1 || s[0].Branches[0] != *x.Protection {
			return fmt.Errorf("the status says %+v", s)
		}
		return nil
	})
}

// recorded checks the log: the approvals that counted, and no others, and how often the branch's protection changed.
func (f *forgeWorld) recorded(t *testing.T, changes int, want map[string][]string) {
	records := f.records()
	clone := f.clone()
	got := approvalsIn(t, records)
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the approvals on record are %v, want %v", got, want)
	}
	protections := 0
	for _, r := range records {
		switch r.Type {
		case evidence.TypeDecision:
			f.decidesTheSameAgain(clone, r)
		case evidence.TypeProtection:
			protections++
		}
	}
	if protections != changes {
		t.Errorf("%d changes of the branch's protection are on record, want %d", protections, changes)
	}
}

// forgeFails merges while the forge gives no answer, in every way: the release waits, and goes on when the forge is back.
func (f *forgeWorld) forgeFails(t *testing.T) {
	n := f.propose(f.dev, "outage")
	f.repo.Approve(f.manager, n)
	f.proxy.set(cut)
	f.merge(n, sdk.MergeStyleMerge)
	f.untilAnswers("outage", policy.Wait, "who made it is unknown until the forge answers", "it cannot be reached")
	for _, fault := range []struct {
		answer func(http.ResponseWriter, *http.Request) bool
		says   string
	}{
		{saying(http.StatusNotFound, "application/json", `{"message": "not found"}`), "does not find it"},
		{saying(http.StatusNotFound, "text/plain", "not found"), "it answers 404"},
		{saying(http.StatusInternalServerError, "application/json", "{}"), "it answers 500"},
		{saying(http.StatusOK, "text/html", "<html>login</html>"), "is not the forge's JSON"},
		{saying(http.StatusOK, "application/json", `{"number": "seven"}`), "no usable answer"},
	} {
		f.proxy.set(fault.answer)
		f.untilAnswers("outage", policy.Wait, "until the forge answers", fault.says)
	}
	const pause = 3 * time.Second
	var mu sync.Mutex
	var asked []time.Time // by anybody, from the limit on
	f.proxy.set(func(w http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		if len(asked) == 0 && !strings.HasSuffix(r.URL.Path, "/pull") {
			return false
		}
		asked = append(asked, time.Now())
		if len(asked) > 1 {
			return false
		}
		w.Header().Set("Retry-After", fmt.Sprint(int(pause.Seconds())))
		return saying(http.StatusTooManyRequests, "application/json", "{}")(w, r)
	})
	f.untilAnswers("outage", policy.Wait, "rate limit, ask again in")
	f.untilRunning("outage", "two")
	f.proxy.set(nil)
	mu.Lock()
	defer mu.Unlock()
	// Others ask the forge as well: one request may have been on its way.
	for _, at := range asked[1:] {
		if after := at.Sub(asked[0]); after > pause/3 && after < pause {
			t.Errorf("a forge that wanted a pause of %s was asked again after %s", pause, after)
		}
	}
}

// forgeAnswersAnOlderState shows the agent a dismissed approval, and then the answer from before.
func (f *forgeWorld) forgeAnswersAnOlderState(t *testing.T) {
	n := f.propose(f.dev, "cached")
	id := f.repo.Approve(f.manager, n)
	older := f.reviewsOf(n)
	if _, err := f.owner.API.DismissPullReview(f.owner.Login, f.repo.Name, n, id, sdk.DismissPullReviewOptions{Message: "no"}); err != nil {
		t.Fatal(err)
	}
	f.merge(n, sdk.MergeStyleMerge)
	f.untilAnswers("cached", policy.Wait, "needs 1 more of release-manager (release-manager-1, release-manager-2, release-manager-3)")
	f.proxy.set(func(w http.ResponseWriter, r *http.Request) bool {
		return strings.HasSuffix(r.URL.Path, fmt.Sprintf("/pulls/%d/reviews", n)) && saying(http.StatusOK, "application/json", string(older))(w, r)
	})
	f.untilAnswers("cached", policy.Wait, "it said otherwise before")
	f.proxy.set(nil)
	f.untilAnswers("cached", policy.Wait, "needs 1 more of release-manager")
	if _, _, err := f.other.API.CreatePullReview(f.owner.Login, f.repo.Name, n, sdk.CreatePullReviewOptions{State: sdk.ReviewStateApproved}); err == nil {
		t.Error("Gitea took a review of what was merged: docs/forges.md says that it refuses it")
	}
	f.approvesIn("release-manager-2", "cached")
	f.untilRunning("cached", "two")
}

// twoAtOnce lands two pull requests that are released together: each is judged against its own authors.
func (f *forgeWorld) twoAtOnce(t *testing.T) {
	const e = "both"
	first := f.propose(f.dev, e)
	f.merge(first, sdk.MergeStyleMerge) // nobody approved it yet
	f.editFile(f.manager, e, e+"-more", "more.yaml", "main", e+"-more", "two", "Say two there, too")
	second := f.repo.Open(f.manager, e+"-more", "main")
	f.repo.Approve(f.other, second)
	f.merge(second, sdk.MergeStyleMerge)
	f.untilAnswer(e, "two landed changes", func() error {
		x, err := f.agent.Explain(t.Context(), e, f.settings.now())
		if err == nil && (len(x.Landed) != 2 || x.Landed[0].Pull == nil || x.Landed[1].Pull == nil) {
			err = fmt.Errorf("%+v", x.Landed)
		}
		return err
	})
	f.untilAnswers(e, policy.Wait, "needs 1 more of release-manager (release-manager-1, release-manager-2, release-manager-3)")
	f.untilAnswer(e, "proposed as a whole", func() error { // a statement is about the newest
		if p := find(f.agent.Status(), e).Proposed; p == nil || !strings.HasSuffix(p.Revision.Revision, f.repo.Head("main")) {
			return fmt.Errorf("%+v", p)
		}
		return nil
	})
	f.approvesIn("release-manager-1", e) // counts for the first, whose author is developer-1, and not for the own one
	f.untilRunning(e, "two")
}

// revertOfARevert brings back what was approved before: a way forward, which needs what any other release needs, and the veto
// to be lifted that the revert left.
func (f *forgeWorld) revertOfARevert(t *testing.T) {
	const e = "again"
	step := func(value string, approve bool) {
		t.Helper()
		branch := e + "-" + value + fmt.Sprint(approve)
		f.edit(f.dev, e, "main", branch, value, "Say "+value)
		n := f.repo.Open(f.dev, branch, "main")
		if approve {
			f.repo.Approve(f.manager, n)
		}
		f.merge(n, sdk.MergeStyleSquash)
	}
	step("two", true)
	f.untilRunning(e, "two")
	step("one", true)
	f.untilRunning(e, "one")
	step("two", false)
	f.untilAnswers(e, policy.Wait, " needs 1 more of release-manager")
	f.untilAnswer(e, "the rollback vetoes what it left", func() error { return f.answers(e, "veto", policy.Deny, "left it") })
	f.says("release-manager-1", statement.Statement{
		Verb: statement.Lift, Environment: e, To: find(f.agent.Status(), e).Proposed.Release, Reason: "the revert was wrong",
	})
	f.approvesIn("release-manager-2", e)
	f.untilRunning(e, "two")
}
