// Command demo shows Purser at work on real servers, in eleven chapters: an estate goes live from nothing, a push changes it, a
// bad commit is refused with nothing lost, an edit by hand is healed, kill -9 loses nothing either; people approve, promote,
// freeze and break the glass; backups are restored before they count; and the audit log is checked offline. It exits non-zero if any step did not happen.
//
//	KUBECONFIG=file  use this cluster instead of the lab's own (cluster-admin is needed)
//	DEMO_DIR=dir     keep everything it makes there
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	options := options{kubeconfig: os.Getenv("KUBECONFIG"), dir: os.Getenv("DEMO_DIR"), out: os.Stdout}
	if err := run(ctx, options); err != nil {
		fmt.Fprintf(os.Stderr, "demo: %v\n", err)
		stop()
		os.Exit(1)
	}
}
