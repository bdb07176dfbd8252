package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// people of the demo and their roles. Each gets a key when the demo runs.
var people = map[string]string{
	"developer-1": "developer", "developer-2": "developer",
	"release-manager-1": "release-manager", "release-manager-2": "release-manager",
	"owner-1": "governance-owner", "owner-2": "governance-owner",
}

// Exit codes of purser explain.
const (
	waitExit = 3
	denyExit = 4
)

func (d *demo) key(person string) string { return filepath.Join(d.dir, "keys", person) }

// declarePeople makes a key for everybody, and declares it.
func (d *demo) declarePeople(ctx context.Context) error {
	dir := filepath.Join(d.estate, "purser", "people")
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.MkdirAll(filepath.Join(d.dir, "keys"), 0o700)); err != nil {
		return err
	}
	for _, name := range sortedKeys(people) {
		if _, err := d.command(ctx, 0, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", d.key(name)); err != nil {
			return err
		}
		public, err := os.ReadFile(d.key(name) + ".pub")
		if err != nil {
			return err
		}
		text := fmt.Sprintf("apiVersion: purser.dev/v1alpha1\nkind: Person\nmetadata: {name: %s}\nspec:\n  roles: [%s]\n  keys:\n    - ssh: %s",
			name, people[name], public)
		if err := os.WriteFile(filepath.Join(dir, name+".yaml"), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// actAs makes somebody author and sign what is committed from now on. "" is the forge, which signs nothing.
func (d *demo) actAs(ctx context.Context, person string) error {
	name, sign := person, "true"
	if person == "" {
		name, sign = "forge", "false"
	}
	for _, pair := range [][2]string{
		{"user.name", name}, {"user.email", name + "@estate.example"},
		{"gpg.format", "ssh"}, {"user.signingkey", d.key(name)}, {"commit.gpgsign", sign},
	} {
		if _, err := d.command(ctx, 0, "git", "config", pair[0], pair[1]); err != nil {
			return err
		}
	}
	return nil
}

// changeAs commits an edit as somebody.
func (d *demo) changeAs(ctx context.Context, person, file, before, after, message string) error {
	return errors.Join(d.actAs(ctx, person), d.edit(file, before, after), d.commit(ctx, message))
}

// merge joins branches into main as a forge does, and pushes once.
func (d *demo) merge(ctx context.Context, branches ...string) error {
	if err := d.actAs(ctx, ""); err != nil {
		return err
	}
	for _, branch := range branches {
		if _, err := d.command(ctx, 0, "git", "merge", "--quiet", "--no-ff", "--message", "Merge "+branch, branch); err != nil {
			return err
		}
	}
	return d.push(ctx)
}

var statementID = regexp.MustCompile(`(?m)^[0-9a-f]{64}$`)

// tell has somebody make a statement, and gives its ID.
func (d *demo) tell(ctx context.Context, person string, words ...string) (string, error) {
	out, err := d.command(ctx, 0, d.purser, append(words, "--key", d.key(person), "--yes", "--server", d.agent.server)...)
	if err != nil {
		return "", err
	}
	d.say("   %s: purser %s", person, strings.Join(words, " "))
	return statementID.FindString(out), nil
}

// explain asks until purser explain ends with an exit code and says something, and shows what matters of it.
func (d *demo) explain(ctx context.Context, environment string, at time.Time, code int, says ...string) error {
	words := []string{"explain", environment}
	if !at.IsZero() {
		words = append(words, "--at", at.UTC().Format(time.RFC3339))
	}
	out := ""
	if err := until(ctx, func() (err error) {
		if out, err = d.command(ctx, code, d.purser, append(words, "--server", d.agent.server)...); err != nil {
			return err
		}
		plain := strings.Join(strings.Fields(out), " ")
		for _, want := range says {
			if !strings.Contains(plain, want) {
				return fmt.Errorf("it does not say %q:\n%s", want, out)
			}
		}
		return nil
	}); err != nil {
		return err
	}
	d.say("   purser %s", strings.Join(words, " "))
	d.show(inBrief(out))
	return nil
}

var (
	brief   = regexp.MustCompile(`(?m)^(?:Class|Landed|Answer|Until) .*\n`)
	allowed = regexp.MustCompile(`(?m)^\S+ +allow .*\n`)
)

// inBrief leaves the digests, the release diff and the gates that allow out of an explanation.
func inBrief(text string) string {
	about, gates, _ := strings.Cut(text, "\nGATE ")
	return strings.Join(brief.FindAllString(about+"\n", -1), "") + "GATE " + allowed.ReplaceAllString(gates, "")
}

// untilGoverned waits until the newest declarations are in force.
func (d *demo) untilGoverned(ctx context.Context) error {
	head, err := d.command(ctx, 0, "git", "rev-parse", "HEAD")
	if err != nil {
		return err
	}
	return until(ctx, func() error {
		s, err := d.agent.status()
		if err == nil && (s.Governance == nil || !strings.HasSuffix(s.Governance.Revision, strings.TrimSpace(head))) {
			err = fmt.Errorf("not in force yet: %+v", s.GovernanceVerdict)
		}
		return err
	})
}

// goesLive carries something out and waits until an environment runs another release than before.
func (d *demo) goesLive(ctx context.Context, environment string, do func() error) error {
	before, err := d.environments()
	if err != nil {
		return err
	}
	start := time.Now()
	if err := do(); err != nil {
		return err
	}
	if err := until(ctx, func() error { return d.liveAfter(environment, before[environment]) }); err != nil {
		return err
	}
	d.say("   %s is live %.1f s later.", environment, time.Since(start).Seconds())
	return nil
}
