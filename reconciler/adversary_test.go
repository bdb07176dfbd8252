package reconciler

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	gitcache "github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/storage/filesystem"
	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"github.com/purser-gitops/purser/health"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/landed"
	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/declaration"
	"github.com/purser-gitops/purser/sources/forge"
	"github.com/purser-gitops/purser/sources/statement"
)

// The adversary suite. A scene is an estate in a Git repository, judged by what judges it in the agent: landed changes,
// people, statements, classes, gates. No server is needed, so that hundreds of variants take seconds;
// adversary_world_test.go tries some of each class on a running agent.
//
// Whoever attacks has the right to push to every branch and every ref, and the keys of one person.
type scene struct {
	t     *testing.T
	git   *filesystem.Storage
	agent *Agent
	law   *law
	clock time.Time
	head  string // of main
	files files  // at head
	forge *storedForge
	// What is known of backups, by environment; without an entry it is unknown.
	backups map[string]*policy.Backup
}

// leaf is a file, link or submodule.
type leaf struct {
	mode filemode.FileMode
	text string
}

type files map[string]leaf

func file(text string) leaf { return leaf{filemode.Regular, text} }

// with gives other files in some places; a leaf without a mode is none.
func (f files) with(changes files) files {
	next := maps.Clone(f)
	for name, l := range changes {
		if l.mode == 0 {
			delete(next, name)
		} else {
			next[name] = l
		}
	}
	return next
}

// signers are the keys of the scenes, made once. A name after a slash is another key of the person before it.
var signers = sync.OnceValue(func() map[string]ssh.Signer {
	keys := map[string]ssh.Signer{}
	for _, name := range []string{
		"developer-1", "developer-1/statements", "developer-1/expired", "developer-1/revoked", "developer-1/future", "developer-2",
		"release-manager-1", "release-manager-1/second", "release-manager-1/revoked", "release-manager-2", "release-manager-2/commits", "release-manager-3", "owner-1", "owner-2", "release-bot", "nobody",
	} {
		_, private, err := ed25519.GenerateKey(nil)
		if err != nil {
			panic(err)
		}
		if keys[name], err = ssh.NewSignerFromKey(private); err != nil {
			panic(err)
		}
	}
	return keys
})

func publicKey(name string) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signers()[name].PublicKey())))
}

func personYAML(name, roles, more string, keys ...string) string {
	return fmt.Sprintf("apiVersion: purser.dev/v1alpha1\nkind: Person\nmetadata: {name: %s}\nspec:\n  roles: [%s]\n  emails: [%s@estate.example]\n%s  keys:\n%s",
		name, roles, name, more, strings.Join(keys, ""))
}

func keyYAML(name, more string) string {
	return fmt.Sprintf("    - {ssh: %s%s}\n", publicKey(name), more)
}

const classYAML = `apiVersion: purser.dev/v1alpha1
kind: ReleaseClass
metadata: {name: %s}
spec: {rank: %d, signatures: %s, approvals: [{count: %d, roles: [release-manager]}], override: {gates: [signatures, approvals, calendar]}}
`

func envYAML(name, more string) string {
	return fmt.Sprintf(`apiVersion: purser.dev/v1alpha1
kind: Environment
metadata: {name: %s}
spec: {purpose: production, namespace: north-%s, tenant: north, cluster: lab, source: {path: apps/%s}, %s}
`, name, name, name, more)
}

// started is when the clock of a scene starts.
var started = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

// estateFiles are those of a scene that nothing happened to yet.
func estateFiles() files {
	text := map[string]string{
		"purser/people/developers.yaml": personYAML("developer-1", "developer", "  forges: [{source: estate, login: dev-1}]\n",
			keyYAML("developer-1", ""), keyYAML("developer-1/statements", ", uses: [statements]"), keyYAML("developer-1/expired", ", validBefore: 2026-11-01T00:00:00Z"),
			keyYAML("developer-1/future", ", validAfter: 2027-11-01T00:00:00Z"),
			keyYAML("developer-1/revoked", ", revoked: {at: 2026-11-01T00:00:00Z, reason: stolen}")),
		"purser/people/developer-2.yaml": personYAML("developer-2", "developer", "  forges: [{source: estate, login: dev-2}]\n", keyYAML("developer-2", "")),
		"purser/people/manager-1.yaml": personYAML("release-manager-1", "release-manager, developer", "  forges: [{source: estate, login: rm-1}]\n",
			keyYAML("release-manager-1", ""), keyYAML("release-manager-1/second", ""), keyYAML("release-manager-1/revoked", ", revoked: {at: 2026-11-01T00:00:00Z, reason: lost}")),
		"purser/people/manager-2.yaml": personYAML("release-manager-2", "release-manager", "  forges: [{source: estate, login: rm-2}]\n",
			keyYAML("release-manager-2", ""), keyYAML("release-manager-2/commits", ", uses: [commits]")),
		"purser/people/manager-3.yaml": personYAML("release-manager-3", "release-manager", "", keyYAML("release-manager-3", "")),
		"purser/people/owner-1.yaml":   personYAML("owner-1", "governance-owner", "", keyYAML("owner-1", "")),
		"purser/people/owner-2.yaml":   personYAML("owner-2", "governance-owner", "", keyYAML("owner-2", "")),
		"purser/people/bot.yaml":       personYAML("release-bot", "release-manager, developer", "  bot: true\n", keyYAML("release-bot", "")),
		"purser/classes/standard.yaml": fmt.Sprintf(classYAML, "standard", 20, "required", 1),
		"purser/classes/reviewed.yaml": fmt.Sprintf(classYAML, "reviewed", 15, "optional", 1),
		"purser/classes/high.yaml":     fmt.Sprintf(classYAML, "high", 30, "required", 2),
		"purser/tenant.yaml":           "apiVersion: purser.dev/v1alpha1\nkind: Tenant\nmetadata: {name: north}\nspec: {namespaces: [north-*]}\n",
		"purser/estate.yaml": `apiVersion: purser.dev/v1alpha1
kind: Estate
metadata: {name: test}
spec:
  governance: {signatures: required, approvals: [{count: 1, roles: [governance-owner]}]}
  classification: [{name: payments, expression: "paths.exists(p, p.contains('payment'))", class: high}]
`,
		"purser/envs/dev.yaml":    envYAML("dev", "class: standard"),
		"purser/envs/qa.yaml":     envYAML("qa", "class: low"),
		"base/kustomization.yaml": "resources: [common.yaml]\n", "base/common.yaml": mapYAML("common", "one"),
		"other/kustomization.yaml": "resources: [common.yaml]\n", "other/common.yaml": mapYAML("common", "planted"),
		"apps/dev/kustomization.yaml": "resources: [../../base, objects.yaml]\n", "apps/dev/objects.yaml": mapYAML("shop", "one"),
		"apps/dev/payment.yaml":      mapYAML("payment", "one"),
		"apps/qa/kustomization.yaml": "resources: [../../base, objects.yaml]\n", "apps/qa/objects.yaml": mapYAML("shop", "one"),
		"README.md": "An estate.\n",
	}
	f := files{}
	for name, t := range text {
		f[name] = file(t)
	}
	return f
}

func mapYAML(name, value string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {value: %q}\n", name, value)
}

// newScene makes an estate, approves its first declarations, and approves its first release of dev.
func newScene(t *testing.T, change files) *scene {
	t.Helper()
	dir := t.TempDir()
	fs := osfs.New(filepath.Join(dir, "estate.git"))
	s := &scene{t: t, git: filesystem.NewStorage(fs, gitcache.NewObjectLRUDefault()), clock: started, forge: &storedForge{}}
	if err := errors.Join(s.git.Init(), s.git.SetReference(plumbing.NewSymbolicReference(plumbing.HEAD, "refs/heads/main"))); err != nil {
		t.Fatal(err)
	}
	repo, err := sources.Open(filepath.Join(dir, "copy.git"), sources.Options{URL: filepath.Join(dir, "estate.git"), Now: s.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { repo.Close() })
	config := &declaration.AgentConfig{}
	config.Governance = declaration.AgentGovernance{Source: "estate", Branch: "main", Path: "purser"}
	config.Sources = []declaration.AgentSource{{Name: "estate", URL: "https://git.example/retail/estate.git"}}
	config.Clusters = []declaration.AgentCluster{{Name: "lab"}}
	config.Backup.Stores = []declaration.AgentStore{{Name: "main"}}
	s.agent = &Agent{
		config: config, now: s.now, logger: slog.New(slog.DiscardHandler), journal: &journal{state: NewState()},
		renderer: render.New(render.Options{Concurrency: 1}), decrypt: render.NewDecrypter(""),
		sources: map[string]*source{"estate": {name: "estate", repo: repo}}, releases: newReleaseCache(),
		observed: map[string]*observation{}, claims: map[claim]string{}, renders: newTurns(1),
	}
	t.Cleanup(s.agent.renderer.Close)
	s.tells(nil)
	s.land(draft{files: estateFiles().with(change), author: "developer-1", key: "developer-1"})
	set, err := s.agent.parseGovernance(s.head)
	if err != nil {
		t.Fatal(err)
	}
	s.law = newLaw(s.head, set)
	s.agent.law = s.law
	s.agent.journal.state.Governance.Approved = &evidence.Revision{Source: "estate", Revision: s.revision(s.head)}
	s.propose("dev")
	s.approve("dev")
	return s
}

// tells has the estate tell what landed, with the help of a forge or without.
func (s *scene) tells(pulls *landed.Pulls) {
	src := s.agent.sources["estate"]
	src.pulls = pulls
	src.landed = landed.New(landed.Options{
		Source: src.name, Git: src.repo, Pulls: pulls, Cache: landed.NewCache(), Fetch: func() { src.poller.Trigger() }, Now: s.now,
	})
}

func (s *scene) now() time.Time { return s.clock }

func (s *scene) revision(commit string) string {
	return sources.Revision{Branch: "main", Commit: commit}.String()
}

// draft is a commit to be made.
type draft struct {
	parents           []string // nil: the head of main; none: []string{}
	files             files
	author, committer string // persons, or addresses; default: developer-1, and the author
	key               string // "": it is not signed
	message           string
	namespace         string              // of the signature; default: git
	forge             func(string) string // alters the finished commit
	payload           func(string) string // alters what is signed
}

// commit stores a commit.
func (s *scene) commit(d draft) string {
	s.t.Helper()
	if d.parents == nil && s.head != "" {
		d.parents = []string{s.head}
	}
	ident := func(name string) string {
		if !strings.Contains(name, "@") {
			name += "@estate.example"
		}
		return fmt.Sprintf("Somebody <%s> %d +0000", name, s.clock.Unix())
	}
	if d.author == "" {
		d.author = "developer-1"
	}
	if d.committer == "" {
		d.committer = d.author
	}
	if d.message == "" {
		d.message = "Change something\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "tree %s\n", s.tree(d.files))
	for _, p := range d.parents {
		fmt.Fprintf(&b, "parent %s\n", p)
	}
	fmt.Fprintf(&b, "author %s\ncommitter %s\n", ident(d.author), ident(d.committer))
	head, text := b.String(), b.String()+"\n"+d.message
	if d.key != "" {
		signed := text
		if d.payload != nil {
			signed = d.payload(text)
		}
		if d.namespace == "" {
			d.namespace = "git"
		}
		text = head + "gpgsig " + strings.ReplaceAll(signSSH(s.t, d.key, d.namespace, signed), "\n", "\n ") + "\n\n" + d.message
	}
	if d.forge != nil {
		text = d.forge(text)
	}
	return s.object(plumbing.CommitObject, []byte(text))
}

func signSSH(t *testing.T, key, namespace, text string) string {
	t.Helper()
	sig, err := sshsig.Sign(strings.NewReader(text), signers()[key], sshsig.HashSHA512, namespace)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(sshsig.Armor(sig)))
}

// tree stores files and the directories that they are in.
func (s *scene) tree(f files) string {
	s.t.Helper()
	below, own := map[string]files{}, map[string]leaf{}
	for name, l := range f {
		if dir, rest, nested := strings.Cut(name, "/"); nested {
			if below[dir] == nil {
				below[dir] = files{}
			}
			below[dir][rest] = l
		} else {
			own[name] = l
		}
	}
	type entry struct{ sortBy, raw string }
	var entries []entry
	add := func(name, suffix, mode, id string) {
		hash := plumbing.NewHash(id)
		entries = append(entries, entry{name + suffix, mode + " " + name + "\x00" + string(hash[:])})
	}
	for name, f := range below {
		add(name, "/", "40000", s.tree(f))
	}
	for name, l := range own {
		id := l.text
		if l.mode != filemode.Submodule {
			id = s.object(plumbing.BlobObject, []byte(l.text))
		}
		add(name, "", strings.TrimLeft(l.mode.String(), "0"), id)
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.sortBy, b.sortBy) })
	var raw strings.Builder
	for _, e := range entries {
		raw.WriteString(e.raw)
	}
	return s.object(plumbing.TreeObject, []byte(raw.String()))
}

func (s *scene) object(kind plumbing.ObjectType, content []byte) string {
	s.t.Helper()
	o := s.git.NewEncodedObject()
	o.SetType(kind)
	w, err := o.Writer()
	if err == nil {
		_, err = io.Copy(w, bytes.NewReader(content))
	}
	if err != nil {
		s.t.Fatal(err)
	}
	if s.git.HasEncodedObject(o.Hash()) == nil {
		return o.Hash().String()
	}
	id, err := s.git.SetEncodedObject(o)
	if err != nil {
		s.t.Fatal(err)
	}
	return id.String()
}

// land commits to main and pushes.
func (s *scene) land(d draft) string {
	s.t.Helper()
	s.push(s.commit(d), d.files)
	return s.head
}

// change lands some other files, all else as it is.
func (s *scene) change(d draft, changes files) string {
	s.t.Helper()
	d.files = s.files.with(changes)
	return s.land(d)
}

// push makes a commit the head of main, and has the agent fetch it.
func (s *scene) push(commit string, f files) {
	s.t.Helper()
	s.head, s.files = commit, f
	s.fetch()
}

func (s *scene) fetch() {
	s.t.Helper()
	if err := s.tryFetch(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) tryFetch() error {
	if err := s.git.SetReference(plumbing.NewHashReference("refs/heads/main", plumbing.NewHash(s.head))); err != nil {
		return err
	}
	wanted := sources.Wanted{Branches: []string{"main"}, Refs: []string{"refs/pull/"}}
	_, err := s.agent.sources["estate"].repo.SyncAll(s.t.Context(), wanted)
	return err
}

// fold makes something recorded.
func (s *scene) fold(kind, environment string, predicate any) {
	s.t.Helper()
	h := history{t: s.t, at: s.clock.Add(-time.Second)}
	h.add(kind, environment, 0, predicate)
	if err := s.agent.journal.state.Fold(h.records[0]); err != nil {
		s.t.Fatal(err)
	}
}

// propose renders the head for an environment as the agent does. It gives the digest, or says why there is none.
func (s *scene) propose(environment string) (digest string, refused error) {
	s.t.Helper()
	a, env, state := s.agent, s.law.Environments[environment], s.agent.journal.environment(environment)
	at := sources.Revision{Branch: "main", Commit: s.head}
	release, err := a.renderCommit(s.t.Context(), env, a.sources["estate"], at)
	if err != nil {
		return "", err
	}
	a.releases.add(release)
	if state.Proposed != nil && state.Proposed.Release == release.Digest {
		return release.Digest, nil
	}
	change := evidence.Change{To: release.Digest, Revision: evidence.Revision{Source: "estate", Revision: at.String()}, Origin: policy.OriginFirst, Images: policy.ImageList(release.Images)}
	if state.Approved != nil {
		approved, err := a.approvedRelease(s.t.Context(), env, state)
		if err != nil {
			s.t.Fatal(err)
		}
		change.From = state.Approved.Release
		if change.Landed, err = a.listLanded(env, state, approved, release, at); err != nil {
			s.t.Fatal(err)
		}
	}
	s.fold(evidence.TypeChange, environment, change)
	return release.Digest, nil
}

// judge asks the gates about what is proposed, and checks that the decision evaluates to the same from its record.
func (s *scene) judge(environment string) policy.Verdict {
	s.t.Helper()
	a, l, env, state := s.agent, s.law, s.law.Environments[environment], s.agent.journal.environment(environment)
	c, err := a.candidate(s.t.Context(), l, env, l.Tenants[env.Spec.Tenant], state)
	if err != nil {
		s.t.Fatalf("the candidate cannot be judged, which nobody would be told: %v", err)
	}
	f := policy.Facts{
		People: l.people, Hold: state.Hold, Statements: l.believed(state.Statements), Overrides: l.orders(state.Overrides),
		Scopes:   map[string]bool{"/ConfigMap": true, "/Secret": true, "/Service": true, "/Namespace": false, "rbac.authorization.k8s.io/ClusterRole": false},
		Evidence: &policy.EvidenceFact{Reached: s.clock, Limit: time.Minute, SpoolMax: 100, Newest: a.journal.state.At},
		Backup:   s.backups[environment],
	}
	for kind := range podOf {
		f.Scopes[kind] = true
	}
	if from := env.Spec.Promotion.From; from != "" {
		f.Promotion = &policy.Promotion{From: from, Soaks: a.journal.environment(from).Soaks}
	}
	if v, vetoed := state.Vetoes[c.Release.Digest]; vetoed {
		f.Veto = &v
	}
	in := policy.Inputs{Candidate: c, Facts: f, At: s.clock}
	v := in.Evaluate()
	data, err := in.Encode()
	if err != nil {
		s.t.Fatal(err)
	}
	text, err := l.rules()
	if err != nil {
		s.t.Fatal(err)
	}
	rules, err := policy.DecodeRules(text)
	if err != nil {
		s.t.Fatal(err)
	}
	again, err := rules.Decode(data)
	if err != nil {
		s.t.Fatal(err)
	}
	if w := again.Evaluate(); fmt.Sprint(w) != fmt.Sprint(v) {
		s.t.Errorf("from its record the decision is another:\n%v\n%v", w, v)
	}
	return v
}

// approve makes what is proposed the approved and live release.
func (s *scene) approve(environment string) {
	s.t.Helper()
	state := s.agent.journal.environment(environment)
	s.fold(evidence.TypeDecision, environment, evidence.Decision{
		From: "", To: state.Proposed.Release, Revision: state.Proposed.Revision, Verdict: policy.Verdict{Answer: policy.Allow},
	})
	seen := evidence.Health{Release: state.Proposed.Release, To: string(health.Healthy)}
	for _, line := range state.Proposed.Images {
		_, image, _ := strings.Cut(line, "=")
		seen.Ran = append(seen.Ran, image)
	}
	s.fold(evidence.TypeHealth, environment, seen)
	s.fold(evidence.TypeLive, environment, evidence.Live{Release: state.Proposed.Release, Revision: state.Proposed.Revision, Images: state.Proposed.Images})
}

// says pushes a statement, as far as the agent is concerned: it gives why it does not count, "" when it does.
func (s *scene) says(key string, said statement.Statement) (refused string) {
	s.t.Helper()
	if said.Verb != statement.Revoke && said.Verb != statement.Review && said.Expires.IsZero() &&
		slices.Contains([]statement.Verb{statement.Approve, statement.ApproveDelete, statement.Override}, said.Verb) {
		said.Expires = s.clock.Add(time.Hour)
	}
	if said.Statement == "" && said.Environment != statement.Governance && said.Estate == "" {
		said.Estate = "test"
	}
	if said.Statement == "" && said.Repository == "" {
		said.Repository = "git.example/retail/estate"
	}
	payload, err := statement.New(said, s.clock).Encode()
	if err != nil {
		s.t.Fatal(err)
	}
	signed, err := statement.Sign(payload, signers()[key])
	if err != nil {
		s.t.Fatal(err)
	}
	return s.hears(signed)
}

// hears takes a statement as hearOne does.
func (s *scene) hears(signed statement.Signed) (refused string) {
	s.t.Helper()
	said, by, record := s.agent.judgeStatement(s.law, signed)
	if heard := s.agent.journal.state.Statements; heard[signed.ID()] || heard[refusedOf(signed.ID(), by.Key)] {
		return "it was heard before"
	}
	environment := ""
	if record.Refused == "" && said.Environment != statement.Governance {
		environment = said.Environment
	}
	s.fold(evidence.TypeStatement, environment, record)
	return record.Refused
}

// approves says that somebody approves what dev proposes now.
func (s *scene) approves(key string) string {
	s.t.Helper()
	return s.says(key, s.approval())
}

func (s *scene) approval() statement.Statement {
	state := s.agent.journal.environment("dev")
	return statement.Statement{Verb: statement.Approve, Environment: "dev", From: state.Approved.Release, To: state.Proposed.Release, Class: "high"}
}

// stopped checks that what main has now gets nowhere: it does not render, it is what is approved, or a gate says no, why,
// and what to do about it.
func (s *scene) stopped() {
	s.t.Helper()
	digest, refused := s.propose("dev")
	if refused != nil {
		if strings.TrimSpace(refused.Error()) == "" {
			s.t.Error("it is refused without a reason")
		}
		return
	}
	if digest == s.agent.journal.environment("dev").Approved.Release {
		return
	}
	s.denied(s.judge("dev"))
}

// denied checks that a verdict keeps something back, and explains it.
func (s *scene) denied(v policy.Verdict) {
	s.t.Helper()
	if v.Answer == policy.Allow {
		s.t.Errorf("it is allowed:\n%s", gatesOf(v))
	}
	for _, g := range v.Gates {
		if g.Answer != policy.Allow && (g.Reason == "" || g.Hint == "" && g.Until == nil) {
			s.t.Errorf("gate %s says %s without a reason or a remedy: %q", g.Gate, g.Answer, g.Reason)
		}
	}
}

func gatesOf(v policy.Verdict) string {
	var b strings.Builder
	for _, g := range v.Gates {
		fmt.Fprintf(&b, "%-12s %-5s %s\n", g.Gate, g.Answer, g.Reason)
	}
	return b.String()
}

// recovers checks that the way out of an attack is open: what the attack left is taken back, and a good change goes through.
func (s *scene) recovers(before files) {
	s.t.Helper()
	s.clock = s.clock.Add(time.Minute)
	s.land(draft{files: before, author: "developer-2", key: "developer-2", message: "Take it back\n"})
	if _, err := s.propose("dev"); err != nil {
		s.t.Fatal(err)
	}
	s.clock = s.clock.Add(time.Minute)
	s.change(draft{author: "developer-2", key: "developer-2"}, files{"apps/dev/objects.yaml": file(mapYAML("shop", "good"))})
	if _, err := s.propose("dev"); err != nil {
		s.t.Fatal(err)
	}
	s.denied(s.judge("dev"))
	for _, key := range []string{"release-manager-2", "release-manager-1"} { // where it is unknown who made something, it takes two
		if refused := s.approves(key); refused != "" {
			s.t.Fatalf("the approval does not count: %s", refused)
		}
	}
	if v := s.judge("dev"); v.Answer != policy.Allow {
		s.t.Errorf("a good change is stuck:\n%s", gatesOf(v))
	}
}

// enact puts other declarations in force, as if owners had approved them.
func (s *scene) enact(changes files) {
	s.t.Helper()
	s.change(draft{author: "owner-1", key: "owner-1"}, changes)
	set, err := s.agent.parseGovernance(s.head)
	if err != nil {
		s.t.Fatal(err)
	}
	s.law = newLaw(s.head, set)
	s.agent.law = s.law
	s.agent.journal.state.Governance = Governance{Approved: &evidence.Revision{Source: "estate", Revision: s.revision(s.head)}}
}

// amendment asks the rules in force about the declarations that main has now, or says why they are none.
func (s *scene) amendment() (policy.Verdict, error) {
	s.t.Helper()
	a, g := s.agent, s.agent.journal.state.Governance
	if _, err := a.parseGovernance(s.head); err != nil {
		return policy.Verdict{}, err
	}
	from, err := sources.ParseRevision(g.Approved.Revision)
	if err != nil {
		s.t.Fatal(err)
	}
	to := sources.Revision{Branch: "main", Commit: s.head}
	span := landed.Span{From: from, To: to, Offers: g.Offers}
	past, err := a.sources["estate"].landed.Files(s.t.Context(), s.law.Keyring, span, a.governanceReads())
	if err != nil {
		s.t.Fatal(err)
	}
	return policy.EvaluateAmendment(policy.Amendment{
		Rules: s.law.Estate.Spec.Governance, From: from.Commit, To: to.Commit, History: past.History,
	}, policy.Facts{
		People: s.law.people, Statements: s.law.believed(g.Statements), Evidence: &policy.EvidenceFact{Reached: s.clock, Limit: time.Minute, SpoolMax: 100},
	}, policy.Root{}, s.clock), nil
}

// storedForge is a forge that says what it is told to.
type storedForge struct{ pulls map[string]*forge.PullRequest }

func (f *storedForge) PullRequestOf(_ context.Context, _, commit string) (*forge.PullRequest, error) {
	return f.pulls[commit], nil
}

// merged has the forge say that a landed change is a pull request by dev-1 that somebody approved at its head.
func (s *scene) merged(commit, head, approver string, commits ...string) {
	s.t.Helper()
	p := &forge.PullRequest{
		Number: 7, URL: "https://git.example/7", Author: forge.User{Login: "dev-1"}, Head: head, MergeCommit: commit, Digest: "sha256:0",
		PushersKnown: true, Pushers: []forge.User{{Login: "dev-1"}},
		Reviews: []forge.Review{{User: forge.User{Login: approver}, State: forge.Approved, Head: head, At: s.clock}},
	}
	for _, c := range commits {
		p.Commits = append(p.Commits, forge.Commit{SHA: c, Author: forge.User{Login: "dev-1"}, Emails: []string{"developer-1@estate.example"}})
	}
	if s.forge.pulls == nil {
		s.forge.pulls = map[string]*forge.PullRequest{}
		s.tells(landed.NewPulls(s.forge, time.Hour, s.now))
	}
	s.forge.pulls[commit] = p
	if err := s.git.SetReference(plumbing.NewHashReference("refs/pull/7/head", plumbing.NewHash(head))); err != nil {
		s.t.Fatal(err)
	}
	s.fetch()
}

// seeded gives the random choices of a test; a failure can be repeated with the seed it prints.
func seeded(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	if given := os.Getenv("PURSER_ADVERSARY_SEED"); given != "" {
		if _, err := fmt.Sscan(given, &seed); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("PURSER_ADVERSARY_SEED=%d", seed)
		}
	})
	return rand.New(rand.NewPCG(seed, 7))
}
