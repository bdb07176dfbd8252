package apply

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/purser-gitops/purser/render"
)

// fieldManager is the field manager of everything Purser applies. It never changes: another name would orphan our fields.
const fieldManager = "purser"

// Marks on every object we own.
const (
	labelEnvironment = "purser.dev/environment" // name of the environment that owns the object
	annotationDigest = "purser.dev/digest"      // digest of the object in its release
	annotationPrune  = "purser.dev/prune"       // "disabled" on a live object: never deleted
)

// userPrefix and the name of a tenant make the user that acts for it.
const userPrefix = "purser:tenant:"

// Options of a Cluster.
type Options struct {
	Logger *slog.Logger     // default: discards
	Now    func() time.Time // default: time.Now

	concurrency    int           // requests in flight per tenant, watches not counted; 16
	requestTimeout time.Duration // for one request; 30 s
}

// Cluster is one API server with what all its users share. It is safe for concurrent use.
type Cluster struct {
	name   string
	cfg    *rest.Config
	o      Options
	http   *http.Client
	agent  dynamic.Interface
	mapper meta.RESTMapper
	watch  atomic.Pointer[Watcher] // nil: nobody watches
	uid    uidCache
	reach  *reach

	mu      sync.Mutex
	clients map[string]*Client // by tenant
}

// NewCluster prepares access to an API server; it makes no request yet. The configuration must not impersonate.
func NewCluster(name string, cfg *rest.Config, o Options) (*Cluster, error) {
	if cfg.Impersonate.UserName != "" {
		return nil, errors.New("configuration already impersonates a user")
	}
	if o.concurrency <= 0 {
		o.concurrency = 16
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.requestTimeout <= 0 {
		o.requestTimeout = 30 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	cfg = rest.CopyConfig(cfg)
	cfg.UserAgent = fieldManager
	cfg.QPS = -1 // the API server's priority and fairness limits us, our own concurrency bounds us
	cfg.Timeout = o.requestTimeout
	cfg.WarningHandler = rest.NoWarnings{}
	r := &reach{now: o.Now}
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return reachTransport{next, r} })
	client, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("prepare connection to cluster %s: %w", name, err)
	}
	agent, err := dynamic.NewForConfigAndClient(cfg, client)
	if err != nil {
		return nil, fmt.Errorf("prepare client of cluster %s: %w", name, err)
	}
	discovery := *client
	discovery.Timeout = discoveryTimeout
	mapper, err := apiutil.NewDynamicRESTMapper(cfg, &discovery)
	if err != nil {
		return nil, fmt.Errorf("prepare discovery of cluster %s: %w", name, err)
	}
	return &Cluster{name: name, cfg: cfg, o: o, http: client, agent: agent, mapper: mapper, reach: r, clients: map[string]*Client{}}, nil
}

// Name is the cluster's name in the declarations.
func (c *Cluster) Name() string { return c.name }

// Close drops idle connections. Requests under way are not interrupted.
func (c *Cluster) Close() {
	utilnet.CloseIdleConnectionsFor(c.http.Transport)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.clients {
		utilnet.CloseIdleConnectionsFor(t.http.Transport)
	}
}

// ErrNotServed says that the API server was asked and does not serve a kind.
var ErrNotServed = errors.New("the cluster does not serve the kind")

// Scope says whether objects of a kind live in a namespace. It is ErrNotServed where the kind is unknown to the API server;
// any other error means that it could not be asked. An answer that is not cached takes at most discoveryTimeout a request.
func (c *Cluster) Scope(ref render.Ref) (namespaced bool, err error) {
	mapping, err := c.mapping(ref)
	if meta.IsNoMatchError(err) {
		return false, fmt.Errorf("%w %s/%s", ErrNotServed, ref.Group, ref.Kind)
	}
	if err != nil {
		return false, fmt.Errorf("ask cluster %s for its kinds: %w", c.name, err)
	}
	return isNamespaced(mapping), nil
}

func groupKind(ref render.Ref) schema.GroupKind {
	return schema.GroupKind{Group: ref.Group, Kind: ref.Kind}
}

func isNamespaced(mapping *meta.RESTMapping) bool {
	return mapping.Scope.Name() == meta.RESTScopeNameNamespace
}

// discoveryTimeout bounds one discovery request. Discovery takes no context, so it is what a stop waits for at most.
const discoveryTimeout = 5 * time.Second

// mapping finds the resource of a kind in exactly the version asked for. A kind that was missing is asked for again.
func (c *Cluster) mapping(ref render.Ref) (*meta.RESTMapping, error) {
	return c.mapper.RESTMapping(groupKind(ref), ref.Version)
}

// servedMapping is mapping, or that of any version that is served: a version may be gone while the object is not.
func (c *Cluster) servedMapping(ref render.Ref) (*meta.RESTMapping, error) {
	mapping, err := c.mapping(ref)
	if meta.IsNoMatchError(err) {
		return c.mapper.RESTMapping(groupKind(ref))
	}
	return mapping, err
}

// Tenant is the client that acts for a tenant: always the same one for the same tenant.
func (c *Cluster) Tenant(tenant string) (*Client, error) {
	if errs := validation.IsDNS1123Subdomain(tenant); len(errs) > 0 {
		return nil, fmt.Errorf("tenant name %q: %s", tenant, errs[0])
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if t, ok := c.clients[tenant]; ok {
		return t, nil
	}
	cfg := c.configOf(tenant)
	client, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("prepare connection of tenant %s: %w", tenant, err)
	}
	dyn, err := dynamic.NewForConfigAndClient(cfg, client)
	if err != nil {
		return nil, fmt.Errorf("prepare client of tenant %s: %w", tenant, err)
	}
	t := &Client{cluster: c, user: cfg.Impersonate.UserName, http: client, dyn: dyn, slots: semaphore.NewWeighted(int64(c.o.concurrency))}
	c.clients[tenant] = t
	return t, nil
}

// configOf is the configuration of requests as a tenant, or as the agent itself where that is "".
func (c *Cluster) configOf(tenant string) *rest.Config {
	cfg := rest.CopyConfig(c.cfg)
	if tenant != "" {
		cfg.Impersonate = rest.ImpersonationConfig{UserName: userPrefix + tenant}
	}
	return cfg
}

// Client acts on one cluster as one tenant. It is safe for concurrent use.
type Client struct {
	cluster *Cluster
	user    string
	http    *http.Client
	dyn     dynamic.Interface
	slots   *semaphore.Weighted // requests in flight, served in the order they came
}

// resource is the endpoint of one object's kind and namespace.
func (c *Client) resource(mapping *meta.RESTMapping, namespace string) endpoint {
	if !isNamespaced(mapping) {
		namespace = ""
	}
	return c.endpoint(mapping.Resource, namespace)
}

// watcher is the cluster's watcher; nil, which takes every note, when there is none.
func (c *Client) watcher() *Watcher { return c.cluster.watch.Load() }
