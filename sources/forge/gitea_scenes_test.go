package forge

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	sdk "code.gitea.io/sdk/gitea"

	"github.com/purser-gitops/purser/examples/lab/labtest"
)

// TestGiteaTellsOfAMerge plays what people do on a real Gitea and checks the facts that the approvals gate gets.
func TestGiteaTellsOfAMerge(t *testing.T) {
	p := newPeople(t)
	tests := []struct {
		name     string
		play     func(s *scene) string // returns the landed commit
		approved []string              // * means: not known to be of the merged head
		pushers  []string
		check    func(t *testing.T, s *scene, pr *PullRequest) // nil: nothing else
	}{
		{name: "approved at head", play: func(s *scene) string {
			s.Approve(s.manager, s.number)
			return s.merge(sdk.MergeStyleMerge)
		}, approved: names(p.manager), pushers: names(p.dev), check: checkWhole},
		{name: "stale after a push", play: func(s *scene) string {
			s.Approve(s.manager, s.number)
			s.push(s.dev, "One more")
			return s.merge(sdk.MergeStyleMerge)
		}, approved: []string{p.manager.Login + "*"}, pushers: names(p.dev)},
		{name: "dismissed", play: func(s *scene) string {
			id := s.Approve(s.manager, s.number)
			if _, err := s.owner.API.DismissPullReview(s.owner.Login, s.Name, s.number, id, sdk.DismissPullReviewOptions{Message: "no"}); err != nil {
				s.t.Fatal(err)
			}
			return s.merge(sdk.MergeStyleMerge)
		}, pushers: names(p.dev), check: func(t *testing.T, _ *scene, pr *PullRequest) {
			if len(pr.Reviews) != 1 || !pr.Reviews[0].Dismissed || pr.Reviews[0].State != Approved {
				t.Errorf("reviews are %+v", pr.Reviews)
			}
		}},
		{name: "changes requested after approval", play: func(s *scene) string {
			s.Approve(s.manager, s.number)
			s.review(s.manager, sdk.ReviewStateRequestChanges)
			return s.merge(sdk.MergeStyleMerge)
		}, pushers: names(p.dev)},
		{name: "approval after changes requested, then a comment", play: func(s *scene) string {
			s.review(s.manager, sdk.ReviewStateRequestChanges)
			s.Approve(s.manager, s.number)
			s.review(s.manager, sdk.ReviewStateComment)
			return s.merge(sdk.MergeStyleMerge)
		}, approved: names(p.manager), pushers: names(p.dev)},
		{name: "self-approval", play: func(s *scene) string {
			if _, err := s.Review(s.dev, s.number, sdk.ReviewStateApproved); err == nil {
				s.t.Error("Gitea took the author's approval: docs/forges.md says that it refuses it")
			}
			return s.merge(sdk.MergeStyleMerge)
		}, pushers: names(p.dev)},
		{name: "approval by a co-author", play: func(s *scene) string {
			s.push(s.dev, "Two of us\n\nCo-authored-by: D <"+s.other.Email+">")
			s.Approve(s.other, s.number)
			return s.merge(sdk.MergeStyleMerge)
		}, approved: names(p.other), pushers: names(p.dev), check: func(t *testing.T, s *scene, pr *PullRequest) {
			if last := pr.Commits[len(pr.Commits)-1]; !slices.Contains(last.Emails, s.other.Email) {
				t.Errorf("the last commit claims %v, not the co-author", last.Emails)
			}
		}},
		{name: "approval by the last pusher", play: func(s *scene) string {
			// The commit names the author alone; only the push is somebody else's.
			dir := s.Clone(s.other)
			s.Git(s.other, dir, "checkout", "--quiet", "change")
			s.Git(s.other, dir, "-c", "user.name=x", "commit", "--quiet", "--allow-empty", "-m", "Not mine")
			s.Git(s.dev, dir, "commit", "--quiet", "--amend", "--reset-author", "--allow-empty", "-m", "Not mine")
			s.Git(s.other, dir, "push", "--quiet", "origin", "change")
			s.Approve(s.other, s.number)
			return s.merge(sdk.MergeStyleMerge)
		}, approved: names(p.other), pushers: names(p.dev, p.other), check: func(t *testing.T, s *scene, pr *PullRequest) {
			for _, c := range pr.Commits {
				if c.Author.Login != s.dev.Login || c.Committer.Login != s.dev.Login {
					t.Errorf("commit %s is of %s and %s", c.SHA, c.Author.Login, c.Committer.Login)
				}
			}
		}},
		{name: "force push by another account", play: func(s *scene) string {
			s.Approve(s.manager, s.number)
			dir := s.Clone(s.other)
			s.Git(s.other, dir, "checkout", "--quiet", "change")
			s.Git(s.other, dir, "commit", "--quiet", "--amend", "-m", "Rewritten")
			s.Git(s.other, dir, "push", "--quiet", "--force", "origin", "change")
			return s.merge(sdk.MergeStyleMerge)
		}, approved: []string{p.manager.Login + "*"}, pushers: names(p.dev, p.other)},
		{name: "squash", play: func(s *scene) string {
			s.push(s.other, "Second")
			s.Approve(s.manager, s.number)
			return s.merge(sdk.MergeStyleSquash)
		}, approved: names(p.manager), pushers: names(p.dev, p.other), check: twoCommits},
		{name: "rebase onto a branch that moved", play: func(s *scene) string {
			s.push(s.other, "Second")
			s.Approve(s.manager, s.number)
			s.Commit(s.owner, "main", "meanwhile", "Meanwhile")
			return s.merge(sdk.MergeStyleRebase)
		}, approved: names(p.manager), pushers: names(p.dev, p.other), check: checkRebase},
		{name: "rebase and merge", play: func(s *scene) string {
			s.push(s.other, "Second")
			s.Approve(s.manager, s.number)
			s.Commit(s.owner, "main", "meanwhile", "Meanwhile")
			return s.merge(sdk.MergeStyleRebaseMerge)
		}, approved: names(p.manager), pushers: names(p.dev, p.other), check: twoCommits},
		{name: "fast-forward", play: func(s *scene) string {
			s.push(s.other, "Second")
			s.Approve(s.manager, s.number)
			return s.merge(sdk.MergeStyleFastForwardOnly)
		}, approved: names(p.manager), pushers: names(p.dev, p.other), check: func(t *testing.T, s *scene, pr *PullRequest) {
			if pr.MergeCommit != pr.Head {
				t.Errorf("merged as %s, head %s", pr.MergeCommit, pr.Head)
			}
			if middle := settled(t, p.client(t, s.GiteaRepo, nil), s.first); middle.Number != s.number {
				t.Errorf("the first commit belongs to %d", middle.Number)
			}
		}},
		{name: "merge with extra edits, marked as merged by hand", play: func(s *scene) string {
			s.Approve(s.manager, s.number)
			merge := s.mergeLocally("extra")
			return s.MergeWith(s.owner, s.number, sdk.MergePullRequestOption{Style: sdk.MergeStyleManuallyMerged, MergeCommitID: merge})
		}, approved: names(p.manager), pushers: names(p.dev)},
		{name: "administrator merges without approval", play: func(s *scene) string {
			s.protect()
			return s.MergeWith(s.owner, s.number, sdk.MergePullRequestOption{Style: sdk.MergeStyleMerge, ForceMerge: true})
		}, pushers: names(p.dev), check: func(t *testing.T, s *scene, pr *PullRequest) {
			if len(pr.Reviews) != 0 || pr.MergedBy.Login != s.owner.Login {
				t.Errorf("merged by %s with %+v", pr.MergedBy.Login, pr.Reviews)
			}
			protection, err := p.client(t, s.GiteaRepo, func(o *Options) { o.TokenFile = s.owner.TokenFile }).Protection(t.Context(), "main")
			if err != nil || !protection.Known || !protection.AdminBypass || protection.RequiredApprovals != 1 || !protection.DismissStale || protection.ForcePush {
				t.Errorf("protection is %+v, %v", protection, err)
			}
		}},
		{name: "approved for another base", play: func(s *scene) string {
			target := func(base string) {
				if _, _, err := s.dev.API.EditPullRequest(s.owner.Login, s.Name, s.number, sdk.EditPullRequestOption{Base: base}); err != nil {
					s.t.Fatal(err)
				}
			}
			s.CommitNew(s.dev, "sandbox", "meanwhile", "Reviewed by nobody")
			target("sandbox")
			s.Approve(s.manager, s.number)
			s.Approve(s.bot, s.number)
			nextSecond(s.t)
			target("main")
			nextSecond(s.t)
			s.Approve(s.bot, s.number)
			return s.merge(sdk.MergeStyleMerge)
		}, approved: names(p.bot), pushers: names(p.dev)},
		{name: "approval by a bot", play: func(s *scene) string {
			s.Approve(s.bot, s.number)
			return s.merge(sdk.MergeStyleMerge)
		}, approved: names(p.bot), pushers: names(p.dev), check: func(t *testing.T, _ *scene, pr *PullRequest) {
			if pr.Reviews[0].User.Bot {
				t.Error("Gitea says that an account is a bot: docs/forges.md says that it does not")
			}
		}},
		{name: "two accounts of one person", play: func(s *scene) string {
			s.Approve(s.other, s.number)
			s.Approve(s.manager, s.number)
			return s.merge(sdk.MergeStyleMerge)
		}, approved: names(p.other, p.manager), pushers: names(p.dev)},
		{name: "head branch goes on after the merge", play: func(s *scene) string {
			s.Approve(s.manager, s.number)
			merge := s.merge(sdk.MergeStyleMerge)
			later := s.push(s.dev, "Later")
			pull, _, err := s.owner.API.GetPullRequest(s.owner.Login, s.Name, s.number)
			if err != nil || pull.Head.Sha != later {
				s.t.Errorf("Gitea's own answer has the head %s, %v: docs/forges.md says that it moves on", pull.Head.Sha, err)
			}
			return merge
		}, approved: names(p.manager), pushers: names(p.dev)},
		{name: "head branch deleted after the merge", play: func(s *scene) string {
			s.Approve(s.manager, s.number)
			yes := true
			return s.MergeWith(s.owner, s.number, sdk.MergePullRequestOption{Style: sdk.MergeStyleSquash, DeleteBranchAfterMerge: &yes})
		}, approved: names(p.manager), pushers: names(p.dev)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := p.scene(t)
			landed := test.play(s)
			pr := settled(t, p.client(t, s.GiteaRepo, nil), landed)
			if pr.Number != s.number || pr.MergeCommit != landed || pr.Author.Login != s.dev.Login || pr.Author.ID != s.dev.ID || pr.Base != "main" {
				t.Errorf("the pull request is %+v", pr)
			}
			if got := standing(pr); !slices.Equal(got, test.approved) {
				t.Errorf("approved by %v, want %v", got, test.approved)
			}
			if pr.LandedBy.ID != s.owner.ID {
				t.Errorf("landed by %+v", pr.LandedBy)
			}
			if got := logins(pr.Pushers); !slices.Equal(got, test.pushers) || !pr.PushersKnown {
				t.Errorf("pushed by %v (known: %t), want %v", got, pr.PushersKnown, test.pushers)
			}
			if test.check != nil {
				test.check(t, s, pr)
			}
		})
	}
}

// checkWhole looks at everything once.
func checkWhole(t *testing.T, s *scene, pr *PullRequest) {
	t.Helper()
	r := pr.Reviews[0]
	if r.Head != s.first || r.Stale || r.Dismissed || r.User.ID != s.manager.ID || r.At.IsZero() {
		t.Errorf("the review is %+v", r)
	}
	if pr.State != "merged" || pr.Head != s.first || pr.HeadRef != "refs/pull/1/head" || pr.MergedAt.IsZero() || pr.URL == "" || len(pr.Digest) != 71 {
		t.Errorf("the pull request is %+v", pr)
	}
	if pr.MergedBy.Login != s.owner.Login {
		t.Errorf("merged by %s", pr.MergedBy.Login)
	}
	if len(pr.Commits) != 1 || pr.Commits[0].SHA != s.first || pr.Commits[0].Author.ID != s.dev.ID || pr.Commits[0].Committer.Login != s.dev.Login {
		t.Errorf("the commits are %+v", pr.Commits)
	}
}

// nextSecond waits for what comes next to have a later time: Gitea counts seconds.
func nextSecond(t testing.TB) {
	t.Helper()
	now := time.Now().Truncate(time.Second)
	labtest.Eventually(t, "a second has passed", func(context.Context) error {
		if !time.Now().Truncate(time.Second).After(now) {
			return errors.New("not yet")
		}
		return nil
	})
}

func twoCommits(t *testing.T, s *scene, pr *PullRequest) {
	t.Helper()
	if len(pr.Commits) != 2 || pr.Commits[0].SHA != s.first || pr.Commits[1].Author.Login != s.other.Login || pr.Commits[1].SHA != pr.Head {
		t.Errorf("the commits are %+v", pr.Commits)
	}
}

// checkRebase asks for every commit of main: both rebased ones belong to the pull request, the ones below do not.
func checkRebase(t *testing.T, s *scene, pr *PullRequest) {
	t.Helper()
	twoCommits(t, s, pr)
	s.Commit(s.owner, "main", "afterwards", "Afterwards")
	commits, _, err := s.owner.API.ListRepoCommits(s.owner.Login, s.Name, sdk.ListCommitOptions{SHA: "main"})
	if err != nil || len(commits) != 5 {
		t.Fatalf("main has %d commits, %v", len(commits), err)
	}
	c := s.client(t, s.GiteaRepo, nil)
	for i, want := range []bool{false, true, true, false, false} {
		got, err := c.PullRequestOf(t.Context(), "main", commits[i].SHA)
		if err != nil || (got != nil) != want || want && got.Number != s.number {
			t.Errorf("commit %d, %q: %+v, %v", i, commits[i].RepoCommit.Message, got, err)
		}
	}
}

// mergeLocally merges the branch with one more file and pushes.
func (s *scene) mergeLocally(extra string) string {
	s.t.Helper()
	dir := s.Clone(s.owner)
	s.Git(s.owner, dir, "merge", "--quiet", "--no-ff", "--no-commit", "origin/change")
	if err := os.WriteFile(filepath.Join(dir, extra), []byte("extra\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.Git(s.owner, dir, "add", extra)
	s.Git(s.owner, dir, "commit", "--quiet", "-m", "Merge change")
	s.Git(s.owner, dir, "push", "--quiet", "origin", "HEAD:main")
	return s.Git(s.owner, dir, "rev-parse", "HEAD")
}

// protect demands one approval for main, from which administrators may deviate.
func (s *scene) protect() {
	s.t.Helper()
	_, _, err := s.owner.API.CreateBranchProtection(s.owner.Login, s.Name, sdk.CreateBranchProtectionOption{
		RuleName: "main", RequiredApprovals: 1, DismissStaleApprovals: true,
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// TestGiteaKnowsNoPullRequest plays what lands without one, or without one that can be named.
func TestGiteaKnowsNoPullRequest(t *testing.T) {
	p := newPeople(t)
	tests := []struct {
		name string
		play func(s *scene) string
		want error // nil: positively none
	}{
		{"direct push", func(s *scene) string { return s.Commit(s.owner, "main", "direct", "Direct") }, nil},
		{"direct push below a squash", func(s *scene) string {
			direct := s.Commit(s.owner, "main", "direct", "Direct")
			s.merge(sdk.MergeStyleSquash)
			return direct
		}, nil},
		{"direct push below a rebase", func(s *scene) string {
			direct := s.Commit(s.owner, "main", "direct", "Direct")
			s.merge(sdk.MergeStyleRebase)
			return direct
		}, nil},
		// Somebody merges on their own machine and pushes: Gitea leaves the pull request open.
		{"local merge, not marked", func(s *scene) string { return s.mergeLocally("extra") }, nil},
		{"merged into another branch", func(s *scene) string {
			s.Branch(s.owner, "develop", "main")
			n := s.Open(s.dev, "change", "develop")
			squash := s.Merge(s.owner, n, sdk.MergeStyleSquash)
			dir := s.Clone(s.owner)
			s.Git(s.owner, dir, "push", "--quiet", "origin", "origin/develop:refs/heads/main")
			return squash
		}, nil},
		{"a commit that is not on the branch", func(s *scene) string { return s.first }, ErrNotFound},
		{"a commit of the second parent", func(s *scene) string {
			s.merge(sdk.MergeStyleMerge)
			return s.first
		}, ErrNotFound},
		{"a commit that does not exist", func(*scene) string { return "0123456789012345678901234567890123456789" }, ErrNotFound},
		{"half a commit ID", func(*scene) string { return "0123456" }, ErrRefused},
		{"head of the pull request lags behind the merge", func(s *scene) string {
			s.Approve(s.manager, s.number)
			s.push(s.dev, "Unseen")
			merge := s.merge(sdk.MergeStyleMerge)
			s.bare("update-ref", "refs/pull/1/head", s.first)
			return merge
		}, ErrAmbiguous},
		{"head of the pull request is gone", func(s *scene) string {
			merge := s.merge(sdk.MergeStyleMerge)
			s.bare("update-ref", "-d", "refs/pull/1/head")
			return merge
		}, ErrNotFound},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := p.scene(t)
			commit := test.play(s)
			pr, err := p.client(t, s.GiteaRepo, nil).PullRequestOf(t.Context(), "main", commit)
			if pr != nil || !errors.Is(err, test.want) {
				t.Errorf("got %+v, %v, want %v", pr, err, test.want)
			}
		})
	}
}

// A deleted account approves nothing, and a fork's pushers are not known.
func TestGiteaHidesSomebody(t *testing.T) {
	p := newPeople(t)
	t.Run("deleted reviewer", func(t *testing.T) {
		t.Parallel()
		s := p.scene(t)
		leaver := p.g.For(t).User("release-manager-2")
		s.Approve(leaver, s.number)
		merge := s.merge(sdk.MergeStyleMerge)
		if _, err := p.g.Admin.AdminDeleteUser(leaver.Login); err != nil {
			t.Fatal(err)
		}
		pr := settled(t, p.client(t, s.GiteaRepo, nil), merge)
		if len(pr.Reviews) != 1 || pr.Reviews[0].User.Known() || len(Approvals(pr)) != 0 {
			t.Errorf("reviews are %+v", pr.Reviews)
		}
	})
	t.Run("fork", func(t *testing.T) {
		t.Parallel()
		s := p.scene(t)
		outsider := p.g.For(t).User("developer-3")
		if _, _, err := outsider.API.CreateFork(s.owner.Login, s.Name, sdk.CreateForkOption{}); err != nil {
			t.Fatal(err)
		}
		fork := *s.GiteaRepo
		fork.Owner = outsider
		commit := fork.Commit(outsider, "main", "outside", "From outside")
		n := s.Open(outsider, outsider.Login+":main", "main")
		s.Approve(s.manager, n)
		pr, err := p.client(t, s.GiteaRepo, nil).PullRequestOf(t.Context(), "main", s.Merge(s.owner, n, sdk.MergeStyleMerge))
		if err != nil || pr == nil {
			t.Fatalf("got %+v, %v", pr, err)
		}
		if pr.PushersKnown || len(pr.Pushers) != 0 || pr.Head != commit || pr.Author.ID != outsider.ID {
			t.Errorf("the pull request is %+v", pr)
		}
	})
}
