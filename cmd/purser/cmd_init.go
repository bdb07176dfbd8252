package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/sources/declaration"
)

const initHelp = `Prepare what an agent's configuration names: make the signing key if there is none,
create the audit repository if it is a file:// one that does not exist, and begin the
log on it. A log that exists is left as it is. Afterwards "purser run" starts.`

func newInitCommand() *cobra.Command {
	var configFile string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Prepare the signing key and the audit log of an agent",
		Long:  initHelp,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := declaration.LoadAgent(configFile)
			if err != nil {
				return err
			}
			say := func(format string, values ...any) { fmt.Fprintf(cmd.OutOrStdout(), format+"\n", values...) }
			if _, err := os.Stat(config.Audit.SigningKeyFile); errors.Is(err, fs.ErrNotExist) {
				key, err := evidence.GenerateKey(config.Audit.SigningKeyFile, config.Writer)
				if err != nil {
					return err
				}
				say("signing key %s, key ID %s", config.Audit.SigningKeyFile, key.ID())
			}
			if err := createLocalRepository(config.Audit.URL, say); err != nil {
				return err
			}
			return beginLog(cmd.Context(), config, say)
		},
	}
	cmd.Flags().StringVarP(&configFile, "config", "c", "purser.yaml", "the agent's configuration")
	return cmd
}

// createLocalRepository makes the bare repository behind a file:// address, if there is none.
func createLocalRepository(address string, say func(string, ...any)) error {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "file" {
		return nil // another server's repository is created there
	}
	if _, err := os.Stat(filepath.Join(u.Path, "HEAD")); err == nil {
		return nil
	}
	if _, err := git.PlainInit(u.Path, true); err != nil {
		return fmt.Errorf("create audit repository: %w", err)
	}
	say("audit repository %s", u.Path)
	return nil
}

// beginLog opens the log, which begins it where there is none, and lets an agent start and stop on it once.
func beginLog(ctx context.Context, config *declaration.AgentConfig, say func(string, ...any)) error {
	agent, err := reconciler.New(ctx, config, reconciler.Options{
		Version: version, Init: true, Now: time.Now,
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		return err
	}
	defer agent.Close()
	records, err := agent.BeginLog(ctx)
	if err != nil {
		return err
	}
	say("audit log in %s, %d records", config.Audit.URL, records)
	return nil
}
