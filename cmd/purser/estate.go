package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/declaration"
)

// estate reads an estate from a local clone, as the agent would read it from its remote.
type estate struct {
	repo    string // folder of the clone
	path    string // of the governance folder
	source  string // the agent's name for this repository, where declarations use it
	cluster string // the agent's, where declarations name none; "": the only one that is declared
	ageKey  string
}

func (e *estate) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&e.repo, "repo", ".", "folder of the estate repository")
	cmd.Flags().StringVar(&e.path, "governance", "purser", "folder of the declarations in it")
	cmd.Flags().StringVar(&e.source, "source", "", "the agent's name for this repository, if declarations name it")
	cmd.Flags().StringVar(&e.cluster, "cluster", "", "the agent's cluster, for environments that name none (default: what the agent says where it is asked, else the only one declared)")
}

// snapshot is the estate at one commit, or as it lies in the working directory.
type snapshot struct {
	tree     *sources.Tree
	set      *declaration.Set
	source   string
	renderer *render.Renderer
	decrypt  *render.Decrypter
}

// at reads the estate at a commit; "" is the working directory.
func (e *estate) at(ref string) (*snapshot, error) {
	tree, err := e.tree(ref)
	if err != nil {
		return nil, err
	}
	known := declaration.Known{Cluster: e.cluster, Governance: declaration.Source{Repository: e.source}}
	set, err := declaration.Parse(tree, e.path, known)
	if err != nil {
		return nil, err
	}
	return &snapshot{
		tree: tree, set: set, source: e.source,
		renderer: render.New(render.Options{}), decrypt: render.NewDecrypter(e.ageKey),
	}, nil
}

func (e *estate) tree(ref string) (*sources.Tree, error) {
	if ref == "" {
		return sources.WorkTree(e.repo, sources.Limits{})
	}
	tree, _, err := sources.LocalTree(e.repo, ref, sources.Limits{})
	return tree, err
}

// on notes the cluster that the agent has an environment on, unless the command line says one.
func (e *estate) on(cluster string) { e.cluster = cmp.Or(e.cluster, cluster) }

// unplaced says that a digest may not be the agent's; "" where it is.
func unplaced(env *declaration.Environment) string {
	if env.Spec.Cluster != "" {
		return ""
	}
	return fmt.Sprintf("environment %q names no cluster, so that the agent, which has one, gives its releases other digests: say which with --cluster", env.Meta.Name)
}

// name is that of the Estate that the clone declares.
func (e *estate) name() (string, error) {
	s, err := e.at("HEAD")
	switch {
	case err != nil:
		return "", fmt.Errorf("find the estate's name (or name it: --estate): %w", err)
	case s.set.Estate == nil:
		return "", &sources.HintError{Err: errors.New("this clone declares no Estate, and without its name nothing that is said counts"), Hint: "declare one, and let that be approved"}
	}
	return s.set.Estate.Meta.Name, nil
}

// environment finds a declared environment by name.
func (s *snapshot) environment(name string) (*declaration.Environment, error) {
	env := s.set.Environments[name]
	if env == nil {
		return nil, fmt.Errorf("no environment %q; there are: %s", name, strings.Join(s.names(), ", "))
	}
	if env.Spec.Source.Repository != s.source {
		return nil, fmt.Errorf("environment %q follows the repository %q; run this in a clone of it, with --source", name, env.Spec.Source.Repository)
	}
	return env, nil
}

func (s *snapshot) names() []string { return slices.Sorted(maps.Keys(s.set.Environments)) }

// build makes the release of an environment.
func (s *snapshot) build(ctx context.Context, env *declaration.Environment) (*render.Release, error) {
	release, err := reconciler.Build(ctx, s.renderer, s.decrypt, s.tree, env)
	if err == nil && release.Declaration != nil {
		err = s.set.CheckRelease(release.Declaration)
	}
	if err != nil {
		return nil, fmt.Errorf("environment %q: %w", env.Meta.Name, err)
	}
	return release, nil
}

// complete offers the names of declared environments to the shell, for up to so many arguments.
func (e *estate) complete(most int) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		snapshot, err := e.at("")
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		names := slices.DeleteFunc(snapshot.names(), func(name string) bool { return slices.Contains(args, name) })
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}
