package reconciler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/purser-gitops/purser/reconciler/alert"
	"github.com/purser-gitops/purser/reconciler/apply"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/landed"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/credential"
	"github.com/purser-gitops/purser/sources/declaration"
	"github.com/purser-gitops/purser/sources/identity"
)

// Options of an agent beyond its configuration file.
type Options struct {
	Version   string        // of this program, for the records
	Init      bool          // an empty audit remote is a new log, not a lost one
	Heartbeat time.Duration // how long the log may be silent; default 1 hour
	Leftovers time.Duration // between two looks at what is left of environments that are declared no more; default 1 minute
	Stall     time.Duration // how long a database may be silent that is backed up; default 10 minutes
	// At is called when a stage has come to a named point; nil for nothing. Tests end the process there.
	At         func(point string)
	Now        func() time.Time
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Agent is the daemon: one writer of one audit log.
type Agent struct {
	config   *declaration.AgentConfig
	options  Options
	now      func() time.Time
	logger   *slog.Logger
	metrics  *metrics
	journal  *journal
	renderer *render.Renderer
	renders  *turns // as many as the renderer does at a time
	decrypt  *render.Decrypter
	sources  map[string]*source
	clusters map[string]*cluster

	backups   *backups
	alerts    *alert.Sender
	control   *net.UnixListener // takes orders; nil where no backups are made
	recorded  chan struct{}     // capacity 1: there is a new record, which may change what fires
	replaying chan struct{}     // capacity 1: somebody reads the log
	releases  *releaseCache
	landings  landed.Cache

	mu       sync.RWMutex
	root     *identity.Keyring       // of the keys that the configuration pins; nil: none
	law      *law                    // of the approved governance commit; nil until there is one
	observed map[string]*observation // per environment: what is known but needs no record
	claims   map[claim]string        // what approved releases will own → environment, until they do
	busy     map[string]bool         // environments under reconciliation now
	problems map[string]problem      // per source, once it was polled
	governed chan struct{}           // wakes the governance stage
	looked   map[string]look         // refs of statements, as the governance stage last looked at them
}

// cluster is a Kubernetes API, the queue of the environments in it and the watch over what they own.
type cluster struct {
	*apply.Cluster
	queue    *queue
	watcher  *apply.Watcher
	replaced atomic.Pointer[apply.StalledError] // why it is another cluster than the records say; nil when it is not
	deciding sync.Mutex                         // one approval at a time, so that two environments cannot both claim an object

	restoring sync.Mutex // guards restored
	restored  bool       // the claims of releases that were approved before the start are known
}

// New prepares an agent: it opens its data directory and audit log, and folds the state. Call [Agent.Run]
// once, and [Agent.Close] in any case.
func New(ctx context.Context, config *declaration.AgentConfig, o Options) (_ *Agent, err error) {
	metrics, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	a := &Agent{
		config: config, options: o, now: o.Now, logger: o.Logger, metrics: metrics,
		sources:   map[string]*source{},
		clusters:  map[string]*cluster{},
		releases:  newReleaseCache(),
		landings:  landed.NewCache(),
		observed:  map[string]*observation{},
		claims:    map[claim]string{},
		busy:      map[string]bool{},
		problems:  map[string]problem{},
		governed:  make(chan struct{}, 1),
		recorded:  make(chan struct{}, 1),
		replaying: make(chan struct{}, 1),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Close())
		}
	}()
	a.renders = newTurns(config.Concurrency.Render)
	am := config.Alertmanager
	if a.alerts, err = alert.New(alert.Options{
		URLs: am.URLs, CAFile: am.CAFile, TokenFile: am.TokenFile, Timeout: am.Timeout,
		Now: o.Now, Logger: o.Logger.With("component", "alerts"), Registerer: o.Registerer,
	}); err != nil {
		return nil, err
	}
	a.renderer = render.New(render.Options{Concurrency: config.Concurrency.Render, Logger: o.Logger, Registerer: o.Registerer})
	a.decrypt = render.NewDecrypter(config.Decryption.AgeKeyFile)
	if a.backups, err = newBackups(a); err != nil {
		return nil, err
	}
	key, err := evidence.LoadKey(config.Audit.SigningKeyFile)
	if err != nil {
		return nil, fmt.Errorf("load signing key: %w", err)
	}
	trusted, err := trustedKeys(config.Audit, key)
	if err != nil {
		return nil, fmt.Errorf("load trusted keys: %w", err)
	}
	pinned, err := pinnedCheckpoint(config.Audit)
	if err != nil {
		return nil, err
	}
	// First of all: it locks the data directory against a second agent.
	a.journal, err = openJournal(ctx, evidence.Options{
		Dir:        filepath.Join(config.DataDir, "audit"),
		Remote:     evidence.Remote{URL: config.Audit.URL, Auth: sources.Auth(config.Audit.Auth)},
		Branch:     config.Audit.Branch,
		Writer:     config.Writer,
		Key:        key,
		Trusted:    trusted,
		Init:       o.Init,
		Pinned:     pinned,
		Now:        o.Now,
		Logger:     o.Logger.With("component", "evidence"),
		Registerer: o.Registerer,
		At:         o.At,
	})
	if err != nil {
		return nil, err
	}
	a.journal.told = func() {
		a.signalAnswers()
		a.signalAlerts()
	}
	if len(config.Backup.Databases) > 0 {
		if a.control, err = listenControl(config.DataDir); err != nil {
			return nil, err
		}
	}
	if a.root, err = rootKeyring(config.Governance.Trust); err != nil {
		return nil, fmt.Errorf("read root keys: %w", err)
	}
	for _, c := range config.Clusters {
		if err := a.addCluster(c); err != nil {
			return nil, err
		}
	}
	for _, s := range config.Sources {
		if err := a.addSource(s); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// signalAnswers has what is told to forges brought up to date.
func (a *Agent) signalAnswers() {
	for _, s := range a.sources {
		if s.answers != nil {
			s.answers.signal()
		}
	}
}

func (a *Agent) addCluster(c declaration.AgentCluster) error {
	config, err := apply.RESTConfig(c.Kubeconfig, c.Context, c.InCluster)
	if err != nil {
		return fmt.Errorf("cluster %q: %w", c.Name, err)
	}
	connection, err := apply.NewCluster(c.Name, config, apply.Options{Logger: a.logger.With("cluster", c.Name), Now: a.now})
	if err != nil {
		return fmt.Errorf("cluster %q: %w", c.Name, err)
	}
	visit := func(ctx context.Context, environment string) time.Duration { return a.visit(ctx, c.Name, environment) }
	a.clusters[c.Name] = &cluster{
		Cluster: connection, queue: newQueue(a.config.Concurrency.PerTenant, visit),
		watcher: connection.NewWatcher(apply.WatchOptions{
			Notify: a.noticed, Now: a.now, Logger: a.logger.With("cluster", c.Name), Metrics: a.metrics.watches,
		}),
	}
	return nil
}

// noticed is told by the watches that something of an environment changed.
func (a *Agent) noticed(environment string, n apply.Notice) {
	a.visitSoon(environment, func(o *observation) {
		o.moved = o.moved || n == apply.StatusChanged
		if n == apply.Suspect { // it may be what a stalled release waits for
			o.release.length = min(o.release.length, contestFirst)
		}
	})
}

// cover has the objects of an environment watched.
func (c *cluster) cover(env *declaration.Environment, owned apply.Inventory) {
	refs := make([]render.Ref, len(owned))
	for i, item := range owned {
		refs[i] = item.Ref
	}
	c.watcher.Cover(env.Meta.Name, tenantOf(env), refs)
}

// at tells whoever asked to be told that a stage has come to a point.
func (a *Agent) at(point string) {
	if a.options.At != nil {
		a.options.At(point)
	}
}

// Run reconciles until the context ends. Then it finishes what it began, writes a stop record and publishes
// what is spooled.
func (a *Agent) Run(ctx context.Context) error {
	return a.publishing(ctx, func() error {
		err := a.work(ctx)
		if errors.Is(err, context.Canceled) {
			err = nil
		}
		a.logger.Info("stopping")
		_, stopErr := a.journal.record(a.stopDraft(ctx))
		return errors.Join(err, stopErr)
	})
}

// publishing runs the log beside some work. The log outlives the work: it publishes what the work recorded
// last, as far as the audit remote lets it within stopTimeout; the rest is published at the next start.
func (a *Agent) publishing(ctx context.Context, work func() error) error {
	ctx = context.WithoutCancel(ctx)
	published := make(chan error, 1)
	go func() { published <- a.journal.log.Run(ctx) }()
	err := work()
	drain, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	if closeErr := a.journal.log.Close(drain); closeErr != nil {
		a.logger.Warn("records are still spooled; they are published at the next start", "error", closeErr)
	}
	return errors.Join(err, <-published)
}

// stopTimeout bounds how long a stop waits for the audit remote.
const stopTimeout = 10 * time.Second

// Close releases what New opened.
func (a *Agent) Close() error {
	for _, c := range a.clusters {
		c.queue.shutDown()
		c.Cluster.Close()
	}
	if a.renderer != nil {
		a.renderer.Close()
	}
	var errs []error
	if a.control != nil {
		if err := a.control.Close(); !errors.Is(err, net.ErrClosed) { // it was served
			errs = append(errs, err)
		}
	}
	if a.backups != nil {
		errs = append(errs, a.backups.site.Close())
	}
	for _, s := range a.sources {
		errs = append(errs, s.repo.Close())
		if s.answers != nil {
			errs = append(errs, s.answers.close())
		}
	}
	if a.journal != nil {
		now, cancel := context.WithCancel(context.Background())
		cancel() // Run has published what it could
		errs = append(errs, a.journal.log.Close(now))
	}
	return errors.Join(errs...)
}

// pinnedCheckpoint is what the log must contain; nil where the configuration pins nothing.
func pinnedCheckpoint(c declaration.AgentAudit) ([]byte, error) {
	if c.CheckpointFile == "" {
		return nil, nil
	}
	data, err := credential.ReadFile(c.CheckpointFile, 64<<10)
	if err != nil {
		return nil, fmt.Errorf("read the pinned checkpoint: %w", err)
	}
	return data, nil
}

// trustedKeys are the keys whose records count: those of the file, or the agent's own.
func trustedKeys(c declaration.AgentAudit, own *evidence.Key) (*evidence.Trusted, error) {
	if c.TrustedKeysFile == "" {
		return evidence.Trust(own.Public()), nil
	}
	return evidence.LoadTrusted(c.TrustedKeysFile)
}

// work runs the loops: sources, governance, one queue per cluster, heartbeat.
func (a *Agent) work(ctx context.Context) error {
	if err := a.recordStart(); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, s := range a.sources {
		group.Go(func() error { return s.poller.Run(ctx) })
		if s.answers != nil {
			group.Go(func() error { return s.answers.run(ctx) })
		}
		if s.forge != nil {
			group.Go(func() error { return a.watchProtection(ctx, s, s.forge) })
		}
	}
	for _, c := range a.clusters {
		group.Go(func() error { return c.queue.run(ctx) })
		group.Go(func() error { return c.watcher.Run(ctx) })
	}
	group.Go(func() error { return a.govern(ctx) })
	group.Go(func() error { return a.backups.run(ctx) })
	if a.control != nil {
		group.Go(func() error { return a.serveControl(ctx, a.control) })
	}
	group.Go(func() error { return a.beat(ctx) })
	group.Go(func() error { return a.watchLeftovers(ctx) })
	group.Go(func() error { return a.alerts.Run(ctx) })
	group.Go(func() error { return a.raise(ctx) })
	return group.Wait()
}

// recordStart records the start, and gives every intent that a crash left without an outcome one: "interrupted", for some
// of it may have happened, so the inventory keeps what it named; or "abandoned", if the audit remote never showed it.
func (a *Agent) recordStart() error {
	_, gap := a.journal.log.Epoch()
	if _, err := a.journal.record(evidence.Draft{
		Type: evidence.TypeStart,
		Predicate: evidence.Start{
			Version: a.options.Version, Renderer: render.Version, PossibleGap: gap,
		},
	}); err != nil {
		return err
	}
	open := map[string]EnvironmentState{}
	a.journal.read(func(s *State) {
		for name, e := range s.Environments {
			if e.Deployment.Intent != nil {
				open[name] = *e
			}
		}
	})
	for name, e := range open {
		cause := errInterrupted
		if i := e.Deployment.Intent; i.Purpose == evidence.PurposeRelease && a.journal.log.Unshown(i.Record) {
			cause = errUnseen
			a.note(name, func(o *observation) { o.abandoned = i.Record })
		}
		if err := a.closeIntent(name, cause); err != nil {
			return err
		}
	}
	return nil
}

func (a *Agent) stopDraft(ctx context.Context) evidence.Draft {
	reason := "a stage ended"
	if ctx.Err() != nil {
		reason = "asked to stop"
	}
	return evidence.Draft{
		Type:      evidence.TypeStop,
		Predicate: evidence.Stop{Reason: reason},
	}
}

// beat writes a heartbeat record whenever nothing else was written for an interval.
func (a *Agent) beat(ctx context.Context) error {
	interval := cmp.Or(a.options.Heartbeat, time.Hour)
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	last := a.journal.log.Status().Records
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		next := a.journal.log.Status().Records
		if next == last {
			a.mu.RLock()
			count := len(a.observed)
			a.mu.RUnlock()
			r, err := a.journal.record(evidence.Draft{
				Type:      evidence.TypeHeartbeat,
				Predicate: evidence.Heartbeat{Environments: count, Interval: interval},
			})
			if err != nil {
				a.logger.Error("heartbeat not recorded", "error", err)
			} else {
				next = r.Index + 1
			}
		}
		last = next
	}
}

// Reload re-reads what can change under a running agent: it polls every source now. Credentials are read
// at every use.
func (a *Agent) Reload() {
	for _, s := range a.sources {
		s.poller.Trigger()
	}
}

// wake asks for a reconciliation of an environment, because something it waits for may have come. What failed is tried
// again at once.
func (a *Agent) wake(environment string) {
	a.visitSoon(environment, func(o *observation) { o.release.at, o.repair.at = time.Time{}, time.Time{} })
}

// visitSoon has a worker look at an environment, and notes why.
func (a *Agent) visitSoon(environment string, why func(*observation)) {
	env, _, ok := a.declared(environment)
	if !ok {
		return
	}
	a.note(environment, why)
	if c := a.clusters[env.Spec.Cluster]; c != nil {
		c.queue.add(tenantOf(env), environment)
	}
}

// declared is an environment of the approved governance, with its tenant (nil: the default one).
func (a *Agent) declared(name string) (*declaration.Environment, *declaration.Tenant, bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if a.law == nil {
		return nil, nil, false
	}
	e := a.law.Environments[name]
	if e == nil {
		return nil, nil, false
	}
	return e, a.law.Tenants[e.Spec.Tenant], true
}

// BeginLog starts the log without doing anything else, and says how many records it holds then. A log that has
// records is left as it is. The agent is closed afterwards.
func (a *Agent) BeginLog(ctx context.Context) (records uint64, err error) {
	err = a.publishing(ctx, func() error {
		if a.journal.log.Status().Records == 0 {
			if err := a.recordStart(); err != nil {
				return err
			}
			if _, err := a.journal.record(a.stopDraft(ctx)); err != nil {
				return err
			}
		}
		// Not left to the end of publishing: a log that is closed before its Run began publishes nothing.
		wait, cancel := context.WithTimeout(ctx, stopTimeout)
		defer cancel()
		if err := a.journal.log.Published(wait, a.journal.log.Status().Records-1); err != nil {
			return fmt.Errorf("the first records are not published yet; purser run will go on with it: %w", err)
		}
		return nil
	})
	return a.journal.log.Status().Records, err
}
