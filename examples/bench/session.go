package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// options of a run.
type options struct {
	samples      int // how often to measure each figure; 0: often enough for a steady one
	environments int // of the generated estate
	tenants      int // among which they are divided
	sizes        []int
	database     int64  // bytes of the database that is backed up
	purser       string // the agent's binary; "": built from this project
	progress     io.Writer
}

// Defaults of options.
const (
	defaultEnvironments = 500
	defaultTenants      = 2
)

// session is what the benches of one run share.
type session struct {
	options
	dir    string // temporary
	root   string // of this project
	shared *world // settled and kept from one bench to the next; nil until one needs it
	worlds int    // made so far
}

func newSession(ctx context.Context, o options) (*session, error) {
	o.environments, o.tenants = cmp.Or(o.environments, defaultEnvironments), cmp.Or(o.tenants, defaultTenants)
	o.database = cmp.Or(o.database, defaultDatabase)
	if o.samples < 0 || o.environments < 2 || o.tenants < 1 {
		return nil, fmt.Errorf("-samples %d, -environments %d, -tenants %d: at least 0, 2 and 1 are needed", o.samples, o.environments, o.tenants)
	}
	if o.sizes == nil {
		o.sizes = []int{o.environments / 2, o.environments, 2 * o.environments}
	}
	root, err := projectRoot(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "purser-bench-")
	return &session{options: o, dir: dir, root: root}, err
}

// close ends everything that was started, and removes everything that was written.
func (s *session) close() error {
	return errors.Join(s.discard(), os.RemoveAll(s.dir))
}

// discard ends the shared world.
func (s *session) discard() error {
	w := s.shared
	s.shared = nil
	return w.stop()
}

// binary is the agent's program, built when it is first needed.
func (s *session) binary(ctx context.Context) (string, error) {
	if s.purser != "" {
		return filepath.Abs(s.purser)
	}
	target := filepath.Join(s.dir, "purser")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", target, "./cmd/purser")
	build.Dir, build.Env = s.root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build purser: %w\n%s", err, out)
	}
	s.purser = target
	return target, nil
}

// say tells about progress.
func (s *session) say(format string, values ...any) {
	fmt.Fprintf(s.progress, "%s "+format+"\n", append([]any{time.Now().Format(time.TimeOnly)}, values...)...)
}

// calm is the interval of full comparisons in a world where none is to disturb.
const calm = 2 * time.Hour

// newWorld starts servers and prepares an estate and an agent, which is not started.
func (s *session) newWorld(ctx context.Context, environments int) (_ *world, err error) {
	binary, err := s.binary(ctx)
	if err != nil {
		return nil, err
	}
	w := &world{session: s}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.stop())
		}
	}()
	s.worlds++
	dir := filepath.Join(s.dir, fmt.Sprintf("world-%d", s.worlds))
	places := places(environments, s.tenants)
	if w.cluster, err = s.newCluster(ctx, filepath.Join(dir, "lab"), places); err != nil {
		return nil, err
	}
	estates, err := w.cluster.lab.CreateRepo(ctx, "estate")
	if err != nil {
		return nil, err
	}
	audit, err := w.cluster.lab.CreateRepo(ctx, "audit")
	if err != nil {
		return nil, err
	}
	w.audit = audit.URL
	if w.estate, err = newGenerated(ctx, filepath.Join(dir, "estate"), estates, places, calm); err != nil {
		return nil, err
	}
	kubeconfig, err := w.cluster.agentKubeconfig()
	if err != nil {
		return nil, err
	}
	w.agent, err = newAgent(ctx, filepath.Join(dir, "agent"), binary, kubeconfig, estates.URL, audit.URL)
	return w, err
}

// newCluster starts a cluster in which the agent may work in these places.
func (s *session) newCluster(ctx context.Context, dir string, places []place) (*cluster, error) {
	c, err := newCluster(ctx, dir, s.progress)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	if err := c.grant(ctx, s.root, places); err != nil {
		return nil, errors.Join(err, c.stop())
	}
	s.say("a cluster with %d namespaces was prepared in %.0f s", len(places), time.Since(start).Seconds())
	return c, nil
}

// settled is the shared world: everything is live and nothing is going on.
func (s *session) settled(ctx context.Context) (*world, error) {
	if s.shared == nil {
		w, err := s.newWorld(ctx, s.environments)
		if err != nil {
			return nil, err
		}
		if _, err := w.cold(ctx); err != nil {
			return nil, errors.Join(err, w.stop())
		}
		s.shared = w
	}
	return s.shared, s.shared.settle(ctx)
}
