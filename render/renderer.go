package render

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/purser-gitops/purser/sources"
)

// Limits bounds one build. A zero field takes its default.
type Limits struct {
	Objects     int           // rendered objects; default 5000
	OutputBytes int64         // their JSON, escapes not counted; default 32 MiB
	InputBytes  int64         // read, repeated reads counted; default 64 MiB
	Reads       int           // calls for files, about three for each; default 50 000
	Depth       int           // bases below each other; default 32
	Time        time.Duration // of one build, without waiting; default 20 s
}

func (l Limits) withDefaults() Limits {
	set(&l.Objects, 5000)
	set(&l.OutputBytes, 32<<20)
	set(&l.InputBytes, 64<<20)
	set(&l.Reads, 50_000)
	set(&l.Depth, 32)
	set(&l.Time, 20*time.Second)
	return l
}

func set[T int | int64 | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// Options of a [Renderer]. The zero value is usable.
type Options struct {
	Limits      Limits
	CacheBytes  int64 // memory for results; default 32 MiB
	Concurrency int   // builds at a time; default GOMAXPROCS
	Logger      *slog.Logger
	Registerer  prometheus.Registerer // for metrics purser_render_*; nil for none
}

// Renderer renders kustomizations and remembers the results. It is safe for
// concurrent use.
type Renderer struct {
	limits Limits
	log    *slog.Logger
	slots  chan struct{}
	cache  *cache
	known  *known
	stats  *metrics

	mu      sync.Mutex
	flights map[string]*flight
	running sync.WaitGroup
}

// flight is one build that several callers may wait for.
type flight struct {
	done    chan struct{}
	cancel  context.CancelFunc
	waiters int // guarded by Renderer.mu; at 0 the build is cancelled
	res     *Result
	err     error
}

// New gives a renderer. [Renderer.Close] waits for what it still runs.
func New(o Options) *Renderer {
	set(&o.CacheBytes, 32<<20)
	set(&o.Concurrency, runtime.GOMAXPROCS(0))
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Renderer{
		limits: o.Limits.withDefaults(), log: o.Logger,
		slots: make(chan struct{}, o.Concurrency), cache: newCache(o.CacheBytes), known: newKnown(),
		flights: map[string]*flight{},
	}
	r.stats = newMetrics(o.Registerer, r.cache)
	return r
}

// Close waits for builds whose callers have gone. Call it after the last Render.
func (r *Renderer) Close() { r.running.Wait() }

// Render gives what the kustomization in dir of t renders to. The same inputs
// give the same result, from the cache; concurrent calls for the same tree and
// directory share one build.
//
// The error is [io/fs.ErrNotExist] when t has no dir, wraps [ErrEmpty] when nothing
// is rendered, is a *[RefusedError] for what the commit's author can correct,
// also when the build takes longer than Limits.Time, and a context error when
// ctx ends. Waiting for other builds counts for ctx alone. Render returns as
// soon as ctx ends. The build behind it stops at its next read of a file: the
// library takes no context, and between reads it only computes, bounded by the
// limits.
func (r *Renderer) Render(ctx context.Context, t *sources.Tree, dir string) (*Result, error) {
	dir, err := cleanDir(dir)
	if err != nil {
		return nil, err
	}
	if res := r.cache.get(t, dir); res != nil {
		r.stats.hits.Inc()
		return res, nil
	}
	if ctx.Err() != nil {
		return nil, ended(ctx, dir)
	}
	key := t.ID() + "\x00" + dir
	fl := r.join(key, t, dir)
	select {
	case <-fl.done:
		r.leave(key, fl)
		return fl.res, fl.err
	case <-ctx.Done():
		r.leave(key, fl)
		return nil, ended(ctx, dir)
	}
}

// ended gives the end of a caller's context, with its cause when it has another.
func ended(ctx context.Context, dir string) error {
	err := ctx.Err()
	if cause := context.Cause(ctx); !errors.Is(cause, err) {
		return fmt.Errorf("render %q: %w: %w", dir, err, cause)
	}
	return fmt.Errorf("render %q: %w", dir, err)
}

// join gives the build under way for key, or starts one.
func (r *Renderer) join(key string, t *sources.Tree, dir string) *flight {
	r.mu.Lock()
	defer r.mu.Unlock()
	if fl, ok := r.flights[key]; ok {
		fl.waiters++
		return fl
	}
	ctx, cancel := context.WithCancel(context.Background())
	fl := &flight{done: make(chan struct{}), cancel: cancel, waiters: 1}
	r.flights[key] = fl
	r.running.Go(func() {
		defer cancel()
		res, err := r.fly(ctx, t, dir)
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.flights[key] == fl {
			delete(r.flights, key)
		}
		fl.res, fl.err = res, err
		close(fl.done)
	})
	return fl
}

// leave cancels a build that nobody waits for.
func (r *Renderer) leave(key string, fl *flight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if fl.waiters--; fl.waiters > 0 {
		return
	}
	fl.cancel()
	if r.flights[key] == fl {
		delete(r.flights, key)
	}
}

// fly waits for a slot and builds, unless another build has just given it.
func (r *Renderer) fly(ctx context.Context, t *sources.Tree, dir string) (*Result, error) {
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return nil, ended(ctx, dir)
	}
	if res := r.cache.get(t, dir); res != nil {
		return res, nil
	}
	start := time.Now()
	res, err := r.build(ctx, t, dir)
	r.stats.built(err, time.Since(start))
	if err != nil {
		return nil, err
	}
	r.cache.put(t, dir, res)
	return res, nil
}

func cleanDir(dir string) (string, error) {
	p := path.Clean(dir)
	if path.IsAbs(p) || p == ".." || strings.HasPrefix(p, "../") {
		return "", &RefusedError{File: dir, Reason: "it is outside the repository", Remedy: "use a path relative to its root", Err: fs.ErrInvalid}
	}
	if p == "." {
		p = ""
	}
	return p, nil
}
