package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/sources/declaration"
)

func governancePage(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "governance.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestGovernancePage carries out the examples of docs/governance.md in the order in which they stand there: declarations
// become part of the sample estate, which stays in order, and commands are run in a clone of it, with an agent that waits for
// people.
func TestGovernancePage(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	r := &reader{shop: s, governance: s.git("rev-parse", "HEAD")}
	server := httptest.NewServer(http.HandlerFunc(r.answer))
	t.Cleanup(server.Close)
	r.prepare(server.URL)
	ran := 0
	for _, m := range regexp.MustCompile("(?ms)^( *)```(\\w*)\\n(.*?)^ *```").FindAllStringSubmatch(governancePage(t), -1) {
		text := strings.ReplaceAll("\n"+m[3], "\n"+m[1], "\n")
		switch {
		case strings.Contains(text, "kind: AgentConfig"):
			file := filepath.Join(t.TempDir(), "purser.yaml")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := declaration.LoadAgent(file); err != nil {
				t.Errorf("%v in\n%s", err, text)
			}
		case strings.Contains(text, "apiVersion:"):
			r.declare(text)
		default:
			ran += strings.Count(text, "purser ")
			r.run(regexp.MustCompile(`(?m)^- uses:.*\n.*\n|^- run: `).ReplaceAllString(text, ""))
		}
	}
	if ran < 15 {
		t.Errorf("only %d commands were found", ran)
	}
}

// reader does what the page says.
type reader struct {
	*shop
	governance string // commit in force
}

// prepare puts a purser before the real one that answers its questions and takes what gates answer as no failure, and keys
// where the page has them.
func (r *reader) prepare(server string) {
	r.t.Helper()
	home := r.t.TempDir()
	bin := filepath.Join(home, "bin")
	script := fmt.Sprintf(`#!/bin/sh
case $1 in
explain) case " $* " in *" --ref "*) ;; *) set -- "$@" --server %[2]s ;; esac
	%[1]s "$@"; code=$?
	test $code = 3 || test $code = 4 || exit $code
	exit 0 ;;
promote|rollback) set -- "$@" --server %[2]s ;;
validate|calendar) ;;
*) case " $* " in *" --key "*) ;; *) set -- "$@" --key ~/.ssh/id_ed25519 ;; esac
	set -- "$@" --yes --server %[2]s ;;
esac
exec %[1]s "$@"
`, r.program, server)
	for _, dir := range []string{bin, filepath.Join(home, ".ssh")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			r.t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(bin, "purser"), []byte(script), 0o700); err != nil {
		r.t.Fatal(err)
	}
	r.env = append(r.env, "HOME="+home, "PATH="+bin+string(filepath.ListSeparator)+os.Getenv("PATH"))
	for _, key := range []string{filepath.Join(home, ".ssh", "id_ed25519"), filepath.Join(r.dir, "key"), filepath.Join(r.dir, "root-key")} {
		r.command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key)
	}
	public, err := os.ReadFile(filepath.Join(r.dir, "key.pub"))
	if err == nil {
		err = os.WriteFile(filepath.Join(r.dir, "allowed_signers"), append([]byte("PERSON "), public...), 0o600)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(r.dir, ".git", "info", "exclude"), []byte("key*\nroot-key*\nallowed_signers\napproval.json*\n"), 0o600)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// declare adds declarations to the estate, in place of those of the same kinds and names.
func (r *reader) declare(text string) {
	r.t.Helper()
	named := regexp.MustCompile(`(?m)^kind: (\w+)\nmetadata:\n  name: (\S+)$`)
	for _, one := range strings.Split(text, "\n---\n") {
		name := named.FindString(one)
		if name == "" {
			r.t.Fatalf("no kind and name in\n%s", one)
		}
		err := filepath.WalkDir(filepath.Join(r.dir, "purser"), func(path string, entry os.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			has, err := os.ReadFile(path)
			if err == nil && named.FindString(string(has)) == name {
				err = os.Remove(path)
			}
			return err
		})
		if err != nil {
			r.t.Fatal(err)
		}
		parts := named.FindStringSubmatch(name)
		file := filepath.Join(r.dir, "purser", strings.ToLower(parts[1]+"-"+parts[2])+".yaml")
		if err := os.WriteFile(file, []byte(one), 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
	r.landed("Declare")
	r.command("sh", "-c", "cd "+quoted(r.dir)+" && purser validate")
}

// run runs a block of commands.
func (r *reader) run(text string) {
	r.t.Helper()
	for _, digit := range []string{"0", "1"} {
		text = strings.Replace(text, "sha256:…", "sha256:"+strings.Repeat(digit, 64), 1)
	}
	r.command("sh", "-ec", "cd "+quoted(r.dir)+"\n"+text)
}

// answer is what an agent says that waits for the approval of a release of prod-eu.
func (r *reader) answer(w http.ResponseWriter, request *http.Request) {
	head := r.git("rev-parse", "HEAD")
	revision := evidence.Revision{Source: "estate", Revision: "main@sha1:" + head}
	pointer := func(env string) *reconciler.Pointer {
		return &reconciler.Pointer{Release: r.digest(env, head), Revision: revision}
	}
	var answer any
	switch path := strings.TrimPrefix(request.URL.Path, "/api/v1/"); path {
	case "status":
		answer = reconciler.Status{Governance: &evidence.Revision{Source: "estate", Revision: "main@sha1:" + r.governance}}
	case "environments":
		answer = []reconciler.EnvironmentStatus{{Name: "prod-eu"}}
	case "environments/prod-eu", "environments/staging":
		env := strings.TrimPrefix(path, "environments/")
		before := &reconciler.Pointer{Release: "sha256:" + strings.Repeat("0", 64), Revision: revision}
		answer = reconciler.EnvironmentStatus{Name: env, Proposed: pointer(env), Approved: before, Live: before, Previous: pointer(env)}
	case "environments/prod-eu/explain":
		said := policy.Statement{ID: "4f1c2d9e" + strings.Repeat("0", 56)}
		answer = reconciler.Explanation{
			Environment: "prod-eu", At: time.Now(), Governance: head, Class: "standard", From: "sha256:" + strings.Repeat("0", 64),
			Proposed: pointer("prod-eu"), Verdict: &policy.Verdict{Answer: policy.Wait}, Overrides: []policy.Override{{Statement: said}},
		}
	default:
		http.NotFound(w, request)
		return
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// TestGovernancePageNamesGates compares the page's table with the gates.
func TestGovernancePageNamesGates(t *testing.T) {
	t.Parallel()
	var want, got []string
	for _, gate := range policy.Gates() {
		can := "yes"
		switch {
		case policy.MayOverride(gate) != nil:
			can = "no"
		case !new(declaration.ReleaseClass).LetsOverride(gate):
			can = "where the class names it"
		}
		want = append(want, gate+" "+can)
	}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z]+)` \\|.*\\| (yes|no|where the class names it) \\|$").FindAllStringSubmatch(governancePage(t), -1) {
		got = append(got, row[1]+" "+row[2])
	}
	if !slices.Equal(got, want) {
		t.Errorf("the page has the gates %q, there are %q", got, want)
	}
}
