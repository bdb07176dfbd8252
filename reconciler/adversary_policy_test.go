package reconciler

import (
	"fmt"
	"strings"
	"testing"

	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/sources/statement"
)

// amendments are declarations that would let developer-1 have its way.
var amendments = map[string]files{
	"the class asks for nothing":    {"purser/classes/standard.yaml": file("apiVersion: purser.dev/v1alpha1\nkind: ReleaseClass\nmetadata: {name: standard}\nspec: {rank: 20}\n")},
	"another class":                 {"purser/envs/dev.yaml": file(envYAML("dev", "class: low"))},
	"another rank":                  {"purser/classes/standard.yaml": file(fmt.Sprintf(classYAML, "standard", 5, "optional", 1)), "purser/classes/reviewed.yaml": file(fmt.Sprintf(classYAML, "reviewed", 50, "optional", 1))},
	"no classification":             {"purser/estate.yaml": file("apiVersion: purser.dev/v1alpha1\nkind: Estate\nmetadata: {name: test}\nspec:\n  governance: {signatures: required, approvals: [{count: 1, roles: [governance-owner]}]}\n")},
	"governance by nobody":          {"purser/estate.yaml": file("apiVersion: purser.dev/v1alpha1\nkind: Estate\nmetadata: {name: test}\nspec: {}\n")},
	"governance by developers":      {"purser/estate.yaml": file("apiVersion: purser.dev/v1alpha1\nkind: Estate\nmetadata: {name: test}\nspec: {governance: {approvals: [{count: 1, roles: [developer]}]}}\n")},
	"no Estate":                     {"purser/estate.yaml": {}},
	"another estate's name":         {"purser/estate.yaml": file("apiVersion: purser.dev/v1alpha1\nkind: Estate\nmetadata: {name: other}\nspec: {}\n")},
	"a role for oneself":            {"purser/people/developers.yaml": file(personYAML("developer-1", "developer, release-manager, governance-owner", "", keyYAML("developer-1", "")))},
	"another person with one's key": {"purser/people/developers.yaml": {}, "purser/people/owner-3.yaml": file(personYAML("owner-3", "release-manager, governance-owner", "", keyYAML("developer-1", "")))},
	"a new owner":                   {"purser/people/owner-3.yaml": file(personYAML("owner-3", "release-manager, governance-owner", "", keyYAML("nobody", "")))},
	"one's key for an owner":        {"purser/people/developers.yaml": {}, "purser/people/owner-1.yaml": file(personYAML("owner-1", "governance-owner", "", keyYAML("owner-1", ""), keyYAML("developer-1", "")))},
	"a bot that is none":            {"purser/people/bot.yaml": file(personYAML("release-bot", "release-manager, governance-owner", "", keyYAML("release-bot", "")))},
	"a revoked key that counts":     {"purser/people/manager-1.yaml": file(personYAML("release-manager-1", "release-manager", "", keyYAML("release-manager-1/revoked", "")))},
	"a wider tenant":                {"purser/tenant.yaml": file("apiVersion: purser.dev/v1alpha1\nkind: Tenant\nmetadata: {name: north}\nspec: {namespaces: [north-*, kube-*], clusterKinds: [{group: rbac.authorization.k8s.io, kind: ClusterRole}]}\n")},
	"a second environment of the namespace": {"purser/envs/twin.yaml": file(strings.Replace(envYAML("twin", "class: low"), "north-twin", "north-dev", 1)),
		"apps/twin/kustomization.yaml": file("resources: [../dev]\n")},
	"a second environment of the folder": {"purser/envs/twin.yaml": file(strings.Replace(envYAML("twin", "class: low"), "apps/twin", "apps/dev", 1))},
	"another folder":                     {"purser/envs/dev.yaml": file(strings.Replace(envYAML("dev", "class: standard"), "apps/dev", "other", 1))},
	"another namespace":                  {"purser/envs/dev.yaml": file(strings.Replace(envYAML("dev", "class: standard"), "north-dev", "north-prod", 1))},
	"declarations that moved":            {"purser/envs/dev.yaml": {}, "purser2/envs/dev.yaml": file(envYAML("dev", "class: low"))},
	"no declarations":                    allGone("purser/"),
	"a link for the declarations":        allGone("purser/").with(files{"purser": {0o120000, "planted"}, "planted/dev.yaml": file(envYAML("dev", "class: low"))}),
	"a policy that costs too much":       {"purser/policy.yaml": file("apiVersion: purser.dev/v1alpha1\nkind: Policy\nmetadata: {name: slow}\nspec:\n  rules: [{name: slow, scope: release, message: slow, expression: \"objects.all(a, objects.all(b, objects.all(c, objects.all(d, a == b && c == d))))\"}]\n")},
	"a duplicate key":                    {"purser/envs/dev.yaml": file(envYAML("dev", "class: standard") + "spec: {class: low}\n")},
	"an anchor":                          {"purser/envs/dev.yaml": file(strings.Replace(envYAML("dev", "class: &c low"), "north-dev", "*c", 1))},
	"a second declaration of it":         {"purser/envs/dev.yaml": file(envYAML("dev", "class: standard") + "---\n" + envYAML("dev", "class: low"))},
	"a file that looks alike":            {"purser/envs/dеv.yaml": file(envYAML("dev", "class: low"))},
	"a backup left behind":               {"purser/envs/dev.yml": file(envYAML("dev", "class: low"))},
}

// allGone removes what a scene has below a folder.
func allGone(folder string) files {
	gone := files{}
	for name := range estateFiles() {
		if strings.HasPrefix(name, folder) {
			gone[name] = leaf{}
		}
	}
	return gone
}

// TestAdversaryPolicy changes the rules and what profits from them in one push, in every way in which a push can come. The
// declarations wait or are refused, and the release is judged by those in force.
func TestAdversaryPolicy(t *testing.T) {
	t.Parallel()
	random := seeded(t)
	for name, amendment := range amendments {
		for _, i := range random.Perm(len(deliveries))[:5] {
			d, disguise := deliveries[i], random.IntN(len(disguises))
			t.Run(fmt.Sprintf("%s/%s/disguise %d", name, d.name, disguise), func(t *testing.T) {
				t.Parallel()
				s := newScene(t, nil)
				before, old := s.files, s.head
				change := draft{files: s.files.with(amendment).with(two), key: "developer-1"}
				disguises[disguise](&change)
				d.land(s, change)
				// Those whom the new declarations favour say what they can.
				for _, key := range []string{"developer-1", "developer-1/revoked", "release-manager-1/revoked", "release-bot", "nobody"} {
					s.says(key, statement.Statement{Verb: statement.Approve, Environment: statement.Governance, From: old, To: s.head, Expires: s.clock.AddDate(0, 0, 1)})
				}
				v, err := s.amendment()
				switch {
				case err == nil:
					s.denied(v)
				case len(strings.TrimSpace(err.Error())) < 20:
					t.Errorf("the declarations are refused without a reason: %v", err)
				}
				if _, err := s.propose("dev"); err == nil {
					for _, key := range []string{"developer-1", "developer-1/revoked", "release-manager-1/revoked", "release-bot", "nobody"} {
						s.approves(key)
					}
				}
				s.stopped()
				s.recovers(before)
			})
		}
	}
}

// TestAdversaryGovernanceApprovals has somebody approve declarations who must not.
func TestAdversaryGovernanceApprovals(t *testing.T) {
	t.Parallel()
	for name, attack := range map[string]struct {
		draft draft
		keys  []string
	}{
		"nobody":                              {draft{key: "developer-1"}, nil},
		"a developer":                         {draft{key: "developer-1"}, []string{"developer-2", "release-manager-1", "release-bot"}},
		"the owner who made it":               {draft{author: "owner-1", key: "owner-1"}, []string{"owner-1"}},
		"the owner who signed it":             {draft{author: "developer-1", key: "owner-1"}, []string{"owner-1"}},
		"the owner who is its co-author":      {draft{key: "developer-1", message: "Loosen\n\nCo-authored-by: O <owner-1@estate.example>\n"}, []string{"owner-1"}},
		"an owner, of what nobody signed":     {draft{}, []string{"owner-1", "owner-2"}},
		"an owner, of what a stranger signed": {draft{key: "nobody"}, []string{"owner-1", "owner-2"}},
		"the owner who rewrote the history":   {draft{parents: []string{}, author: "owner-1", key: "owner-1"}, []string{"owner-1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, nil)
			old := s.head
			s.change(attack.draft, amendments["another class"])
			approve := func(key string) {
				s.says(key, statement.Statement{Verb: statement.Approve, Environment: statement.Governance, From: old, To: s.head, Expires: s.clock.AddDate(0, 0, 1)})
			}
			for _, key := range attack.keys {
				approve(key)
			}
			v, err := s.amendment()
			if err != nil {
				t.Fatal(err)
			}
			s.denied(v)
			if attack.draft.key == "developer-1" && !strings.Contains(name, "co-author") { // an owner had no part in it
				approve("owner-2")
				if v, err = s.amendment(); err != nil || v.Answer != policy.Allow {
					t.Errorf("%v\n%s", err, gatesOf(v))
				}
			}
		})
	}
}

// TestAdversaryPathChange has owners point an environment to a folder that nobody judged for it, in good faith.
func TestAdversaryPathChange(t *testing.T) {
	t.Parallel()
	s := newScene(t, nil)
	s.change(draft{}, files{"planted/kustomization.yaml": file("resources: [../base, objects.yaml]\n"), "planted/objects.yaml": file(mapYAML("shop", "evil"))})
	s.live(files{"apps/dev/objects.yaml": file(mapYAML("shop", "honest"))})
	s.enact(files{"purser/envs/dev.yaml": file(strings.Replace(envYAML("dev", "class: standard"), "apps/dev", "planted", 1))})
	s.stopped()
	topic := s.commit(draft{files: s.files.with(files{"planted/README.md": file("x")}), key: "developer-1"}) // beside something reviewed
	s.merged(s.land(draft{parents: []string{s.head, topic}, files: s.files.with(files{"planted/README.md": file("x")}), author: "forge@estate.example"}), topic, "rm-2", topic)
	s.stopped()
}

// TestAdversaryHiddenChange hides a change from the rules of classification and policy: behind many others, deep in a long
// value, in an object that is written otherwise. dev is of a class that asks for nothing.
func TestAdversaryHiddenChange(t *testing.T) {
	t.Parallel()
	rule := func(expression string) files {
		return files{
			"purser/envs/dev.yaml": file(envYAML("dev", "class: low")),
			"purser/estate.yaml": file("apiVersion: purser.dev/v1alpha1\nkind: Estate\nmetadata: {name: test}\nspec:\n" +
				"  governance: {signatures: required, approvals: [{count: 1, roles: [governance-owner]}]}\n" +
				fmt.Sprintf("  classification: [{name: terminals, class: high, expression: %q}]\n", expression)),
		}
	}
	const asked = "changes.exists(c, c.action == 'configured' && c.fields.exists(f, f.path == 'data.value' && type(f.new) == string && string(f.new).contains('evil')))"
	policy := files{
		"purser/envs/dev.yaml": file(envYAML("dev", "class: low")),
		"purser/policy.yaml": file("apiVersion: purser.dev/v1alpha1\nkind: Policy\nmetadata: {name: value}\nspec:\n  match: {kinds: [{kind: ConfigMap}]}\n" +
			"  rules: [{name: stays, message: value changed, expression: \"oldObject == null || object.data.value == oldObject.data.value\"}]\n"),
	}
	many := mapYAML("shop", "evil")
	for i := range 600 {
		many += fmt.Sprintf("  a%04d: x\n", i)
	}
	many = strings.Replace(many, "data: {value: \"evil\"}\n", "data:\n  value: evil\n", 1)
	for name, attack := range map[string]struct {
		rules   files
		objects string
	}{
		"plainly":                     {rule(asked), mapYAML("shop", "evil")},
		"behind six hundred others":   {rule(asked), many},
		"deep in a long value":        {rule(asked), mapYAML("shop", strings.Repeat("#", 3000)+" evil")},
		"with its namespace":          {rule(asked), strings.Replace(mapYAML("shop", "evil"), "name: shop", "name: shop, namespace: north-dev", 1)},
		"policy, plainly":             {policy, mapYAML("shop", "evil")},
		"policy, with its namespace":  {policy, strings.Replace(mapYAML("shop", "evil"), "name: shop", "name: shop, namespace: north-dev", 1)},
		"policy, as two of one place": {policy, mapYAML("shop", "one") + "---\n" + strings.Replace(mapYAML("shop", "evil"), "name: shop", "name: shop, namespace: north-dev", 1)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, attack.rules)
			s.change(draft{author: "nobody"}, files{"apps/dev/objects.yaml": file(attack.objects)})
			s.stopped()
		})
	}
}
