package main

import (
	"io"

	"github.com/spf13/cobra"
)

const rootHelp = `Purser reconciles retail Odoo estates from Git: it renders what a branch declares,
asks the gates, applies it, keeps it so, and writes down everything it did in a
signed log that can be checked without trusting it.

Exit codes: 0 done; 1 it failed, or what was checked is not in order; 2 the command
line is wrong. Commands that answer more than that say so in their own help.`

func newRoot(stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:           "purser",
		Short:         "GitOps reconciler for retail Odoo estates",
		Long:          rootHelp,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.AddCommand(
		newRunCommand(), newInitCommand(),
		newValidateCommand(), newRenderCommand(), newDiffCommand(), newStatusCommand(),
		newCalendarCommand(), newExplainCommand(), newPromoteCommand(), newRollbackCommand(),
		newBackupCommand(), newDrillCommand(), newEvidenceCommand(), newKeygenCommand(), newVersionCommand(),
	)
	root.AddCommand(newStatementCommands()...)
	return root
}
