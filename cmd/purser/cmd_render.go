package main

import "github.com/spf13/cobra"

func newRenderCommand() *cobra.Command {
	var e estate
	var ref string
	cmd := &cobra.Command{
		Use:   "render ENVIRONMENT",
		Short: "Print the objects that an environment would run",
		Long: `Print the objects of an environment as YAML: what "kustomize build" prints for its
path, read from Git objects, without network, plugins or a checkout. Encrypted
values stay encrypted.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := e.at(ref)
			if err != nil {
				return err
			}
			env, err := s.environment(args[0])
			if err != nil {
				return err
			}
			if _, err := s.build(cmd.Context(), env); err != nil { // it checks what kustomize does not
				return err
			}
			result, err := s.renderer.Render(cmd.Context(), s.tree, env.Spec.Source.Path)
			if err != nil {
				return err
			}
			text, err := result.YAML()
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	e.flags(cmd)
	cmd.Flags().StringVar(&ref, "ref", "", "commit to render (default: the working directory)")
	cmd.ValidArgsFunction = e.complete(1)
	return cmd
}
