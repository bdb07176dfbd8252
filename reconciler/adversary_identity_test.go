package reconciler

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/sources/statement"
)

var two = files{"apps/dev/objects.yaml": file(mapYAML("shop", "two"))}

// TestAdversarySignatures lands commits whose signatures are worth nothing. A release manager approves them in good faith; the
// class asks for signatures, so they stay out.
func TestAdversarySignatures(t *testing.T) {
	t.Parallel()
	header := func(line string) func(string) string {
		return func(text string) string { return strings.Replace(text, "\n\n", "\n"+line+"\n\n", 1) }
	}
	for name, forge := range map[string]func(s *scene, d *draft){
		"none":                             func(_ *scene, d *draft) { d.key = "" },
		"of nobody":                        func(_ *scene, d *draft) { d.key = "nobody" },
		"by an expired key":                func(_ *scene, d *draft) { d.key = "developer-1/expired" },
		"by an expired key, backdated":     func(s *scene, d *draft) { d.key = "developer-1/expired"; s.clock = s.clock.AddDate(-1, 0, 0) },
		"by a key of next year":            func(_ *scene, d *draft) { d.key = "developer-1/future" },
		"by a key of next year, postdated": func(s *scene, d *draft) { d.key = "developer-1/future"; s.clock = s.clock.AddDate(2, 0, 0) },
		"by a revoked key":                 func(_ *scene, d *draft) { d.key = "developer-1/revoked" },
		"by a revoked key, backdated":      func(s *scene, d *draft) { d.key = "developer-1/revoked"; s.clock = s.clock.AddDate(-1, 0, 0) },
		"by a key for statements":          func(_ *scene, d *draft) { d.key = "developer-1/statements" },
		"for files":                        func(_ *scene, d *draft) { d.namespace = "file" },
		"for statements":                   func(_ *scene, d *draft) { d.namespace = statement.Namespace },
		"of another message":               func(_ *scene, d *draft) { d.payload = func(text string) string { return text + "x" } },
		"of another tree": func(s *scene, d *draft) {
			harmless := s.tree(s.files)
			d.payload = func(text string) string { return "tree " + harmless + text[45:] }
		},
		"of another parent": func(_ *scene, d *draft) {
			d.payload = func(text string) string { return strings.Replace(text, "parent ", "parent 0", 1) }
		},
		"rewritten by another committer": func(_ *scene, d *draft) {
			d.forge = func(text string) string {
				return strings.Replace(text, "committer Somebody <developer-1", "committer Somebody <developer-2", 1)
			}
		},
		"reworded": func(_ *scene, d *draft) { d.forge = func(text string) string { return text + "more\n" } },
		"twice": func(s *scene, d *draft) {
			d.forge = func(text string) string {
				_, sig, _ := strings.Cut(text, "gpgsig ")
				sig, _, _ = strings.Cut(sig, "\n\n")
				return header("gpgsig " + sig)(text)
			}
		},
		"of another hash": func(_ *scene, d *draft) { d.forge = header("gpgsig-sha256 -----BEGIN SSH SIGNATURE-----") },
		"folded by two spaces": func(_ *scene, d *draft) {
			d.forge = func(text string) string { return strings.ReplaceAll(text, "\n ", "\n  ") }
		},
		"folded by a tab": func(_ *scene, d *draft) {
			d.forge = func(text string) string { return strings.ReplaceAll(text, "\n ", "\n\t") }
		},
		"with another tree":   func(s *scene, d *draft) { d.forge = header("tree " + s.tree(s.files)) },
		"with another parent": func(s *scene, d *draft) { d.forge = header("parent " + s.head) },
		"with another author": func(_ *scene, d *draft) { d.forge = header("author Somebody <developer-2@estate.example> 1 +0000") },
		"with NUL":            func(_ *scene, d *draft) { d.forge = func(text string) string { return text + "\x00\n" } },
		"dressed up as OpenPGP": func(_ *scene, d *draft) {
			d.forge = func(text string) string { return strings.ReplaceAll(text, "SSH SIGNATURE", "PGP SIGNATURE") }
		},
		"beside an OpenPGP one": func(_ *scene, d *draft) {
			d.forge = func(text string) string {
				return strings.Replace(text, "gpgsig ", "gpgsig -----BEGIN PGP SIGNATURE-----\n \n xA==\n -----END PGP SIGNATURE-----\n ", 1)
			}
		},
		"cut off": func(_ *scene, d *draft) {
			d.forge = func(text string) string { return strings.Replace(text, "-----END", "-----", 1) }
		},
		"of a bad key": func(_ *scene, d *draft) {
			d.forge = func(text string) string { return strings.Replace(text, "AAAA", "AAAB", 1) }
		},
	} {
		for _, d := range deliveries[:6] {
			t.Run(name+"/"+d.name, func(t *testing.T) {
				t.Parallel()
				s := newScene(t, nil)
				before, now := s.files, s.clock
				change := draft{files: s.files.with(two), key: "developer-1"}
				forge(s, &change)
				d.land(s, change)
				s.clock = now
				s.mustPropose()
				s.approves("release-manager-2")
				s.denied(s.judge("dev"))
				s.recovers(before)
			})
		}
	}
}

// TestAdversaryCommitObjects makes commits that readers may take for different ones. What is judged and released is what
// people see with Git, or nothing.
func TestAdversaryCommitObjects(t *testing.T) {
	t.Parallel()
	s := newScene(t, nil)
	evil := s.tree(s.files.with(files{"apps/dev/objects.yaml": file(mapYAML("shop", "evil"))}))
	before := s.head
	for name, forge := range map[string]func(string) string{
		"second tree": func(text string) string { return strings.Replace(text, "\nauthor", "\ntree "+evil+"\nauthor", 1) },
		"folded tree": func(text string) string { return strings.Replace(text, "\n\n", "\nnote x\n tree "+evil+"\n\n", 1) },
		"tree in a signature": func(text string) string {
			return strings.Replace(text, "\n\n", "\ngpgsig-sha256 x\n tree "+evil+"\n\n", 1)
		},
		"tree in a tag": func(text string) string {
			return strings.Replace(text, "\n\n", "\nmergetag object x\n tree "+evil+"\n parent "+evil+"\n\n", 1)
		},
		"parent after the author":   func(text string) string { return strings.Replace(text, "\n\n", "\nparent "+before+"\n\n", 1) },
		"line of spaces":            func(text string) string { return strings.Replace(text, "\nauthor", "\n  \ntree "+evil+"\nauthor", 1) },
		"carriage returns":          func(text string) string { return strings.ReplaceAll(text, "\n", "\r\n") },
		"upper case":                func(text string) string { return strings.Replace(text, "parent ", "Parent ", 1) },
		"tree in the message":       func(text string) string { return text + "\ntree " + evil + "\n" },
		"encoding and unknown ones": func(text string) string { return strings.Replace(text, "\n\n", "\nencoding UTF-7\nx y\n\n", 1) },
	} {
		id := s.commit(draft{parents: []string{before}, files: s.files, forge: forge})
		read := func(what string) string {
			cmd := exec.CommandContext(t.Context(), "git", "rev-parse", what)
			cmd.Dir = s.git.Filesystem().Root()
			out, err := cmd.CombinedOutput()
			if err != nil {
				return "" // Git does not read it
			}
			return strings.TrimSpace(string(out))
		}
		s.head = id
		repo := s.agent.sources["estate"].repo
		if err := s.tryFetch(); err != nil {
			continue // neither does Purser
		}
		tree, err := repo.Tree(id)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if git := read(id + "^{tree}"); tree.ID() != git {
			t.Errorf("%s: the tree is %s, for Git %s", name, tree.ID(), git)
		}
		parents, err := repo.Parents(id)
		if git := strings.Fields(read(id + "^@")); err != nil || fmt.Sprint(parents) != fmt.Sprint(git) {
			t.Errorf("%s: the parents are %v, for Git %v (%v)", name, parents, git, err)
		}
	}
}

// TestAdversaryApprovers has somebody approve who must not.
func TestAdversaryApprovers(t *testing.T) {
	t.Parallel()
	random := seeded(t)
	trailers := []string{
		"Co-authored-by: RM <%s>", "co-authored-by: <%s>", "CO-AUTHORED-BY:%s", "Co-authored-by : RM <%s>", "Co-authored-by:\n  RM\n  <%s>", "Co-committed-by: RM <%s>",
		"Co-authored-by: RM <%s> <other@estate.example>", "  Co-authored-by: RM <%s>", "Co-authored-by: nobody <x@y>\nCo-authored-by: RM <%s>",
		"Co-authored-by: RM <%s>\n\nanother paragraph", "Co-authored-by: RM <%s>\r",
	}
	emails := []string{"release-manager-2@estate.example", "RELEASE-MANAGER-2@ESTATE.EXAMPLE", " release-manager-2@estate.example "}
	for i := range 2 * len(trailers) {
		trailer, email := trailers[i%len(trailers)], emails[random.IntN(len(emails))]
		t.Run(fmt.Sprintf("the co-author of %q as %q", trailer, email), func(t *testing.T) {
			t.Parallel()
			s := newScene(t, nil)
			s.change(draft{key: "developer-1", message: "Two\n\n" + fmt.Sprintf(trailer, email) + "\n"}, two)
			s.mustPropose()
			s.approves("release-manager-2")
			s.denied(s.judge("dev"))
			s.approves("release-manager-1")
			if v := s.judge("dev"); v.Answer != policy.Allow {
				t.Error(gatesOf(v))
			}
		})
	}
	land := func(d draft) func(*scene) {
		return func(s *scene) { s.change(d, two); s.mustPropose() }
	}
	honest := land(draft{key: "developer-1"})
	for name, attack := range map[string]struct {
		land func(*scene)
		keys []string // who approves
	}{
		"the author":                               {land(draft{author: "release-manager-2", key: "release-manager-2"}), []string{"release-manager-2"}},
		"the author with another key":              {land(draft{author: "release-manager-1", key: "release-manager-1"}), []string{"release-manager-1/second"}},
		"the signer of somebody else's commit":     {land(draft{author: "developer-1", key: "release-manager-1/second"}), []string{"release-manager-1"}},
		"the author of a commit signed by another": {land(draft{author: "release-manager-2", key: "developer-1"}), []string{"release-manager-2"}},
		"the committer":                            {land(draft{committer: "release-manager-2", key: "developer-1"}), []string{"release-manager-2"}},
		"a bot":                                    {honest, []string{"release-bot"}},
		"a developer":                              {honest, []string{"developer-2", "developer-1", "developer-1/statements"}},
		"an owner of governance":                   {honest, []string{"owner-1", "owner-2"}},
		"somebody with a revoked key":              {honest, []string{"release-manager-1/revoked"}},
		"somebody with a key for commits":          {honest, []string{"release-manager-2/commits"}},
		"nobody":                                   {honest, []string{"nobody"}},
		"one person with two keys, where two are asked": {func(s *scene) {
			s.enact(files{"purser/envs/dev.yaml": file(envYAML("dev", "class: high"))})
			honest(s)
		}, []string{"release-manager-1", "release-manager-1/second"}},
		"the author of a part of it": {func(s *scene) {
			s.change(draft{author: "release-manager-2", key: "release-manager-2"}, files{"base/common.yaml": file(mapYAML("common", "two"))})
			honest(s)
		}, []string{"release-manager-2"}},
		"the author of one commit of a merge": {func(s *scene) {
			one := s.commit(draft{files: s.files.with(two), author: "release-manager-2", key: "release-manager-2"})
			other := s.commit(draft{parents: []string{one}, files: s.files.with(two).with(files{"base/common.yaml": file(mapYAML("common", "two"))}), key: "developer-1"})
			s.land(draft{parents: []string{s.head, other}, files: s.files.with(two).with(files{"base/common.yaml": file(mapYAML("common", "two"))}), author: "developer-1", key: "developer-1"})
			s.mustPropose()
		}, []string{"release-manager-2"}},
		"the merger who resolved a conflict": {func(s *scene) {
			topic := s.commit(draft{files: s.files.with(two), key: "developer-1"})
			s.live(files{"apps/dev/objects.yaml": file(mapYAML("shop", "main"))})
			s.land(draft{parents: []string{s.head, topic}, files: s.files.with(files{"apps/dev/objects.yaml": file(mapYAML("shop", "both"))}), author: "release-manager-2", key: "release-manager-2"})
			s.mustPropose()
		}, []string{"release-manager-2"}},
		"somebody whose key is revoked afterwards": {func(s *scene) {
			honest(s)
			s.approves("release-manager-2")
			s.enact(files{"purser/people/manager-2.yaml": file(personYAML("release-manager-2", "release-manager", "", keyYAML("release-manager-2", ", revoked: {at: 2026-11-23T09:00:00Z, reason: stolen}")))})
		}, nil},
		"somebody who is removed afterwards": {func(s *scene) {
			honest(s)
			s.approves("release-manager-2")
			s.enact(files{"purser/people/manager-2.yaml": {}})
		}, nil},
		"somebody who loses the role afterwards": {func(s *scene) {
			honest(s)
			s.approves("release-manager-2")
			s.enact(files{"purser/people/manager-2.yaml": file(personYAML("release-manager-2", "developer", "", keyYAML("release-manager-2", "")))})
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, nil)
			attack.land(s)
			for _, key := range attack.keys {
				s.approves(key)
			}
			s.stopped()
		})
	}
}

// TestAdversaryStolenKey signs a commit with a stolen key; before or after the agent first saw it, the key is revoked.
func TestAdversaryStolenKey(t *testing.T) {
	t.Parallel()
	revoke := files{"purser/people/developer-2.yaml": file(personYAML("developer-2", "developer", "", keyYAML("developer-2", ", revoked: {at: 2026-11-23T09:00:00Z, reason: stolen}")))}
	expire := files{"purser/people/developer-2.yaml": file(personYAML("developer-2", "developer", "", keyYAML("developer-2", ", validBefore: 2026-11-23T10:00:00Z")))}
	for name, attack := range map[string]struct {
		law   files
		first bool // the agent saw the commit before
		after time.Duration
		lives bool
	}{
		"revoked after it was seen":  {revoke, true, time.Hour, false},
		"revoked before it was seen": {revoke, false, time.Hour, false},
		"expired after it was seen":  {expire, true, 2 * time.Hour, true},
		"expired before it was seen": {expire, false, 2 * time.Hour, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, nil)
			if !attack.first {
				s.enact(attack.law)
				s.clock = s.clock.Add(attack.after)
			}
			s.change(draft{author: "developer-2", key: "developer-2"}, two)
			s.mustPropose()
			if attack.first {
				s.enact(attack.law)
				s.clock = s.clock.Add(attack.after)
			}
			s.approves("release-manager-2")
			if v := s.judge("dev"); attack.lives != (v.Answer == policy.Allow) {
				t.Error(gatesOf(v))
			}
		})
	}
}

// TestAdversaryForgeAdministrator reviews in the names of others, as whoever administers a forge can. Where the class takes
// signed statements alone, that lets nothing in: neither a release, nor what was live before, nor another governance.
func TestAdversaryForgeAdministrator(t *testing.T) {
	t.Parallel()
	signed := func(file files, path string) files {
		text := strings.Replace(file[path].text, "{count: 1, roles: [release-manager]}", "{count: 1, roles: [release-manager], by: statement}", 1)
		text = strings.Replace(text, "{count: 1, roles: [governance-owner]}", "{count: 1, roles: [governance-owner], by: statement}", 1)
		return files{path: {text: text, mode: file[path].mode}}
	}
	const class, estate = "purser/classes/standard.yaml", "purser/estate.yaml"
	demands := signed(estateFiles(), class).with(signed(estateFiles(), estate))
	forged := func(s *scene, changes files, account string) {
		topic := s.commit(draft{files: s.files.with(changes), key: "developer-1"})
		m := s.land(draft{parents: []string{s.head, topic}, files: s.files.with(changes), author: "forge@estate.example"})
		s.merged(m, topic, account, topic)
	}
	t.Run("a release", func(t *testing.T) {
		t.Parallel()
		s := newScene(t, demands)
		forged(s, two, "rm-2")
		s.mustPropose()
		v := s.judge("dev")
		s.denied(v)
		if said := gatesOf(v); !strings.Contains(said, "by a signed statement (release-manager-1, release-manager-2, release-manager-3); the review of release-manager-2 is no signed statement") {
			t.Error(said)
		}
		s.approves("release-manager-2") // the review of the same person takes nothing from it
		if v := s.judge("dev"); v.Answer != policy.Allow {
			t.Error(gatesOf(v))
		}
	})
	t.Run("the declarations", func(t *testing.T) {
		t.Parallel()
		owner := files{"purser/people/owner-1.yaml": file(personYAML("owner-1", "governance-owner", "  forges: [{source: estate, login: own-1}]\n", keyYAML("owner-1", "")))}
		s := newScene(t, demands.with(owner))
		forged(s, files{class: estateFiles()[class]}, "own-1")
		v, err := s.amendment()
		if err != nil {
			t.Fatal(err)
		}
		s.denied(v)
	})
	t.Run("without the demand", func(t *testing.T) { // what the attack is
		t.Parallel()
		s := newScene(t, nil)
		forged(s, two, "rm-2")
		s.mustPropose()
		if v := s.judge("dev"); v.Answer != policy.Allow {
			t.Error(gatesOf(v))
		}
	})
}

// TestAdversaryLoneManager has one release manager order what the class asks several people for.
func TestAdversaryLoneManager(t *testing.T) {
	t.Parallel()
	unnamed := files{}
	for _, name := range []string{"standard", "high"} {
		path := "purser/classes/" + name + ".yaml"
		unnamed[path] = file(strings.Replace(estateFiles()[path].text, ", override: {gates: [signatures, approvals, calendar]}", "", 1))
	}
	s := newScene(t, unnamed)
	before := s.files
	s.change(draft{author: "release-manager-2", key: "release-manager-2"}, two)
	s.mustPropose()
	s.says("release-manager-2", statement.Statement{Verb: statement.Override, Environment: "dev", Gates: []string{"signatures", "approvals", "policy", "images"}, Reason: "now", Ticket: "ERP-1"})
	v := s.judge("dev")
	s.denied(v)
	if said := gatesOf(v); !strings.Contains(said, `for class "standard" nobody overrides this gate: its override.gates does not have it`) {
		t.Error(said)
	}
	s.recovers(before)
}
