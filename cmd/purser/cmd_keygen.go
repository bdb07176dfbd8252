package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/purser-gitops/purser/reconciler/evidence"
)

func newKeygenCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "keygen FILE",
		Short: "Make a key that signs the audit log",
		Long: `Make an Ed25519 key pair: FILE holds the private key in OpenSSH format, readable by
its owner only, FILE.pub the public key. An existing file is never overwritten.
The public key is what verifiers pin: give FILE.pub to the auditor.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := evidence.GenerateKey(args[0], filepath.Base(args[0]))
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n%s.pub\nkey ID %s\n", args[0], args[0], key.ID())
			return err
		},
	}
}
