package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/purser-gitops/purser/sources"
)

// gitClone is a repository on this machine, changed with the git program: people's name, signing key and credentials are
// those that they configured for Git. Its work tree, index and checked out branch are never touched.
type gitClone struct {
	dir  string // its root
	bare bool
}

const (
	gitTimeout  = time.Minute
	signTimeout = 5 * time.Minute // somebody may have to type a passphrase or touch a key
	pushTimeout = 5 * time.Minute
)

// elsewhere are the variables that would make git work on another repository than the one it is given.
var elsewhere = []string{"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_NAMESPACE", "GIT_PREFIX"}

// gitCall is one run of git.
type gitCall struct {
	timeout time.Duration // default gitTimeout
	stdin   []byte
	env     []string
	told    io.Writer // gets what git says on standard error as well; nil: nobody
}

func openClone(ctx context.Context, dir string) (*gitClone, error) {
	if _, err := exec.LookPath("git"); err != nil {
		return nil, &sources.HintError{Err: errors.New("the program git is not there"), Hint: "install Git: commits are made and signed with it"}
	}
	c := &gitClone{dir: dir}
	bare, err := c.git(ctx, gitCall{}, "rev-parse", "--is-bare-repository")
	if err != nil {
		return nil, err
	}
	if c.bare = bare == "true"; c.bare {
		return c, nil
	}
	if c.dir, err = c.git(ctx, gitCall{}, "rev-parse", "--show-toplevel"); err != nil {
		return nil, err
	}
	return c, nil
}

// git runs git and returns what it prints, without the last line end.
func (c *gitClone) git(ctx context.Context, call gitCall, args ...string) (string, error) {
	if call.timeout == 0 {
		call.timeout = gitTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, call.timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", c.dir}, args...)...)
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		return slices.Contains(elsewhere, name)
	}), call.env...)
	cmd.WaitDelay = time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(call.stdin), &stdout, &stderr
	if call.told != nil {
		cmd.Stderr = io.MultiWriter(&stderr, call.told)
	}
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSuffix(stdout.String(), "\n"), nil
}

// resolve gives the commit that a ref names; "" when there is no such ref.
func (c *gitClone) resolve(ctx context.Context, ref string) string {
	commit, err := c.git(ctx, gitCall{}, "rev-parse", "--verify", "--quiet", ref+"^{commit}")
	if err != nil {
		return ""
	}
	return commit
}

// trunk is the branch that environments follow when they name none: the remote's default, else the one checked out.
func (c *gitClone) trunk(ctx context.Context, remote string) (string, error) {
	if name, err := c.git(ctx, gitCall{}, "symbolic-ref", "--short", "refs/remotes/"+remote+"/HEAD"); err == nil {
		return strings.TrimPrefix(name, remote+"/"), nil
	}
	name, err := c.git(ctx, gitCall{}, "symbolic-ref", "--short", "HEAD")
	if err != nil {
		return "", &sources.HintError{Err: err, Hint: "say with --onto which branch the environments follow"}
	}
	return name, nil
}

// head is the newest known commit of a branch: the remote's, if the clone knows it.
func (c *gitClone) head(ctx context.Context, remote, branch string) (string, error) {
	for _, ref := range []string{"refs/remotes/" + remote + "/" + branch, "refs/heads/" + branch} {
		if commit := c.resolve(ctx, ref); commit != "" {
			return commit, nil
		}
	}
	return "", &sources.HintError{Err: fmt.Errorf("the clone has no branch %q", branch), Hint: "fetch it, or say another one with --onto"}
}

// clean refuses changes of a work tree that the new commit would not have.
func (c *gitClone) clean(ctx context.Context, paths []string) error {
	if c.bare || len(paths) == 0 {
		return nil
	}
	args := []string{"--literal-pathspecs", "status", "--porcelain", "--untracked-files=all", "--"}
	changed, err := c.git(ctx, gitCall{}, append(args, paths...)...)
	if err != nil {
		return err
	}
	if changed != "" {
		return &sources.HintError{Err: fmt.Errorf("the working directory has changes that are not committed:\n%s", changed), Hint: "commit or stash them first"}
	}
	return nil
}

// fileEdit is what a commit has at a path.
type fileEdit struct {
	path string
	mode string // Git's, such as 100644; "" removes the path
	blob string // object id; "" is data
	data []byte
}

// write makes a tree of a commit's and the edits; no ref names it.
func (c *gitClone) write(ctx context.Context, base string, edits []fileEdit) (string, error) {
	dir, err := os.MkdirTemp("", "purser-index-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	index := []string{"GIT_INDEX_FILE=" + filepath.Join(dir, "index")}
	if _, err := c.git(ctx, gitCall{env: index}, "read-tree", base); err != nil {
		return "", err
	}
	var removed, put bytes.Buffer // what goes comes first, so that a folder can take its place
	for _, e := range edits {
		if e.mode == "" {
			fmt.Fprintf(&removed, "0 %s\t%s\x00", strings.Repeat("0", 40), e.path)
			continue
		}
		if e.blob == "" {
			if e.blob, err = c.git(ctx, gitCall{stdin: e.data}, "hash-object", "-w", "--no-filters", "--stdin"); err != nil {
				return "", err
			}
		}
		fmt.Fprintf(&put, "%s %s\t%s\x00", e.mode, e.blob, e.path)
	}
	removed.Write(put.Bytes())
	if _, err := c.git(ctx, gitCall{env: index, stdin: removed.Bytes()}, "update-index", "-z", "--index-info"); err != nil {
		return "", err
	}
	return c.git(ctx, gitCall{env: index}, "write-tree")
}

// probe gives the files of a tree as they would be read in a commit.
func (c *gitClone) probe(ctx context.Context, tree string) (*sources.Tree, error) {
	nobody := []string{"GIT_AUTHOR_NAME=probe", "GIT_AUTHOR_EMAIL=", "GIT_COMMITTER_NAME=probe", "GIT_COMMITTER_EMAIL="}
	commit, err := c.git(ctx, gitCall{env: nobody}, "commit-tree", "-m", "probe", tree)
	if err != nil {
		return nil, err
	}
	files, _, err := sources.LocalTree(c.dir, commit, sources.Limits{})
	return files, err
}

// commit puts a tree on a new branch, signed where people configured that, and changes nothing else.
func (c *gitClone) commit(ctx context.Context, base, tree, branch, message string) (string, error) {
	args := []string{"commit-tree", "-p", base, "-F", "-"}
	if sign, err := c.git(ctx, gitCall{}, "config", "--type=bool", "--get", "commit.gpgSign"); err == nil && sign == "true" {
		args = append(args, "-S") // commit-tree alone does not ask the configuration
	}
	commit, err := c.git(ctx, gitCall{timeout: signTimeout, stdin: []byte(message)}, append(args, tree)...)
	if err != nil {
		return "", err
	}
	_, err = c.git(ctx, gitCall{}, "update-ref", "-m", "purser", "refs/heads/"+branch, commit, strings.Repeat("0", 40))
	return commit, err
}

// free refuses a name that no branch can have, or that one has.
func (c *gitClone) free(ctx context.Context, branch string) error {
	if _, err := c.git(ctx, gitCall{}, "check-ref-format", "refs/heads/"+branch); err != nil || strings.HasPrefix(branch, "-") {
		return exit{usageExit, fmt.Errorf("--branch: %q is no name of a branch", branch)}
	}
	if c.resolve(ctx, "refs/heads/"+branch) != "" {
		return &sources.HintError{Err: fmt.Errorf("there is a branch %q already", branch), Hint: "push or delete it, or name another one with --branch"}
	}
	return nil
}
