package policy

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources/declaration"
	"github.com/purser-gitops/purser/sources/identity"
	"github.com/purser-gitops/purser/sources/statement"
)

// The people of these tests.
var people = map[string]Voter{
	"developer-1":       voter("developer"),
	"developer-2":       voter("developer"),
	"release-manager-1": voter("release-manager", "developer"),
	"release-manager-2": voter("release-manager"),
	"dba-1":             voter("dba"),
	"both-1":            voter("dba", "release-manager"),
	"release-bot":       {Roles: []string{"release-manager", "dba"}, Bot: true, Keys: []identity.Validity{{}}, Forges: []string{"estate"}},
}

// voter is somebody with a key and an account.
func voter(roles ...string) Voter {
	return Voter{Roles: roles, Keys: []identity.Validity{{}}, Forges: []string{"estate"}}
}

// standard is a class that wants one release manager and one database administrator.
func standard() *declaration.ReleaseClass {
	return &declaration.ReleaseClass{Meta: declaration.Meta{Name: "standard"}, Spec: declaration.ReleaseClassSpec{
		Rank: 20, Signatures: declaration.SignaturesRequired, Authorship: declaration.AuthorshipSigned,
		Approvals: []declaration.Approval{{Count: 1, Roles: []string{"release-manager"}}, {Count: 1, Roles: []string{"dba"}}},
	}}
}

const (
	releaseA = "sha256:aaaa"
	releaseB = "sha256:bbbb"
	commitB  = "b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1"
)

// asked is a candidate of one landed change by developer-1 that asks for approval, with a fact sheet that says nothing yet.
func asked() (Candidate, Facts) {
	c := candidate(object("v1", "ConfigMap", "", "a"))
	c.Class, c.Origin = standard(), OriginGit
	c.Release = &render.Release{Digest: releaseB}
	c.Approved = &render.Release{Digest: releaseA}
	c.Landed = []Landed{{
		Commit: commitB, FirstSeen: now, Releases: []string{releaseB},
		Commits: []Commit{{ID: commitB, Signer: "developer-1"}},
		Parts:   []Part{{Person: "developer-1", As: PartSigner}, {Person: "developer-1", As: PartAuthor}},
	}}
	f := facts()
	f.People = people
	return c, f
}

func reviewBy(person string) Review { return Review{Person: person, Approves: true, Covers: true} }

func approveBy(person string) Statement {
	return Statement{ID: "sha256:" + person, Verb: VerbApprove, Person: person, From: releaseA, To: releaseB, Class: "standard", Rank: 20, Expires: now.Add(time.Hour)}
}

func TestApprovals(t *testing.T) {
	pull := func(reviews ...Review) func(*Candidate, *Facts) {
		return func(c *Candidate, _ *Facts) {
			c.Landed[0].Pull = &Pull{Number: 7, AuthorsKnown: true, Reviews: reviews}
		}
	}
	said := func(list ...Statement) func(*Candidate, *Facts) {
		return func(_ *Candidate, f *Facts) { f.Statements = list }
	}
	alter := func(s Statement, change func(*Statement)) Statement { change(&s); return s }
	for name, test := range map[string]struct {
		change func(*Candidate, *Facts)
		want   Answer
		says   string
	}{
		"nobody yet":        {pull(), Wait, "needs 1 more of release-manager (both-1, release-manager-1, release-manager-2) and 1 more of dba"},
		"both by review":    {pull(reviewBy("release-manager-1"), reviewBy("dba-1")), Allow, "approved by release-manager-1 (review), dba-1 (review)"},
		"both by statement": {said(approveBy("release-manager-1"), approveBy("dba-1")), Allow, "(statement)"},
		"one of each way": {func(c *Candidate, f *Facts) {
			pull(reviewBy("dba-1"))(c, f)
			said(approveBy("release-manager-2"))(c, f)
		}, Allow, ""},
		"one person with both roles":    {pull(reviewBy("both-1")), Wait, "1 more of"},
		"two who need to be told apart": {pull(reviewBy("both-1"), reviewBy("dba-1")), Allow, "both-1"},
		"one person twice": {func(c *Candidate, f *Facts) {
			pull(reviewBy("both-1"), reviewBy("both-1"))(c, f)
			said(approveBy("both-1"))(c, f)
		}, Wait, ""},
		"wrong role":                     {pull(reviewBy("release-manager-1"), reviewBy("developer-2")), Wait, "dba"},
		"bot":                            {pull(reviewBy("release-manager-1"), reviewBy("release-bot")), Wait, "release-bot is a bot"},
		"nobody's account":               {pull(reviewBy("release-manager-1"), reviewBy("")), Wait, ""},
		"somebody unknown":               {pull(reviewBy("release-manager-1"), reviewBy("dba-9")), Wait, ""},
		"review of an older head":        {pull(reviewBy("release-manager-1"), Review{Person: "dba-1", Approves: true}), Wait, ""},
		"dismissed review":               {pull(reviewBy("release-manager-1"), Review{Person: "dba-1", Covers: true}), Wait, ""},
		"statement of another release":   {said(approveBy("release-manager-1"), alter(approveBy("dba-1"), func(s *Statement) { s.To = "sha256:cccc" })), Wait, ""},
		"statement from another release": {said(approveBy("release-manager-1"), alter(approveBy("dba-1"), func(s *Statement) { s.From = "sha256:cccc" })), Wait, ""},
		"expired statement":              {said(approveBy("release-manager-1"), alter(approveBy("dba-1"), func(s *Statement) { s.Expires = now })), Wait, "the statement of dba-1 expired"},
		"statement about a lower class":  {said(approveBy("release-manager-1"), alter(approveBy("dba-1"), func(s *Statement) { s.Class, s.Rank = "low", 0 })), Wait, `dba-1 approved it as class "low"`},
		"another verb":                   {said(approveBy("release-manager-1"), alter(approveBy("dba-1"), func(s *Statement) { s.Verb = VerbOverride })), Wait, ""},
		"self-approval":                  {pull(reviewBy("developer-1"), reviewBy("dba-1")), Wait, ""},
		"approval by the author": {func(c *Candidate, f *Facts) {
			c.Landed[0].Parts = append(c.Landed[0].Parts, Part{Person: "release-manager-1", As: PartCoAuthor})
			pull(reviewBy("release-manager-1"), reviewBy("dba-1"))(c, f)
		}, Wait, "release-manager-1 had a part in it (co-author)"},
		"approval by the pusher, in a statement": {func(c *Candidate, f *Facts) {
			c.Landed[0].Parts = append(c.Landed[0].Parts, Part{Person: "dba-1", As: PartPusher})
			said(approveBy("release-manager-1"), approveBy("dba-1"))(c, f)
		}, Wait, "dba-1 had a part in it (pusher)"},
		"everybody had a part": {func(c *Candidate, _ *Facts) {
			for _, p := range []string{"dba-1", "both-1"} {
				c.Landed[0].Parts = append(c.Landed[0].Parts, Part{Person: p, As: PartAuthor})
			}
		}, Deny, "(nobody is left) revert the change and let somebody else make it, or give more people"},
		"unsigned commit": {func(c *Candidate, f *Facts) {
			c.Landed[0].Commits = append(c.Landed[0].Commits, Commit{ID: "c2", Problem: "the commit is not signed"})
			said(approveBy("release-manager-1"), approveBy("dba-1"))(c, f)
		}, Deny, "who made it is unknown"},
		"unsigned commit, the forge unknown": {func(c *Candidate, f *Facts) {
			c.Class.Spec.Authorship = declaration.AuthorshipForge
			c.Landed[0].Commits = []Commit{{ID: "c2", Problem: "the commit is not signed"}}
			c.Landed[0].PullUnknown = "connection refused"
		}, Wait, "connection refused"},
		"unsigned direct push, going by the forge": {func(c *Candidate, f *Facts) {
			c.Class.Spec.Authorship = declaration.AuthorshipForge
			c.Landed[0].Commits = []Commit{{ID: "c2", Problem: "the commit is not signed"}}
			c.Landed[0].FirstSeen = now.Add(-forgeSettles)
			said(approveBy("release-manager-1"), approveBy("dba-1"))(c, f)
		}, Deny, "came by no pull request"},
		"unsigned, the forge may not have noticed the merge": {func(c *Candidate, f *Facts) {
			c.Class.Spec.Authorship = declaration.AuthorshipForge
			c.Landed[0].Commits = []Commit{{ID: "c2", Problem: "the commit is not signed"}}
			c.Landed[0].FirstSeen = now.Add(-time.Second)
			said(approveBy("release-manager-1"), approveBy("dba-1"))(c, f)
		}, Wait, "right after a merge it may not yet"},
		"unsigned, a pull request of somebody unknown": {func(c *Candidate, f *Facts) {
			c.Class.Spec.Authorship = declaration.AuthorshipForge
			c.Landed[0].Commits = []Commit{{ID: "c2", Problem: "the commit is not signed"}}
			pull(reviewBy("release-manager-1"), reviewBy("dba-1"))(c, f)
			c.Landed[0].Pull.AuthorsKnown = false
		}, Deny, "nobody that governance knows"},
		"unsigned, the forge does not tell who pushed": {func(c *Candidate, f *Facts) {
			c.Class.Spec.Authorship = declaration.AuthorshipForge
			c.Landed[0].Commits = []Commit{{ID: "c2", Problem: "the commit is not signed"}}
			pull(reviewBy("release-manager-1"), reviewBy("dba-1"))(c, f)
		}, Wait, "who pushed to pull request 7 is not known"},
		"unsigned, the forge tells who pushed": {func(c *Candidate, f *Facts) {
			c.Class.Spec.Authorship = declaration.AuthorshipForge
			c.Landed[0].Commits = []Commit{{ID: "c2", Problem: "the commit is not signed"}}
			pull(reviewBy("release-manager-1"), reviewBy("dba-1"))(c, f)
			c.Landed[0].Pull.PushersKnown = true
		}, Allow, ""},
		"forge's squash commit": {func(c *Candidate, f *Facts) {
			c.Landed[0].Commits = append(c.Landed[0].Commits, Commit{ID: "squash", Mechanical: true})
			pull(reviewBy("release-manager-1"), reviewBy("dba-1"))(c, f)
		}, Allow, ""},
		"second landed change without approval": {func(c *Candidate, f *Facts) {
			pull(reviewBy("release-manager-1"), reviewBy("dba-1"))(c, f)
			c.Landed = append(c.Landed, Landed{Commit: "c2", Releases: []string{releaseB}, Commits: []Commit{{ID: "c2", Signer: "developer-2"}}, Parts: []Part{{Person: "developer-2", As: PartSigner}}})
		}, Wait, "landed change c2"},
		"two parallel pull requests by one statement each": {func(c *Candidate, f *Facts) {
			said(approveBy("release-manager-1"), approveBy("dba-1"))(c, f)
			c.Landed = append(c.Landed, Landed{Commit: "c2", Releases: []string{releaseB}, Commits: []Commit{{ID: "c2", Signer: "developer-2"}}, Parts: []Part{{Person: "developer-2", As: PartSigner}}})
		}, Allow, ""},
		"approved before more landed": {func(c *Candidate, f *Facts) {
			said(approveBy("release-manager-1"), approveBy("dba-1"))(c, f)
			c.Release = &render.Release{Digest: "sha256:cccc"}
			c.Landed[0].Releases = []string{releaseB, "sha256:cccc"}
			c.Landed = append(c.Landed, Landed{Commit: "c2", Releases: []string{"sha256:cccc"}, Commits: []Commit{{ID: "c2", Signer: "developer-2"}}, Parts: []Part{{Person: "developer-2", As: PartSigner}}})
		}, Wait, "landed change c2"},
		"first release": {func(c *Candidate, f *Facts) {
			c.Origin, c.Approved, c.Landed = OriginFirst, nil, nil
			s := approveBy("release-manager-1")
			d := approveBy("dba-1")
			s.From, d.From = "", ""
			said(s, d)(c, f)
		}, Wait, "1 more of dba or release-manager (both-1, release-manager-2)"}, // one of the two may have made it
		"first release, one more person": {func(c *Candidate, f *Facts) {
			c.Origin, c.Approved, c.Landed = OriginFirst, nil, nil
			s := approveBy("release-manager-1")
			d := approveBy("dba-1")
			o := approveBy("release-manager-2")
			s.From, d.From, o.From = "", "", ""
			said(s, d, o)(c, f)
		}, Allow, "first release"},
		"reviewed before the branch was rewritten": {func(c *Candidate, f *Facts) {
			early, late := reviewBy("release-manager-1"), reviewBy("dba-1")
			early.Account, early.At, late.At = "manager", now.Add(-2*time.Hour), now
			c.Landed[0].Rewritten = now.Add(-time.Hour)
			c.Landed[0].Pull = &Pull{Head: "h", Reviews: []Review{early, late}}
		}, Wait, "the review of manager is older than the rewriting of the branch"},
		"reviewed after the branch was rewritten": {func(c *Candidate, f *Facts) {
			one, two := reviewBy("release-manager-1"), reviewBy("dba-1")
			one.At, two.At = now, now
			c.Landed[0].Rewritten = now.Add(-time.Hour)
			c.Landed[0].Pull = &Pull{Head: "h", Reviews: []Review{one, two}}
		}, Allow, "review"},
		"first release, signatures only": {func(c *Candidate, f *Facts) {
			c.Origin, c.Approved, c.Landed, c.Class.Spec.Approvals = OriginFirst, nil, nil, nil
			s := approveBy("developer-1")
			s.From = ""
			said(s)(c, f)
		}, Allow, "developer-1 (statement)"},
		"first release, signatures only, nobody": {func(c *Candidate, _ *Facts) {
			c.Origin, c.Approved, c.Landed, c.Class.Spec.Approvals = OriginFirst, nil, nil, nil
		}, Wait, "needs 1 more of dba or developer or release-manager"},
		"rewritten, signatures only, by who had a part": {func(c *Candidate, f *Facts) {
			c.Landed, c.LandedUnknown, c.PartsUnknown, c.Class.Spec.Approvals = nil, "history was rewritten", "nobody knows", nil
			c.Parts = []Part{{Person: "dba-1", As: PartAuthor}}
			said(approveBy("dba-1"))(c, f)
		}, Wait, "dba-1 had a part in it"},
		"first release, nobody is left": {func(c *Candidate, f *Facts) {
			c.Origin, c.Approved, c.Landed = OriginFirst, nil, nil
			f.People = map[string]Voter{"release-manager-1": people["release-manager-1"], "dba-1": people["dba-1"]}
		}, Deny, "dba or release-manager (dba-1, release-manager-1) give more people the role and a key that counts, in governance"},
		"first release, nobody":           {func(c *Candidate, _ *Facts) { c.Origin, c.Approved, c.Landed = OriginFirst, nil, nil }, Wait, "purser approve"},
		"rewritten history":               {func(c *Candidate, f *Facts) { c.Landed, c.LandedUnknown = nil, "history was rewritten" }, Wait, "history was rewritten"},
		"nothing landed that explains it": {func(c *Candidate, f *Facts) { c.Landed = nil }, Wait, "no landed change explains it"},
		"rollback, nobody":                {func(c *Candidate, _ *Facts) { c.Origin = OriginRollback }, Wait, "release-manager"},
		"rollback by its release manager": {func(c *Candidate, _ *Facts) {
			c.Origin = OriginRollback
			c.Landed[0].Commits[0] = Commit{ID: commitB, Signer: "release-manager-1", At: now.Add(-statement.MaxValidity)}
		}, Allow, "release-manager-1 (signature)"},
		"rollback that was signed long ago": {func(c *Candidate, _ *Facts) {
			c.Origin = OriginRollback
			c.Landed[0].Commits[0] = Commit{ID: commitB, Signer: "release-manager-1", At: now.Add(-statement.MaxValidity - time.Second)}
		}, Wait, "the signature of release-manager-1 counts as no approval: commit b1b1b1b1b1b1 says that it was made at "},
		"rollback that was signed in the future": {func(c *Candidate, _ *Facts) {
			c.Origin = OriginRollback
			c.Landed[0].Commits[0] = Commit{ID: commitB, Signer: "release-manager-1", At: now.Add(clockSkew + time.Second)}
		}, Wait, "after it was first seen"},
		"rollback that was signed at no time": {func(c *Candidate, _ *Facts) {
			c.Origin = OriginRollback
			c.Landed[0].Commits[0].Signer = "release-manager-1"
		}, Wait, "at an unknown time"},
		"rollback that was signed long ago, and is reviewed": {func(c *Candidate, _ *Facts) {
			c.Origin = OriginRollback
			c.Landed[0].Commits[0] = Commit{ID: commitB, Signer: "release-manager-1", At: now.AddDate(0, -3, 0)}
			c.Landed[0].Pull = &Pull{Number: 7, AuthorsKnown: true, Reviews: []Review{reviewBy("release-manager-1")}}
		}, Allow, "release-manager-1 (review)"},
		"rollback by a bot": {func(c *Candidate, _ *Facts) {
			c.Origin = OriginRollback
			c.Landed[0].Commits[0] = Commit{ID: commitB, Signer: "release-bot", At: now}
		}, Wait, "bot"},
		"rollback by a developer":          {func(c *Candidate, _ *Facts) { c.Origin = OriginRollback }, Wait, ""},
		"governance moved the environment": {func(c *Candidate, _ *Facts) { c.Origin = OriginGovernance; c.Landed = nil }, Allow, "was approved"},
	} {
		t.Run(name, func(t *testing.T) {
			c, f := asked()
			test.change(&c, &f)
			r := approvals(c, f, now)
			if r.Answer != test.want || !strings.Contains(r.Reason+" "+r.Hint, test.says) {
				t.Errorf("%s: %s (%s); want %s: …%s…", r.Answer, r.Reason, r.Hint, test.want, test.says)
			}
			if r.Answer != Allow && r.Hint == "" && !strings.Contains(r.Reason, "forge answers") {
				t.Errorf("%s has no remedy", r.Reason)
			}
		})
	}
}

// Where a demand is by statement, no review meets it, of whomever; where a person did both, the statement does.
func TestSignedApprovals(t *testing.T) {
	reviewed := func(c *Candidate, _ *Facts, people ...string) {
		c.Landed[0].Pull = &Pull{Number: 7, AuthorsKnown: true}
		for _, p := range people {
			c.Landed[0].Pull.Reviews = append(c.Landed[0].Pull.Reviews, reviewBy(p))
		}
	}
	rollback := func(c *Candidate) { c.Origin = OriginRollback }
	for name, test := range map[string]struct {
		change func(*Candidate, *Facts)
		want   Answer
		says   string
	}{
		"both reviewed": {func(c *Candidate, f *Facts) { reviewed(c, f, "release-manager-1", "dba-1") }, Wait,
			"needs 1 more of dba, by a signed statement (both-1, dba-1); the review of dba-1 is no signed statement purser approve dev"},
		"the demand is no other's": {func(c *Candidate, f *Facts) {
			reviewed(c, f, "release-manager-1", "dba-1", "both-1")
		}, Wait, "1 more of dba, by a signed statement"},
		"a statement and a review": {func(c *Candidate, f *Facts) {
			reviewed(c, f, "release-manager-1", "dba-1")
			f.Statements = []Statement{approveBy("dba-1")}
		}, Allow, "release-manager-1 (review), dba-1 (statement)"},
		"two statements": {func(_ *Candidate, f *Facts) {
			f.Statements = []Statement{approveBy("release-manager-1"), approveBy("dba-1")}
		}, Allow, ""},
		"one person by both": {func(c *Candidate, f *Facts) {
			reviewed(c, f, "both-1")
			f.Statements = []Statement{approveBy("both-1")}
		}, Wait, "1 more of dba, by a signed statement (dba-1)"},
		"who reviewed can only review": {func(c *Candidate, f *Facts) {
			reviewed(c, f, "release-manager-1", "dba-1", "both-1")
			f.People = maps.Clone(people)
			f.People["dba-1"] = Voter{Roles: []string{"dba"}, Forges: []string{"estate"}}
			f.People["both-1"] = Voter{Roles: []string{"dba", "release-manager"}, Forges: []string{"estate"}}
		}, Deny, "by a signed statement (nobody is left); the review of dba-1 is no signed statement"},
		"rollback by review": {func(c *Candidate, f *Facts) {
			rollback(c)
			reviewed(c, f, "release-manager-1")
		}, Wait, "1 more of release-manager, by a signed statement"},
		"rollback by statement": {func(c *Candidate, f *Facts) {
			rollback(c)
			f.Statements = []Statement{approveBy("release-manager-1")}
		}, Allow, "(statement)"},
		"rollback by signature": {func(c *Candidate, f *Facts) {
			rollback(c)
			reviewed(c, f, "release-manager-1")
			c.Landed[0].Commits[0].Signer, c.Landed[0].Commits[0].At = "release-manager-1", now
		}, Allow, "(signature)"},
		"the whole": {func(c *Candidate, f *Facts) {
			c.Landed, c.LandedUnknown, c.PartsUnknown = nil, "history was rewritten", "history was rewritten"
			f.Statements = []Statement{approveBy("release-manager-1"), approveBy("dba-1")}
		}, Wait, "so that one person more than the class asks for has to approve, needs 1 more of dba or release-manager (both-1, release-manager-2)"},
	} {
		t.Run(name, func(t *testing.T) {
			c, f := asked()
			c.Class.Spec.Approvals[1].By = declaration.ByStatement
			test.change(&c, &f)
			if r := approvals(c, f, now); r.Answer != test.want || !strings.Contains(r.Reason+" "+r.Hint, test.says) {
				t.Errorf("%s: %s (%s); want %s: …%s…", r.Answer, r.Reason, r.Hint, test.want, test.says)
			}
			if again := recorded(t, c, f); !reflect.DeepEqual(again, Evaluate(c, f, now)) {
				t.Errorf("its record gives %+v", again)
			}
			rules := declaration.Governance{Signatures: c.Class.Spec.Signatures, Approvals: c.Class.Spec.Approvals}
			a := Amendment{Rules: rules, From: releaseA, To: releaseB, History: c.History}
			if r := EvaluateAmendment(a, f, Root{}, now); c.Origin == OriginGit && len(c.Landed) > 0 && r.Answer != test.want {
				t.Errorf("of declarations: %s: %+v", r.Answer, r.Gates)
			}
		})
	}
}

// recorded is the verdict that the record of a decision gives again.
func recorded(t *testing.T, c Candidate, f Facts) Verdict {
	t.Helper()
	rules := Rules{Classes: map[string]*declaration.ReleaseClass{c.Class.Meta.Name: c.Class}, People: f.People}
	encoded, err := rules.Encode()
	if err != nil {
		t.Fatal(err)
	}
	read, err := DecodeRules(encoded)
	if err != nil {
		t.Fatal(err)
	}
	if encoded, err = (Inputs{Candidate: c, Facts: f, At: now}).Encode(); err != nil {
		t.Fatal(err)
	}
	in, err := read.Decode(encoded)
	if err != nil {
		t.Fatal(err)
	}
	return in.Evaluate()
}

// Named as missing is who can act now: with a key that counts, or where a review counts with an account of that forge.
func TestEligible(t *testing.T) {
	hour, ago := now.Add(time.Hour), now.Add(-time.Hour)
	manager := func(account string, keys ...identity.Validity) Voter {
		v := Voter{Roles: []string{"release-manager"}, Keys: keys}
		if account != "" {
			v.Forges = []string{account}
		}
		return v
	}
	people := map[string]Voter{
		"a-key": manager("", identity.Validity{}), "b-account": manager("estate"), "c-other-forge": manager("apps"), "d-nothing": manager(""),
		"e-expired": manager("", identity.Validity{Before: now}), "f-expires": manager("", identity.Validity{Before: hour}),
		"g-later": manager("", identity.Validity{After: hour}), "h-began": manager("", identity.Validity{After: ago}), "i-renewed": manager("", identity.Validity{Before: ago}, identity.Validity{}),
	}
	commits := Voter{Roles: []string{"release-manager"}, Commits: []identity.Validity{{}}}
	key, all := "(a-key, f-expires, h-began and 1 more)", "(a-key, b-account, f-expires and 2 more)"
	for name, test := range map[string]struct {
		change func(*Candidate, *Facts)
		want   Answer
		says   string
	}{
		"a pull request":    {func(c *Candidate, _ *Facts) { c.Landed[0].Pull = &Pull{Number: 7} }, Wait, all},
		"the forge is away": {func(c *Candidate, _ *Facts) { c.Landed[0].PullUnknown = "connection refused" }, Wait, all},
		"no pull request":   {func(*Candidate, *Facts) {}, Wait, key},
		"the whole":         {func(c *Candidate, _ *Facts) { c.Landed, c.LandedUnknown = nil, "history was rewritten" }, Wait, key},
		"a rollback":        {func(c *Candidate, _ *Facts) { c.Origin = OriginRollback }, Wait, key},
		"a rollback that nobody could state": {func(c *Candidate, f *Facts) {
			c.Origin, f.People = OriginRollback, map[string]Voter{"j-commits": commits, "k-commits": {Roles: commits.Roles, Commits: []identity.Validity{{Before: now}}}}
		}, Wait, "(j-commits)"},
		"a change that nobody could state": {func(_ *Candidate, f *Facts) { f.People = map[string]Voter{"j-commits": commits} }, Deny, "(nobody is left)"},
		"nobody who can": {func(_ *Candidate, f *Facts) {
			f.People = map[string]Voter{"b-account": people["b-account"], "e-expired": people["e-expired"], "g-later": people["g-later"]}
		}, Deny, "(nobody is left)"},
	} {
		t.Run(name, func(t *testing.T) {
			c, f := asked()
			c.Environment.Spec.Source.Repository = "estate"
			c.Class.Spec.Approvals = c.Class.Spec.Approvals[:1]
			c.Landed[0].FirstSeen = now.Add(-forgeSettles)
			f.People = people
			test.change(&c, &f)
			if r := approvals(c, f, now); r.Answer != test.want || !strings.Contains(r.Reason, test.says) {
				t.Errorf("%s: %s; want %s: …%s…", r.Answer, r.Reason, test.want, test.says)
			}
		})
	}
	t.Run("in the place of another", func(t *testing.T) {
		c, f := asked()
		c.Landed[0].Parts = append(c.Landed[0].Parts, Part{Person: "dba-1", As: PartAuthor})
		f.Statements = []Statement{approveBy("both-1")}
		if r := approvals(c, f, now); r.Answer != Wait || !strings.Contains(r.Reason, "1 more of dba (somebody in the place of one who approved)") {
			t.Errorf("%s: %s", r.Answer, r.Reason)
		}
	})
}

// Whatever is said and reviewed, nobody who had a part counts, nobody counts twice, and no bot counts.
func TestApprovalsAreNeverFewer(t *testing.T) {
	names := []string{"developer-1", "release-manager-1", "release-manager-2", "dba-1", "both-1", "release-bot", ""}
	random := rand.New(rand.NewPCG(1, 2))
	allowed := 0
	for range 20_000 {
		c, f := asked()
		l := &c.Landed[0]
		l.Pull = &Pull{Number: 7, AuthorsKnown: true}
		honest := map[string]bool{}
		for range random.IntN(6) {
			person := names[random.IntN(len(names))]
			switch random.IntN(4) {
			case 0:
				l.Parts = append(l.Parts, Part{Person: person, As: PartCommitter})
			case 1:
				r := Review{Person: person, Approves: random.IntN(4) > 0, Covers: random.IntN(4) > 0}
				l.Pull.Reviews = append(l.Pull.Reviews, r)
				honest[person] = honest[person] || r.Approves && r.Covers
			default:
				s := approveBy(person)
				if random.IntN(4) == 0 {
					s.Expires = now.Add(-time.Second)
				} else if random.IntN(4) == 0 {
					s.To = "sha256:dddd"
				} else {
					honest[person] = true
				}
				f.Statements = append(f.Statements, s)
			}
		}
		if approvals(c, f, now).Answer != Allow {
			continue
		}
		allowed++
		var counted []string
		for person, is := range honest {
			if _, had := hadPart(l.Parts, person); is && !had && person != "" && !people[person].Bot {
				counted = append(counted, person)
			}
		}
		managers, admins := 0, 0
		for _, p := range counted {
			if slices.Contains(people[p].Roles, "release-manager") {
				managers++
			}
			if slices.Contains(people[p].Roles, "dba") {
				admins++
			}
		}
		if managers == 0 || admins == 0 || len(counted) < 2 {
			t.Fatalf("allowed with %v: %+v %+v", counted, l, f.Statements)
		}
	}
	if allowed < 100 {
		t.Fatalf("only %d of the cases are allowed: the test shows little", allowed)
	}
}

// A matching is found whenever there is one.
func TestAssignFindsEveryMatching(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	roles := []string{"a", "b", "c"}
	for range 5_000 {
		voters := map[string]Voter{}
		var list []string
		for i := range random.IntN(5) {
			name := fmt.Sprint("p", i)
			voter := Voter{}
			for _, r := range roles {
				if random.IntN(2) == 0 {
					voter.Roles = append(voter.Roles, r)
				}
			}
			voters[name], list = voter, append(list, name)
		}
		var demands []declaration.Approval
		for range 1 + random.IntN(2) {
			demands = append(demands, declaration.Approval{Count: 1 + random.IntN(2), Roles: roles[random.IntN(3):]})
		}
		_, left := assign(demands, list, func(person string, d declaration.Approval) bool { return voters[person].anyRole(d.Roles) })
		if got, want := len(left) == 0, matches(demands, list, voters); got != want {
			t.Fatalf("%v of %v: matched %v, a matching exists: %v", demands, voters, got, want)
		}
	}
}

// matches tries every assignment.
func matches(demands []declaration.Approval, list []string, voters map[string]Voter) bool {
	for i, d := range demands {
		if d.Count == 0 {
			continue
		}
		for j, person := range list {
			if !voters[person].anyRole(d.Roles) {
				continue
			}
			rest := slices.Clone(demands)
			rest[i].Count--
			if matches(rest, slices.Delete(slices.Clone(list), j, j+1), voters) {
				return true
			}
		}
		return false
	}
	return true
}
