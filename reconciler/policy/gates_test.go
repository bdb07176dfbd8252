package policy

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources/declaration"
)

func TestClassGates(t *testing.T) {
	digest := "registry.example.com/odoo@sha256:" + strings.Repeat("a", 64)
	set := map[string]string{"web/odoo": digest}
	list := ImageList(set)
	ran := map[string]time.Duration{digest: 0}
	hourAgo := now.Add(-time.Hour)
	promoted := func(c *Candidate, f *Facts, soaks ...Soak) {
		c.Environment.Spec.Promotion = declaration.Promotion{From: "staging", Soak: 2 * time.Hour}
		c.Release.Images = set
		f.Promotion = &Promotion{From: "staging", Soaks: soaks}
	}
	about := func(change declaration.Change) *declaration.Release {
		return &declaration.Release{Version: "1", Change: change}
	}
	unitTests := declaration.TestDemand{PredicateType: "https://in-toto.io/attestation/test-result/v0.1", About: declaration.AboutImages, Roles: []string{"developer"}}
	attestation := Attestation{Path: "tests.json", PredicateType: unitTests.PredicateType, Subjects: []string{"sha256:" + strings.Repeat("a", 64)}, Signer: "developer-1"}

	for name, test := range map[string]struct {
		ask    func(Candidate, Facts, time.Time) Result
		change func(*Candidate, *Facts)
		want   Answer
		says   string
	}{
		"class unknown": {class, func(c *Candidate, _ *Facts) { c.ClassUnknown = "classification x cannot be evaluated" }, Deny, "cannot be evaluated"},

		"change not asked for": {change, func(*Candidate, *Facts) {}, Allow, ""},
		"no release.yaml":      {change, func(c *Candidate, _ *Facts) { c.Class.Spec.Change.Reason = true }, Deny, "no release.yaml"},
		"no reason": {change, func(c *Candidate, _ *Facts) {
			c.Class.Spec.Change.Reason = true
			c.Release.Declaration = about(declaration.Change{Ticket: "ERP-1", Reason: " "})
		}, Deny, "spec.change.reason is missing"},
		"ticket of another form": {change, func(c *Candidate, _ *Facts) {
			c.Class.Spec.Change.Ticket = `^ERP-[0-9]+$`
			c.Release.Declaration = about(declaration.Change{Ticket: "later"})
		}, Deny, `ticket "later"`},
		"ticket": {change, func(c *Candidate, _ *Facts) {
			c.Class.Spec.Change.Ticket = `^ERP-[0-9]+$`
			c.Release.Declaration = about(declaration.Change{Ticket: "ERP-7"})
		}, Allow, "ERP-7"},

		"not promoted":                     {promotion, func(*Candidate, *Facts) {}, Allow, ""},
		"promotion demanded, from nowhere": {promotion, func(c *Candidate, _ *Facts) { c.Class.Spec.Promotion.Required = true }, Deny, "does not say from where"},
		"promotion unknown":                {promotion, func(c *Candidate, f *Facts) { promoted(c, f); f.Promotion = nil }, Deny, "unknown"},
		"skipped stage": {promotion, func(c *Candidate, f *Facts) {
			promoted(c, f, Soak{Images: []string{"web/odoo=other"}, Healthy: 9 * time.Hour})
		}, Deny, `was never live in "staging"`},
		"not long enough":             {promotion, func(c *Candidate, f *Facts) { promoted(c, f, Soak{Images: list, Ran: ran, Since: &hourAgo}) }, Wait, "1h0m0s of 2h0m0s"},
		"healthy time is interrupted": {promotion, func(c *Candidate, f *Facts) { promoted(c, f, Soak{Images: list, Ran: ran, Healthy: time.Hour}) }, Wait, "not live and healthy there now"},
		"long enough, in two parts": {promotion, func(c *Candidate, f *Facts) {
			promoted(c, f, Soak{Images: list, Ran: ran, Healthy: time.Hour, Since: &hourAgo})
		}, Allow, "2h0m0s"},
		"long enough, and replaced there since": {promotion, func(c *Candidate, f *Facts) {
			promoted(c, f, Soak{Images: list, Ran: ran, Healthy: 3 * time.Hour}, Soak{Images: []string{"web/odoo=newer"}, Since: &hourAgo})
		}, Allow, ""},
		"class asks for more soak": {promotion, func(c *Candidate, f *Facts) {
			promoted(c, f, Soak{Images: list, Ran: ran, Healthy: 3 * time.Hour, Since: &hourAgo})
			c.Class.Spec.Promotion.Soak = 24 * time.Hour
		}, Wait, "of 24h0m0s"},
		"no images to promote": {promotion, func(c *Candidate, f *Facts) { promoted(c, f); c.Release.Images = nil }, Deny, "no images"},
		"clock went back": {promotion, func(c *Candidate, f *Facts) {
			later := now.Add(time.Hour)
			promoted(c, f, Soak{Images: list, Ran: ran, Healthy: time.Hour, Since: &later})
		}, Wait, "1h0m0s of 2h0m0s"},
		"nothing of it ran": {promotion, func(c *Candidate, f *Facts) {
			promoted(c, f, Soak{Images: list, Healthy: 9 * time.Hour, Since: &hourAgo})
		}, Wait, list[0] + ` was live in "staging" and not seen to run there`},
		"another image ran": {promotion, func(c *Candidate, f *Facts) {
			promoted(c, f, Soak{Images: list, Healthy: 9 * time.Hour, Ran: map[string]time.Duration{"odoo@sha256:" + strings.Repeat("b", 64): 0}})
		}, Wait, "not seen to run"},
		"it ran by the name of a mirror": {promotion, func(c *Candidate, f *Facts) {
			_, digest, _ := strings.Cut(list[0], "@")
			promoted(c, f, Soak{Images: list, Healthy: 9 * time.Hour, Ran: map[string]time.Duration{"mirror.example/odoo@" + digest: 0}})
		}, Allow, ""},
		"it ran since a while": {promotion, func(c *Candidate, f *Facts) {
			late := map[string]time.Duration{}
			for image := range ran {
				late[image] = 8 * time.Hour
			}
			promoted(c, f, Soak{Images: list, Healthy: 9 * time.Hour, Ran: late})
		}, Wait, "1h0m0s of 2h0m0s"},
		"it ran in one of two": {promotion, func(c *Candidate, f *Facts) {
			promoted(c, f, Soak{Images: list, Healthy: 3 * time.Hour, Ran: ran}, Soak{Images: list, Healthy: 9 * time.Hour})
		}, Allow, "3h0m0s"},

		"tags where digests are asked for": {images, func(c *Candidate, _ *Facts) {
			c.Class.Spec.Images.Digests = true
			c.Release.Images = map[string]string{"web/odoo": "odoo:18.0"}
		}, Deny, "odoo:18.0 (web/odoo)"},
		"digests":   {images, func(c *Candidate, _ *Facts) { c.Class.Spec.Images.Digests = true; c.Release.Images = set }, Allow, "pinned"},
		"no images": {images, func(c *Candidate, _ *Facts) { c.Class.Spec.Images.Digests = true }, Deny, "no images"},

		"no attestation": {tests, func(c *Candidate, f *Facts) {
			c.Class.Spec.Tests = []declaration.TestDemand{unitTests}
			c.Release.Images = set
		}, Deny, "there is none"},
		"attested":      {tests, attests(unitTests, set, attestation, func(*Attestation) {}), Allow, "developer-1"},
		"about another": {tests, attests(unitTests, set, attestation, func(a *Attestation) { a.Subjects = []string{"sha256:bb"} }), Deny, "not about " + digest},
		"by a bot":      {tests, attests(unitTests, set, attestation, func(a *Attestation) { a.Signer = "release-bot" }), Deny, "none of the roles"},
		"badly signed":  {tests, attests(unitTests, set, attestation, func(a *Attestation) { a.Problem = "the signature is expired" }), Deny, "expired"},
		"failed tests":  {tests, attests(unitTests, set, attestation, func(a *Attestation) { a.Failed = true }), Deny, "tests failed"},
		"another kind":  {tests, attests(unitTests, set, attestation, func(a *Attestation) { a.PredicateType = "https://example.com/other" }), Deny, "there is none"},

		"live is sick": {liveHealth, func(c *Candidate, f *Facts) {
			c.Class.Spec.LiveHealth = declaration.LiveHealthRequired
			f.Live = &Live{State: "Degraded"}
		}, Wait, "Degraded"},
		"live is sick, a rollback": {liveHealth, func(c *Candidate, f *Facts) {
			c.Class.Spec.LiveHealth = declaration.LiveHealthRequired
			c.Origin = OriginRollback
			f.Live = &Live{State: "Degraded"}
		}, Allow, ""},
		"live is sick, a fix": {liveHealth, func(_ *Candidate, f *Facts) { f.Live = &Live{State: "Degraded"} }, Allow, ""},
		"vetoed":              {veto, func(_ *Candidate, f *Facts) { f.Veto = &Veto{Reason: "orders lost", By: "release-manager-1", At: now} }, Deny, "orders lost"},
		"paused": {pause, func(_ *Candidate, f *Facts) {
			f.Hold = &Hold{Person: "release-manager-1", Reason: "stock count", Since: now}
		}, Wait, "stock count"},
		"override to review": {review, func(_ *Candidate, f *Facts) {
			f.Overrides = []Override{{Statement: Statement{ID: "sha256:o"}, Used: &hourAgo}}
		}, Allow, "to review"},
		"override reviewed too late": {review, func(_ *Candidate, f *Facts) {
			used := now.Add(-ReviewDue)
			f.Overrides = []Override{{Statement: Statement{ID: "sha256:o", Person: "release-manager-1"}, Used: &used}}
		}, Deny, "was to be reviewed"},
		"override reviewed": {review, func(_ *Candidate, f *Facts) {
			used := now.Add(-2 * ReviewDue)
			f.Overrides = []Override{{Statement: Statement{ID: "sha256:o"}, Used: &used, Reviewer: "release-manager-2"}}
		}, Allow, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c, f := candidate(object("v1", "ConfigMap", "", "a")), facts()
			f.People = people
			test.change(&c, &f)
			if r := test.ask(c, f, now); r.Answer != test.want || !strings.Contains(r.Reason, test.says) || r.Reason == "" {
				t.Errorf("%s: %s; want %s: …%s…", r.Answer, r.Reason, test.want, test.says)
			}
		})
	}
}

func attests(rule declaration.TestDemand, images map[string]string, a Attestation, alter func(*Attestation)) func(*Candidate, *Facts) {
	return func(c *Candidate, f *Facts) {
		alter(&a)
		c.Class.Spec.Tests, c.Release.Images, f.Attestations = []declaration.TestDemand{rule}, images, []Attestation{a}
	}
}

func TestOverride(t *testing.T) {
	order := func(change func(*Statement)) Facts {
		f := facts()
		f.People, f.Hold = people, &Hold{Person: "release-manager-2", Reason: "stock count", Since: now}
		s := Statement{ID: "sha256:o", Verb: VerbOverride, Person: "release-manager-1", Gates: []string{"pause", "isolation", "evidence"}, Reason: "shops are down", Ticket: "ERP-9", Expires: now.Add(time.Hour)}
		change(&s)
		f.Overrides = []Override{{Statement: s}}
		return f
	}
	answer := func(f Facts, gate string) Result {
		for _, r := range Evaluate(candidate(object("v1", "ConfigMap", "south-uat", "a")), f, now).Gates {
			if r.Gate == gate {
				return r
			}
		}
		t.Fatalf("no gate %q", gate)
		return Result{}
	}
	if r := answer(order(func(*Statement) {}), "pause"); r.Answer != Allow || r.Override != "sha256:o" || !strings.Contains(r.Reason, "overridden by release-manager-1") || !strings.Contains(r.Reason, "stock count") {
		t.Errorf("overridden: %+v", r)
	}
	if r := answer(order(func(*Statement) {}), "isolation"); r.Answer != Deny {
		t.Errorf("tenant isolation was overridden: %+v", r)
	}
	f := order(func(*Statement) {})
	f.Evidence = nil
	if r := answer(f, "evidence"); r.Answer != Deny {
		t.Errorf("evidence was overridden: %+v", r)
	}
	for name, change := range map[string]func(*Statement){
		"expired":         func(s *Statement) { s.Expires = now },
		"other gates":     func(s *Statement) { s.Gates = []string{"calendar"} },
		"by a developer":  func(s *Statement) { s.Person = "developer-1" },
		"by a bot":        func(s *Statement) { s.Person = "release-bot" },
		"by nobody known": func(s *Statement) { s.Person = "owner-9" },
	} {
		if r := answer(order(change), "pause"); r.Answer != Wait {
			t.Errorf("%s: %+v", name, r)
		}
	}
	digest := releaseB
	hour := now.Add(-time.Hour)
	for name, test := range map[string]struct {
		override Override
		class    declaration.OverrideDemand
		opens    bool
		says     string
	}{
		"no release, unused":   {Override{}, declaration.OverrideDemand{}, true, "overridden by"},
		"no release, used":     {Override{Used: &hour, Release: digest}, declaration.OverrideDemand{}, true, "overridden by"},
		"used by another":      {Override{Used: &hour, Release: releaseA}, declaration.OverrideDemand{}, false, "is for another release"},
		"used by nobody knows": {Override{Used: &hour}, declaration.OverrideDemand{}, false, "is for another release"},
		"this release":         {Override{Statement: Statement{To: digest}}, declaration.OverrideDemand{}, true, "overridden by"},
		"another release":      {Override{Statement: Statement{To: releaseA}}, declaration.OverrideDemand{}, false, "is for another release"},
		"a gate of the class":  {Override{}, declaration.OverrideDemand{Gates: []string{"calendar", "pause"}}, true, "overridden by"},
		"a gate of no class":   {Override{}, declaration.OverrideDemand{Gates: []string{"calendar"}}, false, "nobody overrides this gate"},
		"a class without any":  {Override{}, declaration.OverrideDemand{Gates: []string{}}, false, "nobody overrides this gate"},
	} {
		f := order(func(s *Statement) { s.To = test.override.Statement.To })
		f.Overrides[0].Used, f.Overrides[0].Release = test.override.Used, test.override.Release
		c := candidate(object("v1", "ConfigMap", "south-uat", "a"))
		class := *c.Class
		class.Spec.Override, c.Class, c.Release.Digest = test.class, &class, digest
		for _, r := range Evaluate(c, f, now).Gates {
			if r.Gate == "pause" && ((r.Answer == Allow) != test.opens || !strings.Contains(r.Reason, test.says)) {
				t.Errorf("%s: %+v", name, r)
			}
		}
	}
	for _, gate := range Gates() {
		who := gate == "signatures" || gate == "approvals" || gate == "images" || gate == "policy"
		if opens := new(declaration.ReleaseClass).LetsOverride(gate); opens != (!who && MayOverride(gate) == nil) {
			t.Errorf("a class that names no gates lets %s be overridden: %t", gate, opens)
		}
		if named := (&declaration.ReleaseClass{Spec: declaration.ReleaseClassSpec{Override: declaration.OverrideDemand{Gates: []string{"approvals"}}}}); named.LetsOverride(gate) != (gate == "approvals") {
			t.Errorf("a class that names approvals: %s", gate)
		}
	}
	for _, gate := range Gates() {
		err := MayOverride(gate)
		if never := gate == "class" || gate == "isolation" || gate == "claims" || gate == "dependencies" || gate == "veto" || gate == "review" || gate == "evidence"; (err != nil) != never {
			t.Errorf("override of %s: %v", gate, err)
		}
	}
	var classes declaration.OverrideDemand
	tag, _ := reflect.TypeOf(classes).FieldByName("Gates")
	for _, gate := range Gates() {
		if named := strings.Contains(tag.Tag.Get("jsonschema")+",", "enum="+gate+","); named != (MayOverride(gate) == nil) {
			t.Errorf("gate %s: a class can name it in override.gates: %t", gate, named)
		}
	}
	if MayOverride("gravity") == nil {
		t.Error("a gate that there is not may be overridden")
	}
}

func TestReviewRoles(t *testing.T) {
	approved := declaration.ReleaseClassSpec{Approvals: []declaration.Approval{{Count: 1, Roles: []string{"release-manager"}}, {Count: 1, Roles: []string{"dba", "release-manager"}}}}
	named := approved
	named.Override.Review = []string{"governance-owner"}
	for name, test := range map[string]struct {
		class *declaration.ReleaseClass
		want  string
	}{
		"named":                {&declaration.ReleaseClass{Spec: named}, "governance-owner"},
		"those of approvals":   {&declaration.ReleaseClass{Spec: approved}, "dba release-manager"},
		"nobody approves":      {&declaration.ReleaseClass{}, "release-manager governance-owner"},
		"not declared anymore": {nil, "release-manager governance-owner"},
	} {
		if got := strings.Join(ReviewRoles(test.class), " "); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
		for _, role := range strings.Fields(test.want) {
			if !MayReview(Voter{Roles: []string{role}}, test.class) || MayReview(Voter{Roles: []string{role}, Bot: true}, test.class) {
				t.Errorf("%s: %s", name, role)
			}
		}
		if MayReview(Voter{Roles: []string{"developer"}}, test.class) || MayReview(Voter{}, test.class) {
			t.Errorf("%s: a developer may", name)
		}
	}
}

func TestAmendments(t *testing.T) {
	rules := declaration.Governance{Signatures: declaration.SignaturesRequired, Approvals: []declaration.Approval{{Count: 1, Roles: []string{"release-manager"}}}}
	c, f := asked()
	amendment := Amendment{Rules: rules, From: releaseA, To: releaseB, History: c.History}
	root := func(keys ...string) Root {
		r := Root{Threshold: 2}
		for _, k := range keys {
			r.Statements = append(r.Statements, Statement{Verb: VerbApprove, Person: k, To: releaseB, Expires: now.Add(time.Hour)})
		}
		return r
	}
	if v := EvaluateAmendment(amendment, f, Root{}, now); v.Answer != Wait {
		t.Errorf("without approval: %+v", v)
	}
	f.Statements = []Statement{approveBy("release-manager-2")}
	if v := EvaluateAmendment(amendment, f, Root{}, now); v.Answer != Allow {
		t.Errorf("approved: %+v", v)
	}
	f.Statements = nil
	if v := EvaluateAmendment(amendment, f, root("k1"), now); v.Answer != Wait {
		t.Errorf("one of two root keys: %+v", v)
	}
	if v := EvaluateAmendment(amendment, f, root("k1", "k1"), now); v.Answer != Wait {
		t.Errorf("one root key twice: %+v", v)
	}
	if v := EvaluateAmendment(amendment, f, root("k1", "k2"), now); v.Answer != Allow {
		t.Errorf("both root keys: %+v", v)
	}
	f.Evidence = nil
	if v := EvaluateAmendment(amendment, f, root("k1", "k2"), now); v.Answer != Deny {
		t.Errorf("root keys without evidence: %+v", v)
	}
}

func TestTrustBeginsSomewhere(t *testing.T) {
	approved := Root{Threshold: 1, Statements: []Statement{{Verb: VerbApprove, Person: "k1", To: "c1", Expires: now.Add(time.Hour)}}}
	for name, test := range map[string]struct {
		trust  declaration.AgentTrust
		commit string
		root   Root
		want   Answer
	}{
		"nothing":          {declaration.AgentTrust{}, "c1", Root{}, Deny},
		"first use":        {declaration.AgentTrust{OnFirstUse: true}, "c1", Root{}, Allow},
		"pinned":           {declaration.AgentTrust{Commit: "c1"}, "c1", Root{}, Allow},
		"another pinned":   {declaration.AgentTrust{Commit: "c0"}, "c1", Root{}, Deny},
		"root key":         {declaration.AgentTrust{}, "c1", approved, Allow},
		"root key, other":  {declaration.AgentTrust{}, "c2", approved, Wait},
		"root key, before": {declaration.AgentTrust{}, "c1", Root{Threshold: 2, Statements: approved.Statements}, Wait},
	} {
		if r := EvaluateRoot(test.trust, test.commit, test.root, now); r.Answer != test.want || r.Reason == "" {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestSlimInputsGiveTheSameVerdict(t *testing.T) {
	c, f := asked()
	c.Release = &render.Release{Digest: releaseB, Objects: candidate(object("v1", "ConfigMap", "north-dev", "a"), object("apps/v1", "Deployment", "north-dev", "web")).Release.Objects}
	c.Release.Objects[1].Object["spec"] = map[string]any{"replicas": int64(2)}
	c.Approved.Objects = c.Release.Objects[:1]
	f.Statements = []Statement{approveBy("release-manager-2")}
	in := Inputs{Candidate: c, Facts: f, At: now}
	encoded, err := in.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(encoded), "replicas") {
		t.Error("the content of objects is encoded although no policy asks for it")
	}
	text, err := (&Rules{Classes: map[string]*declaration.ReleaseClass{c.Class.Meta.Name: c.Class}, People: f.People}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	rules, err := DecodeRules(text)
	if err != nil {
		t.Fatal(err)
	}
	again, err := rules.Decode(encoded)
	if err != nil {
		t.Fatal(err)
	}
	older := strings.Replace(string(encoded), fmt.Sprintf(`"Gates":%d`, GatesVersion), `"Gates":0`, 1)
	if _, err := rules.Decode([]byte(older)); !errors.Is(err, ErrOtherGates) {
		t.Errorf("a decision of other gates gives %v", err)
	}
	before, after := in.Evaluate(), again.Evaluate()
	for i := range before.Gates {
		if b, a := before.Gates[i], after.Gates[i]; b.Gate != a.Gate || b.Answer != a.Answer || b.Reason != a.Reason {
			t.Errorf("%+v became %+v", b, a)
		}
	}
	if before.Answer != Wait {
		t.Errorf("the verdict is %s", before.Answer)
	}
}
