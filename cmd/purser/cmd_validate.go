package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/render"
)

const validateHelp = `Check an estate as the agent would, without a cluster: every declaration, and the
render of every environment that follows this repository. All errors are printed,
each with file, line and column, the reason and the remedy. Warnings are of rules that
anybody could take away, or that no release could pass without more.

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
			warnings := s.set.Warnings()
			for _, w := range warnings {
				fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s\n", plain(w.Error()))
			}
			var problems []error
			claimed := map[string]string{} // cluster and object → environment
			rendered := 0
			for _, name := range s.names() {
				env := s.set.Environments[name]
				if env.Spec.Source.Repository != e.source {
					fmt.Fprintf(cmd.ErrOrStderr(), "%s: not rendered, it follows the repository %q\n", name, env.Spec.Source.Repository)
					continue
				}
				release, err := s.build(cmd.Context(), env)
				if err != nil {
					problems = append(problems, err)
					continue
				}
				rendered++
				for _, ref := range policy.Claimed(release, env.Spec.Namespace, scopes(release)) {
					key := env.Spec.Cluster + " " + ref.Key()
					if owner := claimed[key]; owner != "" {
						problems = append(problems, fmt.Errorf("environments %q and %q both contain %s: give it another name or namespace in one of them", owner, name, ref))
					}
					claimed[key] = name
				}
			}
			if len(problems) > 0 {
				return errors.Join(problems...)
			}
			end := "no errors"
			if n := len(warnings); n > 0 {
				end += fmt.Sprintf(", %d warnings", n)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d environments declared, %d rendered, %s\n", len(s.set.Environments), rendered, end)
			return err
		},
	}
	e.flags(cmd)
	cmd.Flags().StringVar(&ref, "ref", "", "commit to check (default: the working directory)")
	return cmd
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
