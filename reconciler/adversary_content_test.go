package reconciler

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing/filemode"

	"github.com/purser-gitops/purser/reconciler/landed"
	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/sources/statement"
)

// delivery is how a change comes to main.
type delivery struct {
	name string
	land func(s *scene, d draft)
}

// deliveries land d.files. Whoever brings them has the rights to push and nobody's approval.
var deliveries = []delivery{
	{"direct", func(s *scene, d draft) { s.land(d) }},
	{"merge", func(s *scene, d draft) {
		topic := s.commit(d)
		s.land(draft{parents: []string{s.head, topic}, files: d.files, author: "forge@estate.example", message: "Merge pull request 7\n"})
	}},
	{"signed merge", func(s *scene, d draft) {
		topic := s.commit(d)
		s.land(draft{parents: []string{s.head, topic}, files: d.files, author: d.author, key: d.key})
	}},
	{"merge that changes everything itself", func(s *scene, d draft) {
		topic := s.commit(draft{files: s.files, author: "developer-2", key: "developer-2"})
		d.parents = []string{s.head, topic}
		s.land(d)
	}},
	{"fast-forward", func(s *scene, d draft) {
		half := draft{files: s.files.with(files{"README.md": file("half\n")}), author: d.author, key: d.key}
		d.parents = []string{s.commit(half)}
		s.land(d)
	}},
	{"octopus", func(s *scene, d draft) {
		harmless := s.commit(draft{files: s.files.with(files{"README.md": file("octopus\n")}), author: "developer-2", key: "developer-2"})
		topic := s.commit(d)
		s.land(draft{parents: []string{s.head, harmless, topic}, files: d.files.with(files{"README.md": file("octopus\n")}), author: "forge@estate.example"})
	}},
	{"merge with its parents swapped", func(s *scene, d draft) {
		topic := s.commit(d)
		newer := s.change(draft{key: "developer-2", author: "developer-2"}, files{"README.md": file("newer\n")})
		s.land(draft{parents: []string{topic, newer}, files: d.files.with(files{"README.md": file("newer\n")}), author: d.author, key: d.key})
	}},
	{"other history", func(s *scene, d draft) {
		d.parents = []string{}
		s.land(d)
	}},
	{"history without the approved commit", func(s *scene, d draft) {
		root := s.commit(draft{parents: []string{}, files: files{"README.md": file("root\n")}, author: d.author, key: d.key})
		d.parents = []string{root}
		s.land(d)
	}},
	{"twice merged", func(s *scene, d draft) { // criss-cross
		one := s.commit(draft{files: s.files.with(files{"README.md": file("1\n")}), author: d.author, key: d.key})
		two := s.commit(d)
		left := s.commit(draft{parents: []string{one, two}, files: d.files.with(files{"README.md": file("1\n")}), author: d.author, key: d.key})
		right := s.commit(draft{parents: []string{two, one}, files: d.files.with(files{"README.md": file("1\n")}), author: d.author, key: d.key})
		s.land(draft{parents: []string{left, right}, files: d.files.with(files{"README.md": file("1\n")}), author: d.author, key: d.key})
	}},
}

// disguises change what of a commit nobody may be impressed by.
var disguises = []func(*draft){
	func(*draft) {},
	func(d *draft) {
		d.message = "Fix\n\nReviewed-by: release-manager-2 <release-manager-2@estate.example>\nApproved-by: owner-1\n"
	},
	func(d *draft) {
		d.message = "Fix\n\nPurser-Approval: release-manager-2\nStatement-Id: " + strings.Repeat("a", 64) + "\n"
	},
	func(d *draft) { d.committer = "release-manager-2" },
	func(d *draft) { d.author, d.committer = "release-manager-2", "release-manager-2" },
	func(d *draft) { d.author = "stranger@elsewhere.example" },
	func(d *draft) { d.message = "Merge pull request 7 from topic\n" },
	func(d *draft) { d.message = strings.Repeat("long ", 300_000) },
	func(d *draft) { d.key = "developer-2" },
	func(d *draft) { d.key = "" },
	func(d *draft) { d.key = "nobody" },
}

// payloads are changes of what dev runs.
var payloads = []struct {
	name    string
	changes files
}{
	{"changed object", files{"apps/dev/objects.yaml": file(mapYAML("shop", "evil"))}},
	{"added object", files{"apps/dev/objects.yaml": file(mapYAML("shop", "one") + "---\n" + mapYAML("more", "evil"))}},
	{"removed object", files{"apps/dev/kustomization.yaml": file("resources: [objects.yaml]\n")}},
	{"changed shared base", files{"base/common.yaml": file(mapYAML("common", "evil"))}},
	{"shared base and a neighbour at once", files{"base/common.yaml": file(mapYAML("common", "evil")), "apps/qa/objects.yaml": file(mapYAML("shop", "two"))}},
	{"another base", files{"apps/dev/kustomization.yaml": file("resources: [../../other, objects.yaml]\n")}},
	{"renamed file", files{"apps/dev/objects.yaml": {}, "apps/dev/Objects.yaml": file(mapYAML("shop", "evil")), "apps/dev/kustomization.yaml": file("resources: [../../base, Objects.yaml]\n")}},
	{"case-only rename", files{"apps/dev/objects.yaml": {}, "apps/dev/OBJECTS.yaml": file(mapYAML("shop", "evil")), "apps/dev/kustomization.yaml": file("resources: [../../base, OBJECTS.yaml]\n")}},
	{"look-alike path", files{"apps/dev/оbjects.yaml": file(mapYAML("shop", "evil")), "apps/dev/kustomization.yaml": file("resources: [../../base, оbjects.yaml]\n")}},
	{"link to a file", files{"apps/dev/objects.yaml": {filemode.Symlink, "payment.yaml"}}},
	{"link to the other base", files{"base": {}, "base/kustomization.yaml": {}, "base/common.yaml": {filemode.Symlink, "../other/common.yaml"}}},
	{"directory that becomes a link", files{"base/kustomization.yaml": {}, "base/common.yaml": {}, "base": {filemode.Symlink, "other"}}},
	{"submodule", files{"base/kustomization.yaml": {}, "base/common.yaml": {}, "base": {filemode.Submodule, strings.Repeat("1", 40)}}},
	{"link out of the tree", files{"apps/dev/objects.yaml": {filemode.Symlink, "../../../../etc/passwd"}}},
	{"duplicate key", files{"apps/dev/objects.yaml": file("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shop}\ndata: {value: one}\ndata: {value: evil}\n")}},
	{"anchors", files{"apps/dev/objects.yaml": file("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shop}\ndata: {a: &a evil, value: *a}\n")}},
	{"second document", files{"apps/dev/objects.yaml": file(mapYAML("shop", "one") + "---\n" + mapYAML("spy", "evil"))}},
	{"object in another namespace", files{"apps/dev/objects.yaml": file(strings.Replace(mapYAML("shop", "one"), "{name: shop}", "{name: shop, namespace: kube-system}", 1))}},
	{"lowered class", files{"apps/dev/release.yaml": file("apiVersion: purser.dev/v1alpha1\nkind: Release\nspec: {version: \"1\", class: low}\n"), "apps/dev/objects.yaml": file(mapYAML("shop", "evil"))}},
	{"attributes and a change", files{".gitattributes": file("* ident eol=crlf filter=evil working-tree-encoding=UTF-16\napps/dev/objects.yaml export-ignore\n"), "apps/dev/objects.yaml": file(mapYAML("shop", "$Id$"))}},
	{"all environments at once", files{"apps/dev/objects.yaml": file(mapYAML("shop", "evil")), "apps/qa/objects.yaml": file(mapYAML("shop", "evil")), "README.md": file("both\n")}},
	{"loosened class beside it", files{"purser/classes/standard.yaml": file(fmt.Sprintf(classYAML, "standard", 20, "optional", 1)), "purser/envs/dev.yaml": file(envYAML("dev", "class: low")), "apps/dev/objects.yaml": file(mapYAML("shop", "evil"))}},
}

// distractions happen before an attack, all of them honest.
var distractions = []struct {
	name string
	do   func(s *scene)
}{
	{"nothing", func(*scene) {}},
	{"an approved change waits", func(s *scene) {
		s.change(draft{author: "developer-2", key: "developer-2"}, files{"apps/dev/objects.yaml": file(mapYAML("shop", "honest"))})
		s.mustPropose()
		s.approves("release-manager-2")
		s.approves("release-manager-1")
	}},
	{"a change went live", func(s *scene) {
		s.change(draft{author: "developer-2", key: "developer-2"}, files{"apps/dev/objects.yaml": file(mapYAML("shop", "honest"))})
		s.mustPropose()
		s.approve("dev")
	}},
	{"something else landed", func(s *scene) {
		s.change(draft{}, files{"README.md": file("unsigned, and of no consequence\n")})
	}},
}

func (s *scene) mustPropose() string {
	s.t.Helper()
	digest, err := s.propose("dev")
	if err != nil {
		s.t.Fatal(err)
	}
	return digest
}

// TestAdversaryContent lands unapproved content in every way: payloads × deliveries, each under a random class, in a random
// disguise and after a random distraction.
func TestAdversaryContent(t *testing.T) {
	t.Parallel()
	random := seeded(t)
	for _, p := range payloads {
		for _, d := range deliveries {
			class, disguise, distraction := []string{"standard", "reviewed"}[random.IntN(2)], random.IntN(len(disguises)), distractions[random.IntN(len(distractions))]
			t.Run(fmt.Sprintf("%s/%s/%s/disguise %d/%s", p.name, d.name, class, disguise, distraction.name), func(t *testing.T) {
				t.Parallel()
				s := newScene(t, files{"purser/envs/dev.yaml": file(envYAML("dev", "class: "+class))})
				distraction.do(s)
				before, change := s.files, draft{files: s.files.with(p.changes), key: "developer-1"}
				disguises[disguise](&change)
				d.land(s, change)
				s.stopped()
				s.recovers(before)
			})
		}
	}
}

// TestAdversaryHonest is the other side: what is approved as it should be passes, however it comes. Otherwise the suite would
// prove nothing.
func TestAdversaryHonest(t *testing.T) {
	t.Parallel()
	changes := files{"apps/dev/objects.yaml": file(mapYAML("shop", "two"))}
	for _, d := range deliveries {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, nil)
			d.land(s, draft{files: s.files.with(changes), key: "developer-1"})
			s.mustPropose()
			s.denied(s.judge("dev"))
			s.approves("release-manager-2")
			v := s.judge("dev")
			if strings.Contains(d.name, "history") || strings.Contains(d.name, "swapped") { // who made it is not all known
				s.approves("release-manager-1")
				v = s.judge("dev")
			}
			if v.Answer != policy.Allow {
				t.Error(gatesOf(v))
			}
		})
	}
	t.Run("review at the head of a merge", func(t *testing.T) {
		t.Parallel()
		s := newScene(t, nil)
		topic := s.commit(draft{files: s.files.with(changes), key: "developer-1"})
		s.change(draft{}, files{"README.md": file("main goes on\n")})
		merge := s.land(draft{parents: []string{s.head, topic}, files: s.files.with(changes), author: "forge@estate.example"})
		s.merged(merge, topic, "rm-2", topic)
		s.mustPropose()
		if v := s.judge("dev"); v.Answer != policy.Allow {
			t.Error(gatesOf(v))
		}
	})
	t.Run("review at the head of a squash", func(t *testing.T) {
		t.Parallel()
		s := newScene(t, nil)
		half := s.commit(draft{files: s.files.with(files{"apps/dev/objects.yaml": file(mapYAML("shop", "half"))}), key: "developer-1"})
		topic := s.commit(draft{parents: []string{half}, files: s.files.with(changes), key: "developer-1"})
		s.change(draft{}, files{"README.md": file("main goes on\n")})
		squash := s.land(draft{files: s.files.with(changes), author: "forge@estate.example"})
		s.merged(squash, topic, "rm-2", half, topic)
		s.mustPropose()
		if v := s.judge("dev"); v.Answer != policy.Allow {
			t.Error(gatesOf(v))
		}
	})
}

// TestAdversaryReviewed lands something else than what was reviewed, with the review of an honest release manager.
func TestAdversaryReviewed(t *testing.T) {
	t.Parallel()
	objects := func(value string) files { return files{"apps/dev/objects.yaml": file(mapYAML("shop", value))} }
	base := func(value string) files { return files{"base/common.yaml": file(mapYAML("common", value))} }
	for name, attack := range map[string]func(s *scene, merger string, key string){
		"an edit in the merge": func(s *scene, merger, key string) {
			topic := s.commit(draft{files: s.files.with(objects("two")), key: "developer-1"})
			m := s.land(draft{parents: []string{s.head, topic}, files: s.files.with(objects("two")).with(base("evil")), author: merger, key: key})
			s.merged(m, topic, "rm-2", topic)
		},
		"an edit in the merge of the reviewed file": func(s *scene, merger, key string) {
			topic := s.commit(draft{files: s.files.with(objects("two")), key: "developer-1"})
			m := s.land(draft{parents: []string{s.head, topic}, files: s.files.with(objects("evil")), author: merger, key: key})
			s.merged(m, topic, "rm-2", topic)
		},
		"a fix on main that the merge drops": func(s *scene, merger, key string) {
			fork, old := s.head, s.files
			s.live(base("fixed"))
			topic := s.commit(draft{parents: []string{fork}, files: old.with(objects("two")), key: "developer-1"})
			m := s.land(draft{parents: []string{s.head, topic}, files: old.with(objects("two")), author: merger, key: key})
			s.merged(m, topic, "rm-2", topic)
		},
		"a fix on main that the merge drops, of a file that the branch touched and put back": func(s *scene, merger, key string) {
			fork, old := s.head, s.files
			s.live(base("fixed"))
			touched := s.commit(draft{parents: []string{fork}, files: old.with(base("touched")), key: "developer-1"})
			topic := s.commit(draft{parents: []string{touched}, files: old.with(objects("two")), key: "developer-1"})
			m := s.land(draft{parents: []string{s.head, topic}, files: old.with(objects("two")), author: merger, key: key})
			s.merged(m, topic, "rm-2", touched, topic)
		},
		"a fix on main that a squash drops": func(s *scene, merger, key string) {
			fork, old := s.head, s.files
			s.live(base("fixed"))
			touched := s.commit(draft{parents: []string{fork}, files: old.with(base("touched")), key: "developer-1"})
			topic := s.commit(draft{parents: []string{touched}, files: old.with(objects("two")), key: "developer-1"})
			m := s.land(draft{files: old.with(objects("two")), author: merger, key: key})
			s.merged(m, topic, "rm-2", touched, topic)
		},
		"what the branch lost, on which the reviewed one stands": func(s *scene, merger, key string) {
			before, old := s.head, s.files
			lost := s.change(draft{key: "developer-1"}, base("evil"))
			s.mustPropose() // the agent saw it there
			topic := s.commit(draft{files: s.files.with(objects("two")), key: "developer-1"})
			reviewed := s.clock
			s.clock = s.clock.Add(time.Minute)
			m := s.land(draft{parents: []string{before, topic}, files: old.with(base("evil")).with(objects("two")), author: merger, key: key})
			s.merged(m, topic, "rm-2", lost, topic)
			s.forge.pulls[m].Reviews[0].At = reviewed
		},
		"what the branch lost before something else was approved": func(s *scene, merger, key string) {
			before, old := s.head, s.files
			lost := s.change(draft{key: "developer-1"}, base("evil"))
			s.mustPropose()
			topic := s.commit(draft{files: s.files.with(objects("two")), key: "developer-1"})
			reviewed := s.clock
			s.clock = s.clock.Add(time.Minute)
			s.push(before, old)
			s.live(files{"apps/dev/objects.yaml": file(mapYAML("shop", "one") + "---\n" + mapYAML("more", "good"))})
			m := s.land(draft{parents: []string{s.head, topic}, files: s.files.with(base("evil")).with(objects("two")), author: merger, key: key})
			s.merged(m, topic, "rm-2", lost, topic)
			s.forge.pulls[m].Reviews[0].At = reviewed
		},
		"a merge into the branch that takes ours": func(s *scene, merger, key string) {
			fork, old := s.head, s.files
			s.live(base("fixed"))
			topic := s.commit(draft{parents: []string{fork}, files: old.with(objects("two")), key: "developer-1"})
			update := s.commit(draft{parents: []string{topic, s.head}, files: old.with(objects("two")), author: "release-manager-2", key: "release-manager-2"})
			m := s.land(draft{parents: []string{s.head, update}, files: old.with(objects("two")), author: merger, key: key})
			s.merged(m, update, "rm-2", topic, update)
		},
		"a commit after the review": func(s *scene, merger, key string) {
			topic := s.commit(draft{files: s.files.with(objects("two")), key: "developer-1"})
			late := s.commit(draft{parents: []string{topic}, files: s.files.with(objects("evil")), key: "developer-1"})
			m := s.land(draft{parents: []string{s.head, late}, files: s.files.with(objects("evil")), author: merger, key: key})
			s.merged(m, late, "rm-2", topic, late)
			s.forge.pulls[m].Reviews[0].Head = topic
		},
		"a base that was planted before, and changed after the review": func(s *scene, merger, key string) {
			link := files{"apps/dev/kustomization.yaml": file("resources: [../../other, objects.yaml]\n")}
			topic := s.commit(draft{files: s.files.with(link), key: "developer-1"})
			s.change(draft{}, files{"other/common.yaml": file(mapYAML("common", "evil"))}) // nobody reads it: nobody judges it
			s.live(objects("honest"))
			m := s.land(draft{parents: []string{s.head, topic}, files: s.files.with(link), author: merger, key: key})
			s.merged(m, topic, "rm-2", topic)
		},
		"a link that is turned round beside a reviewed change": func(s *scene, merger, key string) {
			s.live(files{
				"apps/dev/kustomization.yaml": file("resources: [../../wrapped, ../../other, objects.yaml]\n"), "wrapped/kustomization.yaml": file("namePrefix: w-\nresources: [../linked]\n"),
				"linked": {filemode.Symlink, "hop"}, "hop": {filemode.Symlink, "base"},
			})
			topic := s.commit(draft{files: s.files.with(objects("two")), key: "developer-1"})
			turned := files{"hop": {filemode.Symlink, "other"}}
			s.change(draft{}, turned)
			m := s.land(draft{parents: []string{s.head, topic}, files: s.files.with(objects("two")), author: merger, key: key})
			s.merged(m, topic, "rm-2", topic)
		},
		"the review of the author's own account": func(s *scene, merger, key string) {
			topic := s.commit(draft{files: s.files.with(objects("two")), author: "release-manager-2", key: "release-manager-2"})
			m := s.land(draft{parents: []string{s.head, topic}, files: s.files.with(objects("two")), author: "forge@estate.example"})
			s.merged(m, topic, "rm-2", topic)
		},
		"the review of a co-author": func(s *scene, merger, key string) {
			topic := s.commit(draft{files: s.files.with(objects("two")), key: "developer-1", message: "Two\n\nCo-authored-by: RM <RELEASE-MANAGER-2@estate.example>\n"})
			m := s.land(draft{parents: []string{s.head, topic}, files: s.files.with(objects("two")), author: "forge@estate.example"})
			s.merged(m, topic, "rm-2", topic)
		},
	} {
		for _, class := range []string{"standard", "reviewed"} {
			for merger, key := range map[string]string{"forge@estate.example": "", "developer-1": "developer-1", "developer-2": "developer-2"} {
				t.Run(name+"/"+class+"/"+merger, func(t *testing.T) {
					t.Parallel()
					s := newScene(t, files{"purser/envs/dev.yaml": file(envYAML("dev", "class: "+class))})
					attack(s, merger, key)
					s.stopped()
				})
			}
		}
	}
}

// live lands an honest change and makes it live.
func (s *scene) live(changes files) {
	s.t.Helper()
	s.change(draft{author: "developer-2", key: "developer-2"}, changes)
	s.mustPropose()
	s.approve("dev")
}

// TestAdversaryApprovalOfSomethingElse has statements that mean another release, and the way that a release takes between
// approval and decision.
func TestAdversaryApprovalOfSomethingElse(t *testing.T) {
	t.Parallel()
	objects := func(value string) files { return files{"apps/dev/objects.yaml": file(mapYAML("shop", value))} }
	signed := draft{author: "developer-1", key: "developer-1"}
	for name, attack := range map[string]func(s *scene){
		"amended after the approval": func(s *scene) {
			fork, before := s.head, s.files
			s.change(signed, objects("two"))
			s.mustPropose()
			s.approves("release-manager-2")
			s.land(draft{parents: []string{fork}, files: before.with(objects("evil")), key: "developer-1"})
		},
		"one more commit after the approval": func(s *scene) {
			s.change(signed, objects("two"))
			s.mustPropose()
			s.approves("release-manager-2")
			s.change(signed, objects("evil"))
		},
		"the same path with other content": func(s *scene) {
			s.change(signed, objects("two"))
			s.mustPropose()
			s.approves("release-manager-2")
			s.change(signed, files{"apps/dev/objects.yaml": {filemode.Executable, mapYAML("shop", "evil")}})
		},
		"the digest of another environment": func(s *scene) {
			s.change(signed, files{"base/common.yaml": file(mapYAML("common", "two"))})
			s.mustPropose()
			qa, err := s.propose("qa")
			if err != nil {
				s.t.Fatal(err)
			}
			said := s.approval()
			said.To = qa
			s.says("release-manager-2", said)
			said.Environment, said.To = "qa", s.approval().To
			s.says("release-manager-2", said)
		},
		"an approval that follows another release": func(s *scene) {
			s.change(signed, objects("two"))
			s.mustPropose()
			said := s.approval()
			said.From = "sha256:" + strings.Repeat("0", 64)
			s.says("release-manager-2", said)
			said.From = ""
			s.says("release-manager-2", said)
		},
		"an approval of a lower class": func(s *scene) {
			s.change(signed, objects("two"))
			s.mustPropose()
			said := s.approval()
			said.Class = "reviewed"
			s.says("release-manager-2", said)
		},
		"an approval that was used up": func(s *scene) {
			s.change(signed, objects("two"))
			s.mustPropose()
			s.approves("release-manager-2")
			s.approve("dev")
			s.live(objects("three"))
			s.live(objects("four"))
			s.change(signed, objects("two"))
		},
		"the revert of a revert, approved by the author of what it brings back": func(s *scene) {
			s.change(draft{author: "release-manager-2", key: "release-manager-2"}, objects("evil"))
			s.mustPropose()
			s.change(draft{author: "developer-2", key: "developer-2", message: "Revert\n"}, objects("one"))
			s.mustPropose()
			s.change(draft{author: "developer-2", key: "developer-2", message: "Revert \"Revert\"\n"}, objects("evil"))
			s.mustPropose()
			s.approves("release-manager-2")
		},
		"an author who rewrites history and approves alone": func(s *scene) {
			s.land(draft{parents: []string{}, files: s.files.with(objects("evil")), author: "release-manager-2", key: "release-manager-2"})
			s.mustPropose()
			s.approves("release-manager-2")
		},
		"an author who rewrites history unsigned and approves alone": func(s *scene) {
			s.land(draft{parents: []string{}, files: s.files.with(objects("evil")), author: "stranger@elsewhere.example"})
			s.mustPropose()
			s.approves("release-manager-2")
		},
		"an author who swaps a merge's parents and approves alone": func(s *scene) {
			topic := s.commit(draft{files: s.files.with(objects("evil")), author: "release-manager-2", key: "release-manager-2"})
			s.live(files{"base/common.yaml": file(mapYAML("common", "two"))})
			s.land(draft{parents: []string{topic, s.head}, files: s.files.with(objects("evil")), author: "release-manager-2", key: "release-manager-2"})
			s.mustPropose()
			s.approves("release-manager-2")
		},
		"a rollback with somebody's signature under something else": func(s *scene) {
			s.live(objects("two"))
			s.live(objects("three"))
			s.change(draft{author: "release-manager-2", key: "release-manager-2"}, files{"base/common.yaml": file(mapYAML("common", "two"))})
			s.mustPropose()
			s.change(signed, objects("two").with(files{"base/common.yaml": file(mapYAML("common", "one"))}))
		},
		"a payment change classified by a history that was rewritten": func(s *scene) {
			s.live(files{"apps/dev/kustomization.yaml": file("resources: [../../base, objects.yaml, payment.yaml]\n")})
			s.land(draft{parents: []string{}, files: s.files.with(files{"apps/dev/payment.yaml": file(mapYAML("payment", "evil"))}), key: "developer-1"})
			s.mustPropose()
			said := s.approval()
			said.Class = "standard"
			s.says("release-manager-1", said)
			s.says("release-manager-2", said)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, nil)
			attack(s)
			s.stopped()
		})
	}
}

// TestAdversaryOldRevert lands a revert that a release manager signed and did not land: that counts for a week.
func TestAdversaryOldRevert(t *testing.T) {
	t.Parallel()
	objects := func(value string) files {
		return files{"apps/dev/objects.yaml": file(mapYAML("shop", value))}
	}
	for _, after := range []time.Duration{statement.MaxValidity, statement.MaxValidity + time.Second, -time.Hour} {
		s := newScene(t, nil)
		s.live(objects("two"))
		s.live(objects("three"))
		back := s.files.with(objects("two"))
		revert := s.commit(draft{files: back, author: "release-manager-2", key: "release-manager-2", message: "Revert\n"})
		s.clock = s.clock.Add(after)
		s.push(revert, back)
		s.mustPropose()
		v := s.judge("dev")
		i := slices.IndexFunc(v.Gates, func(g policy.Result) bool { return g.Gate == policy.GateApprovals })
		if want := after == statement.MaxValidity; (v.Gates[i].Answer == policy.Allow) != want {
			t.Errorf("landed %s after it was signed: %s (%s)", after, v.Gates[i].Answer, v.Gates[i].Reason)
		}
	}
}

// TestAdversaryHugeChanges lands more than can be judged. It is not judged, says so, and is no dead end.
func TestAdversaryHugeChanges(t *testing.T) {
	t.Parallel()
	evil := files{"apps/dev/objects.yaml": file(mapYAML("shop", "evil"))}
	for name, attack := range map[string]func(s *scene, random *rand.Rand){
		"paths": func(s *scene, random *rand.Rand) {
			many := s.files.with(evil)
			for i := range landed.AlteredMax + 1 + random.IntN(10) {
				many[fmt.Sprintf("addons/%d/%d", i%100, i)] = file("x")
			}
			s.land(draft{files: many, key: "developer-1"})
		},
		"commits": func(s *scene, random *rand.Rand) {
			topic := s.head
			for i := range landed.BroughtMax + random.IntN(3) {
				topic = s.commit(draft{parents: []string{topic}, files: s.files, message: fmt.Sprint(i), key: ""})
			}
			topic = s.commit(draft{parents: []string{topic}, files: s.files.with(evil), key: "developer-1"})
			s.land(draft{parents: []string{s.head, topic}, files: s.files.with(evil), key: "developer-1"})
		},
		"message": func(s *scene, _ *rand.Rand) {
			s.land(draft{files: s.files.with(evil), key: "developer-1", message: strings.Repeat("x", 1<<20)})
		},
		"parents": func(s *scene, random *rand.Rand) {
			parents := []string{s.head}
			for i := range landed.ParentsMax + 1 + random.IntN(20) {
				parents = append(parents, s.commit(draft{files: s.files, message: fmt.Sprint(i), key: "developer-2"}))
			}
			parents = append(parents, s.commit(draft{files: s.files.with(evil)}))
			s.land(draft{parents: parents, files: s.files.with(evil), author: "forge@estate.example"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, nil)
			before := s.files
			attack(s, seeded(t))
			s.stopped()
			s.approves("release-manager-2") // alone, with nobody known to have made it
			s.stopped()
			s.recovers(before)
		})
	}
}

// podOf are kinds that run pods, or keep how a pod would be: what an object of the kind has around its pod's spec.
var podOf = map[string]string{
	"/Pod":                    "v1 Pod spec: %s",
	"/PodTemplate":            "v1 PodTemplate template: {spec: %s}",
	"/ReplicationController":  "v1 ReplicationController spec: {template: {spec: %s}}",
	"apps/Deployment":         "apps/v1 Deployment spec: {template: {spec: %s}}",
	"apps/StatefulSet":        "apps/v1 StatefulSet spec: {template: {spec: %s}}",
	"apps/DaemonSet":          "apps/v1 DaemonSet spec: {template: {spec: %s}}",
	"apps/ReplicaSet":         "apps/v1 ReplicaSet spec: {template: {spec: %s}}",
	"apps/ControllerRevision": "apps/v1 ControllerRevision data: {spec: {template: {spec: %s}}}",
	"batch/Job":               "batch/v1 Job spec: {template: {spec: %s}}",
	"batch/CronJob":           "batch/v1 CronJob spec: {jobTemplate: {spec: {template: {spec: %s}}}}",
}

// hideouts are places of a pod's spec that name an image.
var hideouts = map[string]string{
	"container":                   "{containers: [{name: x, image: %q}]}",
	"init container":              "{initContainers: [{name: x, image: %q}]}",
	"ephemeral container":         "{ephemeralContainers: [{name: x, image: %q}]}",
	"image volume":                "{containers: [{name: x, image: registry.example/odoo@sha256:" + imageDigest + ", volumeMounts: [{name: addons, mountPath: /addons}]}], volumes: [{name: addons, image: {reference: %q}}]}",
	"volume named as a container": "{containers: [{name: x, image: registry.example/odoo@sha256:" + imageDigest + "}], volumes: [{name: x, image: {reference: %q}}]}",
}

const imageDigest = "7d865e959b2466918c9863afca942d0fb89d7c9ac0c99bafc3749504ded97730"

// workload is an object that names an image somewhere in its pod.
func workload(kind, place, image string) string {
	words := strings.SplitN(podOf[kind], " ", 3)
	return fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata: {name: web}\n"+words[2]+"\n", words[0], words[1], fmt.Sprintf(hideouts[place], image))
}

// TestAdversaryImages brings an image that nobody tested past everything that looks at images, by every place that names one.
// Somebody approved it in good faith.
func TestAdversaryImages(t *testing.T) {
	t.Parallel()
	const good, evil = "registry.example/addons@sha256:" + imageDigest, "elsewhere.example/addons:18.0"
	for kind := range podOf {
		for place := range hideouts {
			t.Run(kind+"/"+place, func(t *testing.T) {
				t.Parallel()
				both := func(image string) files {
					return files{"apps/dev/objects.yaml": file(workload(kind, place, image)), "apps/qa/objects.yaml": file(workload(kind, place, image))}
				}
				s := newScene(t, both(good).with(files{
					"purser/envs/dev.yaml":         file(envYAML("dev", "class: standard, promotion: {from: qa, soak: 1h}")),
					"purser/classes/standard.yaml": file(strings.Replace(fmt.Sprintf(classYAML, "standard", 20, "required", 1), "{rank", "{images: {digests: true}, rank", 1)),
					"purser/policy.yaml": file("apiVersion: purser.dev/v1alpha1\nkind: Policy\nmetadata: {name: registries}\nspec:\n  rules:\n    - name: own\n      scope: release\n" +
						"      message: images are of our registry\n      expression: \"release.images.all(k, release.images[k].startsWith('registry.example/'))\"\n"),
				}))
				soak := func() {
					if _, err := s.propose("qa"); err != nil {
						t.Fatal(err)
					}
					s.approve("qa")
					s.clock = s.clock.Add(2 * time.Hour)
				}
				soak()
				s.change(draft{key: "developer-1"}, files{"apps/dev/objects.yaml": file(workload(kind, place, evil))})
				s.mustPropose()
				s.approves("release-manager-2")
				v := s.judge("dev")
				for _, gate := range []string{"promotion", "images", "policy"} {
					if !v.Refused(gate) {
						t.Errorf("gate %s lets it in:\n%s", gate, gatesOf(v))
					}
				}
				// The way that is meant: through qa, by its digest.
				s.change(draft{key: "developer-1"}, both(strings.Replace(good, "/addons", "/newer", 1)))
				soak()
				s.mustPropose()
				s.approves("release-manager-2")
				if v := s.judge("dev"); v.Answer != policy.Allow {
					t.Error(gatesOf(v))
				}
			})
		}
	}
}
