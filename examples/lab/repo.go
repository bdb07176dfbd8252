package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

// usersFile is the file in a repository of the lab's Git server that says who may use it: one "user:password" per
// line, read at every request. Without the file everybody may read and push.
const usersFile = "lab-users"

// repoName limits repository names to what is safe in a path and a URL.
var repoName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,99}$`)

// A Repo is a bare repository on the lab's Git server.
type Repo struct {
	Name string
	Dir  string // on disk: tests may change its config and hooks
	URL  string // over HTTP
}

// CreateRepo creates an empty repository with main as its default branch. It is an error if it exists.
func (e *Endpoints) CreateRepo(ctx context.Context, name string) (*Repo, error) {
	if !repoName.MatchString(name) {
		return nil, fmt.Errorf("create repository %q: name must match %s", name, repoName)
	}
	r := &Repo{Name: name, Dir: e.path("git", name+".git"), URL: e.GitURL + "/" + name + ".git"}
	if err := os.Mkdir(r.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("create repository: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, args := range [][]string{
		{"init", "--quiet", "--bare", "--initial-branch=main", r.Dir},
		{"-C", r.Dir, "config", "http.receivepack", "true"},
		{"-C", r.Dir, "config", "gc.auto", "0"},
	} {
		cmd := exec.CommandContext(ctx, "git", args...)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + e.Dir, "GIT_CONFIG_NOSYSTEM=1"}
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("create repository: git %s: %w: %s", args[0], err, strings.TrimSpace(string(out)))
		}
	}
	return r, nil
}

// SetUsers limits the repository to these users (name to password); nil opens it to everybody.
func (r *Repo) SetUsers(users map[string]string) error {
	path := r.Dir + "/" + usersFile
	if users == nil {
		return removeIfThere(path)
	}
	var lines strings.Builder
	for user, password := range users {
		fmt.Fprintf(&lines, "%s:%s\n", user, password)
	}
	return writeFile(path, []byte(lines.String()), 0o600)
}

// RejectPushes makes a pre-receive hook refuse every push with the message.
func (r *Repo) RejectPushes(message string) error {
	quoted := "'" + strings.ReplaceAll(message, "'", `'\''`) + "'"
	return r.SetHook("pre-receive", "#!/bin/sh\necho "+quoted+" >&2\nexit 1\n")
}

// AcceptPushes undoes RejectPushes.
func (r *Repo) AcceptPushes() error { return r.SetHook("pre-receive", "") }

// SetHook installs a server-side hook; an empty script removes it.
func (r *Repo) SetHook(name, script string) error {
	path := r.Dir + "/hooks/" + name
	if script == "" {
		return removeIfThere(path)
	}
	return writeFile(path, []byte(script), 0o700)
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
