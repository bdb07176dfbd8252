package lab

import (
	"context"
	"os/exec"
)

// scheduler gives pods a node.
type scheduler struct{}

func (scheduler) Name() string    { return Scheduler }
func (scheduler) Needs() []string { return []string{APIServer} }

func (scheduler) Command(_ context.Context, l *Lab, binary string) (*exec.Cmd, error) {
	args, err := componentArgs(l, Scheduler)
	if err != nil {
		return nil, err
	}
	return exec.Command(binary, args...), nil
}

func (scheduler) Ready(ctx context.Context, l *Lab) error { return componentReady(ctx, l, Scheduler) }
