// Command lab starts the real servers that Purser works with on this machine; "lab help" tells how.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/purser-gitops/purser/examples/lab"
)

const usage = `Usage:
  lab up   [-dir DIR] [-servers LIST]              run the servers until interrupted; the data stay in DIR
  lab exec [-dir DIR] [-servers LIST] -- CMD ARGS  run CMD with PURSER_LAB and KUBECONFIG set, then stop the servers
  lab build                                        build the binaries that are missing

LIST is a comma-separated list of servers (default all); what they need is started too:
  %s
It needs a checkout of the repository, whose examples/lab has what the servers are built from.
DIR defaults to a new temporary folder, which is removed at the end.

Exit codes: that of CMD; 1 when the lab fails; 2 on wrong usage.
`

// errUsage asks for the usage text.
var errUsage = errors.New("wrong usage")

func main() {
	// exec ties CMD to this thread, see execute.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:])
	var exit *exec.ExitError
	switch {
	case err == nil:
	case errors.Is(err, errUsage):
		fmt.Fprintf(os.Stderr, usage, strings.Join(lab.Servers(), " "))
		os.Exit(2)
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		os.Exit(exit.ExitCode())
	default:
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errUsage
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	dir := flags.String("dir", "", "data directory")
	servers := flags.String("servers", "", "comma-separated servers")
	if err := flags.Parse(args[1:]); err != nil {
		return errUsage
	}
	options := lab.Options{Dir: *dir}
	if *servers != "" {
		options.Servers = strings.Split(*servers, ",")
	}
	switch {
	case args[0] == "build" && flags.NArg() == 0:
		return lab.Build(ctx, os.Stderr)
	case args[0] == "up" && flags.NArg() == 0:
		return with(ctx, options, up)
	case args[0] == "exec" && flags.NArg() > 0:
		return with(ctx, options, func(ctx context.Context, l *lab.Lab) error { return execute(ctx, l, flags.Args()) })
	default:
		return errUsage
	}
}

// with runs do with a started lab and stops the lab afterwards.
func with(ctx context.Context, o lab.Options, do func(context.Context, *lab.Lab) error) (err error) {
	if o.Dir == "" {
		o.Dir, err = os.MkdirTemp("", "purser-lab-")
		if err != nil {
			return fmt.Errorf("create data directory: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(o.Dir)) }()
	}
	begin := time.Now()
	l, err := lab.Start(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Stop()) }()
	fmt.Fprintf(os.Stderr, "lab: %s ready in %.1f s (%s)\n", strings.Join(l.Servers, " "), time.Since(begin).Seconds(), l.Dir)
	return do(ctx, l)
}

func up(ctx context.Context, l *lab.Lab) error {
	fmt.Printf("export %s=%s\n", lab.EnvDir, l.Dir)
	if l.Kubeconfig != "" {
		fmt.Printf("export KUBECONFIG=%s\n", l.Kubeconfig)
	}
	if l.GitURL != "" {
		fmt.Printf("# Git: %s/NAME.git\n", l.GitURL)
	}
	if l.GiteaURL != "" {
		fmt.Printf("# Gitea: %s, administrator's token in %s\n", l.GiteaURL, l.GiteaTokenFile())
	}
	if l.AlertmanagerURL != "" {
		fmt.Printf("# Alertmanager: %s\n", l.AlertmanagerURL)
	}
	if l.PostgresAddress != "" {
		fmt.Printf("export PGPASSFILE=%s\n# PostgreSQL: psql \"%s\"\n", l.PostgresPassFile(), l.PostgresDSN(lab.PostgresAdmin, "postgres"))
	}
	if l.S3URL != "" {
		fmt.Printf("# S3: %s, region %s, authority in %s, administrator's key in %s\n", l.S3URL, lab.S3Region, l.CAFile, l.S3CredentialsFile(lab.S3Admin))
	}
	<-ctx.Done()
	return nil
}

// execute runs a command against the lab. An interrupt from the terminal reaches the command by itself; in any other
// case of an end it gets SIGTERM, also when this process is killed.
func execute(ctx context.Context, l *lab.Lab, args []string) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), lab.EnvDir+"="+l.Dir, "KUBECONFIG="+l.Kubeconfig)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	return cmd.Run()
}
