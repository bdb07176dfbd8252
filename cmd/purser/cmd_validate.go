package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources/declaration"
)

const validateHelp = `Check an estate as the agent would, without a cluster: every declaration, and the
render of every environment that follows this repository. All errors are printed,
each with file, line and column, the reason and the remedy. Warnings are of rules that
anybody could take away or get round, or that no release could pass without more, such as
objects in the namespace of another environment.

Exit codes: 0 in order, 1 errors found, 2 the estate could not be read. Warnings do not
change them.`

func newValidateCommand() *cobra.Command {
	var e estate
	var ref string
	cmd := &cobra.Command{
		Use:   "validate",
		Short: "Check every declaration and every render of an estate",
		Long:  validateHelp,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := e.tree(ref); err != nil {
				return exit{2, err}
			}
			s, err := e.at(ref)
			if err != nil {
				return err
			}
			v := validation{snapshot: s, claimed: map[string]string{}, warnings: warningsOf(s.set, time.Now()), told: cmd.ErrOrStderr()}
			for _, name := range s.names() {
				v.environment(cmd.Context(), s.set.Environments[name])
			}
			return v.conclude(cmd.OutOrStdout())
		},
	}
	e.flags(cmd)
	cmd.Flags().StringVar(&ref, "ref", "", "commit to check (default: the working directory)")
	return cmd
}

// validation is what was found so far.
type validation struct {
	*snapshot
	claimed  map[string]string // cluster and object → environment
	rendered int
	warnings []string
	problems []error
	told     io.Writer
}

func warningsOf(set *declaration.Set, now time.Time) []string {
	var list []string
	for _, w := range set.Warnings(now) {
		list = append(list, w.Error())
	}
	return list
}

// environment renders one, and looks at its objects.
func (v *validation) environment(ctx context.Context, env *declaration.Environment) {
	name := env.Meta.Name
	if env.Spec.Source.Repository != v.source {
		fmt.Fprintf(v.told, "%s: not rendered, it follows the repository %q\n", name, env.Spec.Source.Repository)
		return
	}
	release, err := v.build(ctx, env)
	if err != nil {
		v.problems = append(v.problems, err)
		return
	}
	v.rendered++
	kinds := scopes(release)
	for _, ref := range policy.Claimed(release, env.Spec.Namespace, kinds) {
		key := env.Spec.Cluster + " " + ref.Key()
		if owner := v.claimed[key]; owner != "" {
			v.problems = append(v.problems, fmt.Errorf("environments %q and %q both contain %s: give it another name or namespace in one of them", owner, name, ref))
		}
		v.claimed[key] = name
	}
	candidate := policy.Candidate{Environment: env, Tenant: v.set.Tenants[env.Spec.Tenant], Release: release}
	candidate.FindNeighbours(v.set, nil)
	if r := policy.Isolated(candidate, kinds); r.Answer != policy.Allow {
		v.warnings = append(v.warnings, fmt.Sprintf("%s: the gate isolation denies what environment %q renders: %s: %s", env.Position, name, r.Reason, r.Hint))
	}
}

// conclude tells what was found.
func (v *validation) conclude(w io.Writer) error {
	for _, text := range v.warnings {
		fmt.Fprintf(v.told, "warning: %s\n", plain(text))
	}
	if len(v.problems) > 0 {
		return errors.Join(v.problems...)
	}
	end := "no errors"
	if n := len(v.warnings); n > 0 {
		end += fmt.Sprintf(", %d warnings", n)
	}
	_, err := fmt.Fprintf(w, "%d environments declared, %d rendered, %s\n", len(v.set.Environments), v.rendered, end)
	return err
}

// scopes says which kinds of a release are namespaced, as far as that is known without a cluster. Kinds that
// not every cluster serves count as namespaced.
func scopes(release *render.Release) map[string]bool {
	scopes := map[string]bool{}
	for _, object := range release.Objects {
		ref := render.RefOf(object)
		scopes[policy.KindKey(ref)] = render.Namespaced(ref)
	}
	return scopes
}
