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
	"reflect"
	"runtime/debug"
	"runtime/metrics"
	"sync"
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
SIGINT end it in order: what was begun gets its outcome recorded. SIGHUP reads the
configuration again: a changed one replaces the running one, if it is valid and
starts; an unchanged one makes the agent poll every source at once. Credentials are
read from their files at each use.

An empty audit remote is refused, for it may be a lost one: run "purser init" once,
or give --init.

Environment: GOGC and GOMEMLIMIT set the garbage collector, as for every Go program; the
defaults here are 300 and 128MiB, which is a soft limit and grows with what the estate needs.`

// setCollector trades memory for time as far as a small machine has it: renders and plans come in bursts and make garbage
// that the default would collect several times a second. GOGC and GOMEMLIMIT (see package runtime) take precedence. It returns when the
// context ends, or at once.
func setCollector(ctx context.Context) {
	const percent = 300
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		giveMemory(ctx)
	}
}

// leastMemory is the soft limit of a small estate, in bytes: from there on the collector works harder.
const leastMemory = 128 << 20

// giveMemory lets as much garbage lie as there is data in use. Where what is in use came near a limit that stays, the
// collector would do nothing but collect.
func giveMemory(ctx context.Context) {
	ticker := time.NewTicker(2 * time.Second)
	defer ticker.Stop()
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}} // as of the last collection
	for {
		metrics.Read(live)
		debug.SetMemoryLimit(max(leastMemory, 2*int64(live[0].Value.Uint64())))
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

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
			ctx, stop := context.WithCancel(cmd.Context())
			var collector sync.WaitGroup
			collector.Go(func() { setCollector(ctx) })
			defer collector.Wait()
			defer stop()
			s := &service{file: configFile, initialise: initialise, logger: logger, hangup: make(chan os.Signal, 1)}
			return s.run(cmd.Context())
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

// service runs one agent after the other, each with the configuration of its time.
type service struct {
	file       string // of the configuration
	initialise bool
	logger     *slog.Logger
	hangup     chan os.Signal
}

// run serves until the context ends. A configuration that does not parse leaves the running agent alone; one
// that parses and does not start gives way to the one before.
func (s *service) run(ctx context.Context) error {
	signal.Notify(s.hangup, syscall.SIGHUP) // from the start: unheard, the signal ends the process
	defer signal.Stop(s.hangup)
	config, err := declaration.LoadAgent(s.file)
	if err != nil {
		return err
	}
	var last *declaration.AgentConfig // ran before config
	for {
		next, err := s.serve(ctx, config)
		var unstarted *startError
		switch {
		case next != nil:
			last, config = config, next
		case errors.As(err, &unstarted) && last != nil:
			s.logger.Error("the new configuration does not start; going on with the one before", "error", err)
			config, last = last, nil
		default:
			return err
		}
	}
}

// startError is why an agent did not start.
type startError struct{ error }

func (e *startError) Unwrap() error { return e.error }

// serve runs an agent and its HTTP listener until the context ends, or a signal brings another configuration,
// which it returns.
func (s *service) serve(ctx context.Context, config *declaration.AgentConfig) (next *declaration.AgentConfig, err error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	listener, err := listen(ctx, config.Listen, s.logger)
	if err != nil {
		return nil, &startError{fmt.Errorf("listen (is an agent running here already?): %w", err)}
	}
	defer listener.Close()
	agent, err := reconciler.New(ctx, config, reconciler.Options{
		Version: version, Init: s.initialise, Now: time.Now, Logger: s.logger, Registerer: registry,
	})
	if errors.Is(err, evidence.ErrLocked) {
		err = fmt.Errorf("another agent uses the data directory %s: %w", config.DataDir, err)
	}
	if err != nil {
		return nil, &startError{err}
	}
	defer func() { err = errors.Join(err, agent.Close()) }()

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	server := &http.Server{
		Handler: agent.Handler(registry), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(s.logger.Handler(), slog.LevelWarn),
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
	group.Go(func() error {
		next = s.awaitReload(ctx, config, agent)
		stop()
		return nil
	})
	s.logger.Info("running", "version", version, "listen", listener.Addr().String(), "data", config.DataDir)
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return nil, err
	}
	return next, nil
}

// A process that was killed is gone for others at once, and has its sockets until the kernel has taken it apart, which takes
// longest where it was writing to a slow disk. The next one waits for that.
const (
	listenPatience = 3 * time.Second
	listenRetry    = 50 * time.Millisecond
)

// listen takes an address, and waits a moment for one that is in use.
func listen(ctx context.Context, address string, logger *slog.Logger) (net.Listener, error) {
	ctx, cancel := context.WithTimeout(ctx, listenPatience)
	defer cancel()
	for waiting := false; ; waiting = true {
		listener, err := net.Listen("tcp", address)
		if !errors.Is(err, syscall.EADDRINUSE) {
			return listener, err
		}
		if !waiting {
			logger.Info("the address is in use; waiting a moment for whoever had it to end", "listen", address)
		}
		retry := time.NewTimer(listenRetry)
		select {
		case <-retry.C:
		case <-ctx.Done():
			retry.Stop()
			return nil, err
		}
	}
}

// awaitReload handles SIGHUP: an unchanged configuration polls every source now, a changed one is returned. It
// returns nil when the context ends.
func (s *service) awaitReload(ctx context.Context, running *declaration.AgentConfig, agent *reconciler.Agent) *declaration.AgentConfig {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.hangup:
		}
		config, err := declaration.LoadAgent(s.file)
		switch {
		case err != nil:
			s.logger.Error("configuration not reloaded; the running one stays", "error", err)
		case reflect.DeepEqual(config, running):
			agent.Reload()
		default:
			s.logger.Info("configuration changed; starting over with it")
			return config
		}
	}
}
