// Command purser is the GitOps reconciler and its tools. See purser help.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// exit is an error that carries the exit code of the command.
type exit struct {
	code int
	err  error // nil: the command already said everything
}

func (e exit) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e exit) Unwrap() error { return e.err }

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// usageExit is the exit code for a command line that no command understands.
const usageExit = 2

// run executes a command line and maps its error to an exit code: 1, unless the command says otherwise.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRoot(stdout, stderr)
	root.SetArgs(args)
	code := usageExit
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if err := cmp.Or(cmd.ValidateRequiredFlags(), cmd.ValidateFlagGroups()); err != nil { // cobra asks later
			return err
		}
		code = 1 // the command line is understood
		return nil
	}
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var e exit
	if errors.As(err, &e) {
		code = e.code
	}
	if message := err.Error(); message != "" {
		lines := strings.Split(message, "\n")
		for i, line := range lines {
			lines[i] = plain(line)
		}
		fmt.Fprintf(stderr, "purser: %s\n", strings.Join(lines, "\n"))
	}
	return code
}
