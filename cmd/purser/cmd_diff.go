package main

import (
	"errors"
	"io"

	"github.com/spf13/cobra"

	"github.com/purser-gitops/purser/render"
)

const diffHelp = `Show, object by object and field by field, what would change.

  purser diff prod-eu                    the working directory against the last commit
  purser diff prod-eu --ref my-branch    a branch against the last commit
  purser diff prod-eu --base v1 --ref v2 one commit against another
  purser diff staging prod-eu            parity: two environments at the same commit

Values of Secrets are never shown. Two environments are compared without their
namespaces, so that only real differences are left.

Exit codes, as with kubectl diff: 0 no difference, 1 some, 2 an error.`

func newDiffCommand() *cobra.Command {
	var e estate
	var out output
	var ref, base string
	cmd := &cobra.Command{
		Use:   "diff ENVIRONMENT [ENVIRONMENT]",
		Short: "Show what a commit would change, or how two environments differ",
		Long:  diffHelp,
		Args:  cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			changes, err := diffOf(cmd, &e, args, base, ref)
			if err != nil {
				return exit{2, err}
			}
			changes = append([]render.ObjectChange{}, changes...) // an empty list is [], not null
			if err := out.write(cmd.OutOrStdout(), changes, func(io.Writer) error {
				return render.FormatDiff(cmd.OutOrStdout(), changes, colour(cmd.OutOrStdout()))
			}); err != nil {
				return exit{2, err}
			}
			if len(changes) > 0 {
				return exit{code: 1}
			}
			return nil
		},
	}
	e.flags(cmd)
	out.flag(cmd)
	cmd.Flags().StringVar(&ref, "ref", "", "the new commit (default: the working directory)")
	cmd.Flags().StringVar(&base, "base", "HEAD", "the old commit, for one environment")
	cmd.ValidArgsFunction = e.complete(2)
	return cmd
}

func diffOf(cmd *cobra.Command, e *estate, args []string, base, ref string) ([]render.ObjectChange, error) {
	newer, err := e.at(ref)
	if err != nil {
		return nil, err
	}
	older, from, to := newer, args[0], args[0]
	if len(args) == 2 {
		if cmd.Flags().Changed("base") {
			return nil, errors.New("--base is for one environment; two are compared at the same commit")
		}
		to = args[1]
	} else if older, err = e.at(base); err != nil {
		return nil, err
	}
	releases := make([]*render.Release, 2)
	for i, side := range []struct {
		at   *snapshot
		name string
	}{{older, from}, {newer, to}} {
		env, err := side.at.environment(side.name)
		if err != nil {
			if i == 0 && len(args) == 1 && side.at.set.Environments[side.name] == nil {
				continue // new since the base: everything is created
			}
			return nil, err
		}
		if releases[i], err = side.at.build(cmd.Context(), env); err != nil {
			return nil, err
		}
	}
	if len(args) == 2 {
		diff, err := render.Compare(releases[0], releases[1])
		return render.Told(diff), err
	}
	return render.Told(render.Diff(releases[0], releases[1])), nil
}
