package forge

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/purser-gitops/purser/sources/credential"
)

// A Type is a kind of forge.
type Type string

// The forges that Purser speaks with.
const (
	Gitea  Type = "gitea"
	GitHub Type = "github"
	GitLab Type = "gitlab"
)

const (
	defaultTimeout = 30 * time.Second
)

// Options say which project of which forge.
type Options struct {
	Type      Type
	URL       string        // as people open it: https://github.com, https://gitea.example.com
	Project   string        // owner/name; on GitLab with all groups
	TokenFile string        // the access token; read for every request
	CAFile    string        // PEM certificates trusted besides the system's; read by New
	Timeout   time.Duration // of one request; default 30 s
	Limits    Limits
	Now       func() time.Time // default time.Now
	Logger    *slog.Logger     // default discards
}

// A Client asks about one project. It may be used concurrently and needs no closing but [Client.Close].
type Client struct {
	options   Options
	limits    Limits
	base      *url.URL // of the API
	owner     string
	name      string
	authorize func(http.Header, string) // adds the token
	transport *http.Transport
	forge     func(*call) (backend, error)
	pause     pause
}

// A backend is one forge's API during one operation. Errors need no context but the failed request.
type backend interface {
	reader
	writer
}

// reader is what all forges can be asked.
type reader interface {
	// pullRequestOf returns the merged pull request of the commit; nil when there is none.
	pullRequestOf(ctx context.Context, branch, commit string) (*PullRequest, error)
	open(ctx context.Context) ([]OpenPullRequest, error)
	// describe fills in what an open pull request consists of. Only what the list of open ones says is there.
	describe(ctx context.Context, pr *PullRequest) error
	protection(ctx context.Context, branch string) (Protection, error)
	// status returns the newest status with that context; nil when there is none.
	status(ctx context.Context, commit, context string) (*Status, error)
	comments(ctx context.Context, number int64) ([]comment, error)
	self(ctx context.Context) (User, error)
}

// writer is what all forges can be told.
type writer interface {
	setStatus(ctx context.Context, commit string, s Status) error
	createComment(ctx context.Context, number int64, body string) error
	editComment(ctx context.Context, number, comment int64, body string) error
	create(ctx context.Context, head, base, title, body string) (OpenPullRequest, error)
}

// New returns a client. It makes no request.
func New(o Options) (*Client, error) {
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Client{options: o, limits: o.Limits.withDefaults()}
	if err := c.address(); err != nil {
		return nil, fmt.Errorf("use forge %s: %w", o.Type, err)
	}
	if o.TokenFile == "" {
		return nil, hint(fmt.Errorf("use forge %s: no token file is given", o.Type), "name a file with an access token; docs/forges.md says which permissions it needs")
	}
	roots, err := authorities(o.CAFile)
	if err != nil {
		return nil, fmt.Errorf("use forge %s: %w", o.Type, err)
	}
	c.transport = credential.Transport(roots)
	c.transport.MaxIdleConnsPerHost, c.transport.IdleConnTimeout = 2, time.Minute
	return c, nil
}

// Close lets go of idle connections.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

var projectPattern = regexp.MustCompile(`^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)+$`)

// address works out where the API is and how it is told the token.
func (c *Client) address() error {
	u, err := url.Parse(strings.TrimSuffix(c.options.URL, "/"))
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("the address must look like https://host without user, query and fragment")
	}
	loopback := u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback()
	if u.Scheme != "https" && !(u.Scheme == "http" && loopback) {
		return hint(errors.New("a token is only sent over https"), "use https")
	}
	if !projectPattern.MatchString(c.options.Project) || strings.Contains("/"+c.options.Project+"/", "/../") || strings.Contains("/"+c.options.Project+"/", "/./") {
		return fmt.Errorf("the project %q must look like owner/name", c.options.Project)
	}
	cut := strings.LastIndexByte(c.options.Project, '/')
	c.owner, c.name = c.options.Project[:cut], c.options.Project[cut+1:]
	if strings.Contains(c.owner, "/") && c.options.Type != GitLab {
		return fmt.Errorf("the project %q must look like owner/name", c.options.Project)
	}
	bearer := func(h http.Header, token string) { h.Set("Authorization", "Bearer "+token) }
	switch c.options.Type {
	case Gitea:
		c.base, c.authorize, c.forge = u, bearer, newGitea
	case GitHub:
		c.base, c.authorize, c.forge = u.JoinPath("api", "v3"), bearer, newGitHub
		if strings.EqualFold(u.Hostname(), "github.com") || strings.HasSuffix(strings.ToLower(u.Hostname()), ".ghe.com") {
			c.base = &url.URL{Scheme: u.Scheme, Host: "api." + u.Host}
		}
	case GitLab:
		c.base, c.authorize, c.forge = u.JoinPath("api", "v4"), func(h http.Header, token string) { h.Set("PRIVATE-TOKEN", token) }, newGitLab
	default:
		return fmt.Errorf("the type must be %s, %s or %s", Gitea, GitHub, GitLab)
	}
	return nil
}

func authorities(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	data, err := credential.ReadFile(file, maxCABytes)
	if err != nil {
		return nil, fmt.Errorf("read CA file: %w", err)
	}
	pool, err := credential.Authorities(data)
	if err != nil {
		return nil, hint(err, "write PEM certificates to it")
	}
	return pool, nil
}

// do runs one operation with the forge's library.
func (c *Client) do(operation string, run func(backend, *call) error) error {
	call := c.call()
	b, err := c.forge(call)
	if err == nil {
		err = run(b, call)
	}
	return explain(operation, err)
}

var shaPattern = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

func checkSHA(commit string) error {
	if !shaPattern.MatchString(commit) {
		return fmt.Errorf("%w: %q is not a full commit ID", ErrRefused, commit)
	}
	return nil
}

// PullRequestOf returns the merged pull request that brought the commit, a first-parent step of the branch, onto the
// branch; nil when the forge says that there is none. Right after a merge, forges still write: a nil may become a pull
// request, and pushers that are not known may become known. With its pushers known, what is returned does not change any
// more but for reviews that are given or dismissed later.
func (c *Client) PullRequestOf(ctx context.Context, branch, commit string) (*PullRequest, error) {
	var pr *PullRequest
	asked := c.options.Now()
	err := c.do("find pull request of "+commit, func(b backend, call *call) (err error) {
		if err := checkSHA(commit); err != nil {
			return err
		}
		if pr, err = b.pullRequestOf(ctx, branch, commit); err != nil || pr == nil {
			return err
		}
		pr.State, pr.Digest, pr.Asked = "merged", call.sum(), asked
		return pr.check(branch)
	})
	if err != nil {
		return nil, err
	}
	return pr, nil
}

// check refuses facts with holes: an answer in which something is missing is no answer.
func (p *PullRequest) check(branch string) error {
	for what, bad := range map[string]bool{
		"its number":       p.Number <= 0,
		"its head":         !shaPattern.MatchString(p.Head),
		"its merge commit": !shaPattern.MatchString(p.MergeCommit),
		"its commits":      len(p.Commits) == 0,
		"its base branch":  p.Base != branch,
	} {
		if bad {
			return fmt.Errorf("%w: pull request %d: %s is missing or wrong", ErrUnknown, p.Number, what)
		}
	}
	for i := range p.Reviews {
		r := &p.Reviews[i]
		r.Stale = r.Stale || r.Head != p.Head
	}
	return nil
}

// Open returns the pull requests that are open.
func (c *Client) Open(ctx context.Context) ([]OpenPullRequest, error) {
	var list []OpenPullRequest
	err := c.do("list open pull requests", func(b backend, _ *call) (err error) {
		list, err = b.open(ctx)
		for _, pr := range list {
			if err == nil && (pr.Number <= 0 || pr.Base == "" || !shaPattern.MatchString(pr.Head)) {
				err = fmt.Errorf("%w: pull request %d lacks its base or head", ErrUnknown, pr.Number)
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// Describe returns commits, pushers and reviews of an open pull request as they are now. It fails with [ErrUnknown] when
// the head moved on since it was listed.
func (c *Client) Describe(ctx context.Context, open OpenPullRequest) (*PullRequest, error) {
	pr := &PullRequest{
		Number: open.Number, URL: open.URL, State: "open", Author: open.Author, Base: open.Base, Head: open.Head, HeadRef: open.HeadRef,
		headBranch: open.Branch,
	}
	if open.Fork {
		pr.headBranch = ""
	}
	asked := c.options.Now()
	err := c.do(fmt.Sprintf("describe pull request %d", open.Number), func(b backend, call *call) error {
		if err := b.describe(ctx, pr); err != nil {
			return err
		}
		if n := len(pr.Commits); n == 0 || pr.Head != open.Head || pr.Commits[n-1].SHA != open.Head {
			return fmt.Errorf("%w: the commits of pull request %d do not end with its head", ErrUnknown, pr.Number)
		}
		pr.Digest, pr.Asked = call.sum(), asked
		for i := range pr.Reviews {
			pr.Reviews[i].Stale = pr.Reviews[i].Stale || pr.Reviews[i].Head != pr.Head
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return pr, nil
}

// Protection returns how the branch is protected now.
func (c *Client) Protection(ctx context.Context, branch string) (Protection, error) {
	var p Protection
	err := c.do("read protection of "+branch, func(b backend, call *call) (err error) {
		p, err = b.protection(ctx, branch)
		p.Digest = call.sum()
		return err
	})
	if err != nil {
		return Protection{}, err
	}
	return p, nil
}
