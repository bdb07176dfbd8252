package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// watchVariable makes this program do nothing but watch, in the cluster of the kubeconfig that it names.
const watchVariable = "PURSER_BENCH_WATCH"

// bareWatcher is a process that holds a metadata watch of each managed kind: what an idle agent costs at least.
type bareWatcher struct{ cmd *exec.Cmd }

func startBareWatcher(kubeconfig string) (*bareWatcher, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), watchVariable+"="+kubeconfig)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return &bareWatcher{cmd}, cmd.Start()
}

// stop ends the process. That it was alive until then makes sure that it watched.
func (b *bareWatcher) stop() error {
	if err := b.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	if err := b.cmd.Wait(); err != nil {
		return fmt.Errorf("the process that only watches: %w", err)
	}
	return nil
}

// onlyWatch watches until the context ends.
func onlyWatch(ctx context.Context, kubeconfig string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	c := &cluster{config: config}
	if c.admin, err = rest.HTTPClientFor(config); err != nil {
		return err
	}
	watching, err := c.metadataOf()
	if err != nil {
		return err
	}
	f, err := follow(ctx, watching, func(event) {})
	if err != nil {
		return err
	}
	<-ctx.Done()
	return f.stop()
}
