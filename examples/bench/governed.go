package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

// person is somebody whom the governance of the estate knows by a key.
type person struct {
	name, role string
	signer     ssh.Signer
	private    ed25519.PrivateKey
}

// newPerson has a key that follows from the name.
func newPerson(name, role string) (person, error) {
	seed := make([]byte, ed25519.SeedSize)
	copy(seed, name)
	p := person{name: name, role: role, private: ed25519.NewKeyFromSeed(seed)}
	var err error
	p.signer, err = ssh.NewSignerFromKey(p.private)
	return p, err
}

const declaredPerson = `apiVersion: purser.dev/v1alpha1
kind: Person
metadata: {name: %[1]s}
spec:
  roles: [%[2]s]
  bot: %[3]t
  keys: [{ssh: %[4]s}]
  emails: [%[1]s@estate.example]
`

// declaredHigh demands what the agent can know: all but backups, whose facts are unknown and would deny.
const declaredHigh = `apiVersion: purser.dev/v1alpha1
kind: ReleaseClass
metadata: {name: high}
spec:
  rank: 30
  signatures: required
  approvals:
    - {count: 1, roles: [release-manager]}
    - {count: 1, roles: [dba]}
  change: {ticket: '^ERP-[0-9]+$', reason: true, impact: true, rollback: true}
  calendar: {minimumRemaining: 30m}
  images: {digests: true}
  tests: [{predicateType: 'https://in-toto.io/attestation/test-result/v0.1', roles: [developer], bots: true}]
  liveHealth: required
`

const declaredCalendar = `apiVersion: purser.dev/v1alpha1
kind: Calendar
metadata: {name: retail}
spec:
  timeZone: Europe/Berlin
  freezes:
    - {name: peak-trade, start: 2099-11-26T00:00, end: 2099-12-01T06:00, repeat: FREQ=YEARLY}
    - {name: month-end, start: 2099-01-31T18:00, end: 2099-02-01T08:00, repeat: FREQ=MONTHLY;BYMONTHDAY=-1}
`

const declaredGoverned = `apiVersion: purser.dev/v1alpha1
kind: Estate
metadata: {name: generated}
spec:
  classification:
    - {name: payments, class: high, expression: "modules.exists(m, m in ['payment', 'tax', 'pricing'])"}
    - {name: databases, class: high, expression: "changes.exists(c, c.kind == 'StatefulSet' || c.kind == 'PersistentVolumeClaim')"}
    - {name: shared, class: high, expression: "paths.exists(p, p.startsWith('apps/odoo/base/'))"}
  defaults:
    class: high
    calendar: retail
    reconcile: {interval: %s}
`

const declaredPolicy = `apiVersion: purser.dev/v1alpha1
kind: Policy
metadata: {name: %s}
spec:
  match: {kinds: [%s]}
  rules:
    - {name: rule, expression: %q, message: %q}
`

const describedRelease = `apiVersion: purser.dev/v1alpha1
kind: Release
spec:
  version: "18.0.15"
  change: {ticket: ERP-241, reason: Other settings, impact: None, rollback: Deploy 18.0.14 again}
  migration: none
  modules: [pos_refund]
  attestations: [tests.dsse.json]
`

// policies hold for every environment of a generated estate. The bench adds one more, which does not.
var policies = []struct{ name, kinds, expression string }{
	{"digests", workloads, "object.spec.template.spec.containers.all(c, c.image.contains('@sha256:'))"},
	{"no-latest", workloads, "!object.spec.template.spec.containers.exists(c, c.image.endsWith(':latest'))"},
	{"registry", workloads, "object.spec.template.spec.containers.all(c, c.image.startsWith('registry.example/'))"},
	{"requests", workloads, "object.spec.template.spec.containers.all(c, 'cpu' in c.?resources.?requests.orValue({}) && 'memory' in c.?resources.?requests.orValue({}))"},
	{"limits", workloads, "object.spec.template.spec.containers.all(c, 'memory' in c.?resources.?limits.orValue({}))"},
	{"memory", workloads, "object.spec.template.spec.containers.all(c, !quantity(string(c.?resources.?limits.?memory.orValue('0'))).isGreaterThan(quantity('8Gi')))"},
	{"readiness", workloads, "object.spec.template.spec.containers.all(c, has(c.readinessProbe))"},
	{"accounts", workloads, "object.spec.template.spec.?serviceAccountName.orValue('default') != 'default'"},
	{"host-network", workloads, "!object.spec.template.spec.?hostNetwork.orValue(false)"},
	{"host-paths", workloads, "object.spec.template.spec.?volumes.orValue([]).all(v, !has(v.hostPath))"},
	{"privileged", workloads, "object.spec.template.spec.containers.all(c, c.?securityContext.?privileged.orValue(false) != true)"},
	{"selectors", workloads, "object.spec.selector.matchLabels.all(k, object.spec.template.metadata.labels[k] == object.spec.selector.matchLabels[k])"},
	{"labels", everything, "'app.kubernetes.io/name' in object.metadata.?labels.orValue({})"},
	{"namespaces", everything, "object.metadata.namespace == environment.namespace"},
	{"isolation", everything, "tenant.namespaces.exists(n, n.endsWith('*') ? object.metadata.namespace.startsWith(n.substring(0, n.size() - 1)) : object.metadata.namespace == n)"},
	{"names", everything, "object.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')"},
	{"node-ports", "{kind: Service}", "object.spec.?type.orValue('ClusterIP') == 'ClusterIP'"},
	{"ports", "{kind: Service}", "object.spec.ports.all(p, has(p.name))"},
	{"passwords", "{kind: ConfigMap}", "object.data.all(k, !k.lowerAscii().contains('password'))"},
}

const (
	workloads    = "{group: apps, kind: Deployment}"
	everything   = "{kind: ConfigMap}, {kind: ServiceAccount}, {kind: Service}, {group: apps, kind: Deployment}"
	brokenPolicy = "owners"
	brokenRule   = "'estate.example/owner' in object.metadata.?labels.orValue({})"
)

// governed is an estate whose releases have to pass every gate that they can be asked to.
type governed struct {
	*generated
	developers []person
	others     []person
}

func newGoverned(g *generated) (*governed, error) {
	e := &governed{generated: g}
	for _, who := range []struct{ name, role string }{
		{"developer-1", "developer"}, {"developer-2", "developer"}, {"developer-3", "developer"},
		{"release-manager-1", "release-manager"}, {"dba-1", "dba"}, {testBot, "developer"},
	} {
		p, err := newPerson(who.name, who.role)
		switch {
		case err != nil:
			return nil, err
		case who.role == "developer" && who.name != testBot:
			e.developers = append(e.developers, p)
		default:
			e.others = append(e.others, p)
		}
	}
	return e, nil
}

// testBot signs the results of tests.
const testBot = "release-bot"

// describe adds what the gates want to know of each release: release.yaml and the result of its tests.
func (e *governed) describe() error {
	image := overlay[strings.LastIndex(overlay, "sha256:")+len("sha256:"):]
	attestation, err := e.attest(strings.TrimSpace(image))
	if err != nil {
		return err
	}
	for _, p := range e.places {
		folder := filepath.Join(overlayFolder, p.environment)
		if err := errors.Join(e.write(filepath.Join(folder, "release.yaml"), describedRelease), e.write(filepath.Join(folder, "tests.dsse.json"), attestation)); err != nil {
			return err
		}
	}
	return nil
}

// attest is a test result about an image, in a DSSE envelope.
func (e *governed) attest(image string) (string, error) {
	const kind = "application/vnd.in-toto+json"
	payload := fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"odoo","digest":{"sha256":%q}}],`+
		`"predicateType":"https://in-toto.io/attestation/test-result/v0.1","predicate":{"result":"PASSED"}}`, image)
	bot := e.others[len(e.others)-1]
	signature := ed25519.Sign(bot.private, fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(kind), kind, len(payload), payload))
	text, err := json.Marshal(map[string]any{
		"payloadType": kind, "payload": payload,
		"signatures": []any{map[string]any{"keyid": ssh.FingerprintSHA256(bot.signer.PublicKey()), "sig": base64.StdEncoding.EncodeToString(signature)}},
	})
	return string(text), err
}

// scale writes the overlay of an environment with so many pods.
func (e *governed) scale(p place, replicas int) error {
	return e.write(filepath.Join(overlayFolder, p.environment, "kustomization.yaml"),
		fmt.Sprintf(overlay+"replicas: [{name: web, count: %d}]\n", p.namespace, replicas))
}

// govern declares people, a class for all environments, a calendar and the policies; all but the first environment are
// promoted from that one.
func (e *governed) govern() error {
	files := map[string]string{
		"estate.yaml": fmt.Sprintf(declaredGoverned, calm), "high.yaml": declaredHigh, "calendar.yaml": declaredCalendar,
	}
	for _, p := range append(e.developers, e.others...) {
		key := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(p.signer.PublicKey())))
		files[filepath.Join("people", p.name+".yaml")] = fmt.Sprintf(declaredPerson, p.name, p.role, p.name == testBot, key)
	}
	for _, p := range policies {
		files[filepath.Join("policies", p.name+".yaml")] = fmt.Sprintf(declaredPolicy, p.name, p.kinds, p.expression, "broken: "+p.name)
	}
	for _, p := range e.places[1:] {
		text := fmt.Sprintf(declared, p.environment, p.tenant, p.namespace, overlayFolder, p.environment)
		files[filepath.Join("environments", p.environment+".yaml")] = text + fmt.Sprintf("  promotion: {from: %s}\n", e.places[0].environment)
	}
	for name, text := range files {
		if err := e.write(filepath.Join("purser", name), text); err != nil {
			return err
		}
	}
	return e.demand("", "true")
}

// demand writes the last policy anew.
func (e *governed) demand(message, rule string) error {
	return e.write(filepath.Join("purser", "policies", brokenPolicy+".yaml"),
		fmt.Sprintf(declaredPolicy, brokenPolicy, workloads, rule, "name the owner of every Deployment"+message))
}

// land pushes one signed commit of each developer for every environment, one after the other of all environments.
func (e *governed) land(ctx context.Context) error {
	var stream bytes.Buffer
	stream.WriteString("reset refs/heads/unsigned\nfrom refs/heads/main^0\n\n")
	mark := 0
	for value := range e.developers {
		for _, p := range e.places {
			mark++
			if err := e.change(p, value+1); err != nil {
				return err
			}
			text := fmt.Sprintf(settings, p.environment, value+1)
			fmt.Fprintf(&stream, "commit refs/heads/unsigned\nmark :%d\ncommitter bench <bench@estate.example> %d +0000\ndata 0\nM 100644 inline %s\ndata %d\n%s\n",
				mark, time.Now().Unix(), filepath.Join(overlayFolder, p.environment, "settings.yaml"), len(text), text)
		}
	}
	load := exec.CommandContext(ctx, "git", "fast-import", "--quiet")
	load.Dir, load.Stdin = e.dir, &stream
	if out, err := load.CombinedOutput(); err != nil {
		return fmt.Errorf("git fast-import: %w: %s", err, out)
	}
	list := exec.CommandContext(ctx, "git", "log", "--reverse", "--format=%T", "main..unsigned")
	list.Dir, list.Stderr = e.dir, os.Stderr
	trees, err := list.Output()
	if err != nil {
		return fmt.Errorf("git log: %w", err)
	}
	head, err := e.sign(strings.Fields(string(trees)))
	if err != nil {
		return err
	}
	return errors.Join(
		e.git(ctx, "update-ref", "-d", "refs/heads/unsigned"), e.git(ctx, "update-ref", "refs/heads/main", head),
		e.git(ctx, "reset", "--quiet"), e.git(ctx, "push", "--quiet", "origin", "main"))
}

// sign makes a signed commit of each tree, on top of what there is, and gives the last one.
func (e *governed) sign(trees []string) (head string, err error) {
	repo, err := git.PlainOpen(e.dir)
	if err != nil {
		return "", err
	}
	main, err := repo.Reference("refs/heads/main", true)
	if err != nil {
		return "", err
	}
	head = main.Hash().String()
	for i, tree := range trees {
		by := e.developers[i/len(e.places)]
		ident := fmt.Sprintf("%s <%s@estate.example> %d +0000", by.name, by.name, time.Now().Unix())
		headers := fmt.Sprintf("tree %s\nparent %s\nauthor %s\ncommitter %s\n", tree, head, ident, ident)
		message := fmt.Sprintf("Change %s\n", e.places[i%len(e.places)].environment)
		signature, err := sshsig.Sign(strings.NewReader(headers+"\n"+message), by.signer, sshsig.HashSHA512, "git")
		if err != nil {
			return "", err
		}
		armored := strings.TrimSuffix(string(sshsig.Armor(signature)), "\n")
		object := repo.Storer.NewEncodedObject()
		object.SetType(plumbing.CommitObject)
		writer, err := object.Writer()
		if err != nil {
			return "", err
		}
		if _, err := fmt.Fprintf(writer, "%sgpgsig %s\n\n%s", headers, strings.ReplaceAll(armored, "\n", "\n "), message); err != nil {
			return "", err
		}
		hash, err := repo.Storer.SetEncodedObject(object)
		if err != nil {
			return "", err
		}
		head = hash.String()
	}
	return head, nil
}
