package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/sources/declaration"
)

const runHelp = `Run the agent until it is interrupted: poll the sources, reconcile every declared
environment, record everything on the audit branch.

One agent uses a data directory at a time; a second one is refused. SIGTERM and
SIGINT end it in order: what was begun gets its outcome recorded. SIGHUP polls
every source at once. Credentials and keys are read from their files at each use.

An empty audit remote is refused, for it may be a lost one: run "purser init" once,
or give --init.`

func newRunCommand() *cobra.Command {
	var configFile, logFormat, logLevel string
	var initialise bool
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the agent",
		Long:  runHelp,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger, err := newLogger(cmd.ErrOrStderr(), logFormat, logLevel)
			if err != nil {
				return err
			}
			config, err := declaration.LoadAgent(configFile)
			if err != nil {
				return err
			}
			return runAgent(cmd.Context(), config, logger, initialise)
		},
	}
	cmd.Flags().StringVarP(&configFile, "config", "c", "purser.yaml", "the agent's configuration")
	cmd.Flags().BoolVar(&initialise, "init", false, "begin a new log on an empty audit remote")
	cmd.Flags().StringVar(&logFormat, "log-format", "text", "text or json")
	cmd.Flags().StringVar(&logLevel, "log-level", "info", "debug, info, warn or error")
	return cmd
}

func newLogger(w io.Writer, format, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, exit{usageExit, fmt.Errorf("--log-level: %q is not debug, info, warn or error", level)}
	}
	options := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, exit{usageExit, fmt.Errorf("--log-format: %q is neither text nor json", format)}
}

// runAgent runs the agent and its HTTP listener until the context ends.
func runAgent(ctx context.Context, config *declaration.AgentConfig, logger *slog.Logger, initialise bool) (err error) {
	hangup := make(chan os.Signal, 1) // from the start: unheard, the signal ends the process
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	listener, err := net.Listen("tcp", config.Listen)
	if err != nil {
		return fmt.Errorf("listen (is an agent running here already?): %w", err)
	}
	defer listener.Close()
	agent, err := reconciler.New(ctx, config, reconciler.Options{
		Version: version, Init: initialise, Now: time.Now, Logger: logger, Registerer: registry,
	})
	if errors.Is(err, evidence.ErrLocked) {
		return fmt.Errorf("another agent uses the data directory %s: %w", config.DataDir, err)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, agent.Close()) }()

	server := &http.Server{
		Handler: agent.Handler(registry), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve HTTP: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		defer server.Close() // after the agent: its last moments can be watched
		return agent.Run(ctx)
	})
	group.Go(func() error { return reloadOnHangup(ctx, hangup, agent) })
	logger.Info("running", "version", version, "listen", listener.Addr().String(), "data", config.DataDir)
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// reloadOnHangup polls every source when the process receives SIGHUP.
func reloadOnHangup(ctx context.Context, hangup <-chan os.Signal, agent *reconciler.Agent) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-hangup:
			agent.Reload()
		}
	}
}
