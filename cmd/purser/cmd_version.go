package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/purser-gitops/purser/render"
)

// version is set by the build.
var version = "dev"

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of purser, its renderer and Go",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "purser %s\nrenderer %s\n%s\n", version, render.Version, runtime.Version())
			return err
		},
	}
}
