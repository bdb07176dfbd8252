package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/declaration"
)

// estate is a clone of the sample estate with two commits. The second, "neighbour", changes nothing that is rendered.
type estate struct {
	dir      string
	overlays []string // of its environments, sorted
}

const neighbour = "neighbour"

// newEstate makes the clone in a folder that does not exist yet.
func newEstate(ctx context.Context, dir string) (*estate, error) {
	root, err := projectRoot(ctx)
	if err != nil {
		return nil, err
	}
	e := &estate{dir: dir}
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(root, "examples", "estate"))); err != nil {
		return nil, fmt.Errorf("copy estate: %w", err)
	}
	if err := errors.Join(
		e.git(ctx, "init", "--quiet", "--initial-branch", "main"),
		e.git(ctx, "add", "--all"), e.git(ctx, "commit", "--quiet", "--message", "Declare the estate"),
		e.git(ctx, "checkout", "--quiet", "-b", neighbour),
		os.WriteFile(filepath.Join(dir, "NEWS.md"), []byte("A neighbour's change\n"), 0o644),
		e.git(ctx, "add", "--all"), e.git(ctx, "commit", "--quiet", "--message", "Touch nothing that is rendered"),
		e.git(ctx, "checkout", "--quiet", "main"),
		e.git(ctx, "repack", "--quiet", "-a", "-d"),
	); err != nil {
		return nil, err
	}
	return e, e.readOverlays()
}

// readOverlays lists what the declared environments render.
func (e *estate) readOverlays() error {
	tree, err := e.tree("main")
	if err != nil {
		return err
	}
	set, err := declaration.Parse(tree, "purser", declaration.Known{})
	if err != nil {
		return fmt.Errorf("parse estate: %w", err)
	}
	overlays := map[string]bool{}
	for _, env := range set.Environments {
		overlays[env.Spec.Source.Path] = true
	}
	e.overlays = slices.Sorted(maps.Keys(overlays))
	return nil
}

// tree reads a commit. Nothing is remembered of earlier calls.
func (e *estate) tree(ref string) (*sources.Tree, error) {
	tree, _, err := sources.LocalTree(e.dir, ref, sources.Limits{})
	return tree, err
}

// inMemory puts the estate's files into a filesystem in memory, below "/".
func (e *estate) inMemory() (filesys.FileSystem, error) {
	memory := filesys.MakeFsInMemory()
	err := fs.WalkDir(os.DirFS(filepath.Join(e.dir, "apps")), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Join(e.dir, "apps", name))
		if err != nil {
			return err
		}
		return memory.WriteFile("/apps/"+name, text)
	})
	return memory, err
}

func (e *estate) git(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = e.dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=bench", "GIT_AUTHOR_EMAIL=bench@estate.example",
		"GIT_COMMITTER_NAME=bench", "GIT_COMMITTER_EMAIL=bench@estate.example")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(string(out)))
	}
	return nil
}

// projectRoot is the folder of this project's go.mod.
func projectRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/purser-gitops/purser").Output()
	if err != nil {
		return "", fmt.Errorf("find the project: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}
