package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/declaration"
	"github.com/purser-gitops/purser/sources/forge"
)

// proposer makes the commits that promote and rollback propose.
type proposer struct {
	estate  estate
	out     output
	agent   address
	remote  string
	onto    string
	branch  string
	message string
	push    bool
	shared  bool

	declarations string // folder of the clone that has them; "" is the same
	forge        forge.Options
	kind         string // of the forge; "" is none

	told io.Writer // progress
}

func (p *proposer) flags(cmd *cobra.Command) {
	p.estate.flags(cmd)
	p.out.flag(cmd)
	p.agent.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&p.declarations, "declarations", "", "clone of the governance repository, where that is another one (needs --source)")
	f.StringVar(&p.remote, "remote", "origin", "the clone's remote")
	f.StringVar(&p.onto, "onto", "", "branch of environments that name none (default: the remote's default branch, else the one checked out)")
	f.StringVar(&p.branch, "branch", "", "name of the new branch")
	f.StringVarP(&p.message, "message", "m", "", "message of the commit")
	f.BoolVar(&p.push, "push", false, "fetch first, and push the new branch")
	f.BoolVar(&p.shared, "shared", false, "change other environments too, where they share files")
	f.StringVar(&p.kind, "forge", "", "open a pull request on this forge: gitea, github or gitlab (needs --push)")
	f.StringVar(&p.forge.URL, "forge-url", "", "its address (default: from the remote's)")
	f.StringVar(&p.forge.Project, "forge-project", "", "owner/name of the repository there (default: from the remote's)")
	f.StringVar(&p.forge.TokenFile, "forge-token-file", "", "file with your access token")
	f.StringVar(&p.forge.CAFile, "forge-ca-file", "", "file with certificates of authorities to trust beside the system's")
	_ = cmd.RegisterFlagCompletionFunc("forge", cobra.FixedCompletions([]string{"gitea", "github", "gitlab"}, cobra.ShellCompDirectiveNoFileComp))
}

// check refuses a command line before anything is done.
func (p *proposer) check() error {
	switch {
	case p.declarations != "" && p.estate.source == "":
		return exit{usageExit, errors.New("--declarations needs --source: the name that declarations give to the repository of --repo")}
	case p.kind != "" && !p.push:
		return exit{usageExit, errors.New("--forge needs --push")}
	case p.kind != "" && p.forge.TokenFile == "":
		return exit{usageExit, errors.New("--forge needs --forge-token-file")}
	}
	return nil
}

// proposal is a commit that a command works out.
type proposal interface {
	text() string    // its message
	print(io.Writer) // what it changes
	done() *proposed
}

// run makes the commit that work gives the tree of, "" where there is nothing to change, and shows it; also when something
// failed after the commit.
func (p *proposer) run(cmd *cobra.Command, env string, q question, work func(context.Context, *site, pointers) (what proposal, tree string, err error)) error {
	p.told = cmd.ErrOrStderr()
	if err := p.check(); err != nil {
		return err
	}
	known, err := p.ask(cmd.Context(), q)
	if err != nil {
		return err
	}
	s, err := p.open(cmd.Context(), env)
	if err != nil {
		return err
	}
	what, tree, err := work(cmd.Context(), s, known)
	if err != nil {
		return err
	}
	if tree != "" {
		if err = p.propose(cmd.Context(), s, tree, what.text(), what.done()); what.done().Commit == "" {
			return err
		}
	}
	return errors.Join(err, p.out.write(cmd.OutOrStdout(), what, func(w io.Writer) error {
		what.print(w)
		what.done().conclude(w, p.remote)
		return nil
	}))
}

// site is where an environment's next commit goes.
type site struct {
	*gitClone
	trunk    string // branch of environments that name none
	branch   string // that the environment follows
	head     string // its newest commit
	snapshot *snapshot
	env      *declaration.Environment
}

// open finds the newest commit of the branch that an environment follows.
func (p *proposer) open(ctx context.Context, name string) (*site, error) {
	c, err := openClone(ctx, p.estate.repo)
	if err != nil {
		return nil, err
	}
	s := &site{gitClone: c, trunk: p.onto}
	if s.trunk == "" {
		if s.trunk, err = c.trunk(ctx, p.remote); err != nil {
			return nil, err
		}
	}
	if p.push {
		if _, err := c.git(ctx, gitCall{timeout: pushTimeout, told: p.told}, "fetch", "--quiet", p.remote); err != nil {
			return nil, err
		}
	}
	if s.head, err = c.head(ctx, p.remote, s.trunk); err != nil {
		return nil, err
	}
	p.estate.repo = c.dir
	if s.snapshot, err = p.declared(ctx, s.head); err != nil {
		return nil, err
	}
	if s.env, err = s.snapshot.environment(name); err != nil {
		return nil, err
	}
	if s.branch = s.follows(s.env); s.branch == s.trunk {
		return s, nil
	}
	if s.head, err = c.head(ctx, p.remote, s.branch); err != nil {
		return nil, err
	}
	tree, err := p.estate.tree(s.head)
	s.snapshot = s.snapshot.with(tree)
	return s, err
}

// declared reads the files of a commit, and the declarations: from it, or from a clone of their own.
func (p *proposer) declared(ctx context.Context, head string) (*snapshot, error) {
	if p.declarations == "" {
		return p.estate.at(head)
	}
	c, err := openClone(ctx, p.declarations)
	if err != nil {
		return nil, err
	}
	branch, err := c.trunk(ctx, p.remote)
	if err != nil {
		return nil, err
	}
	commit, err := c.head(ctx, p.remote, branch)
	if err != nil {
		return nil, err
	}
	other := estate{repo: c.dir, path: p.estate.path, cluster: p.estate.cluster}
	snapshot, err := other.at(commit)
	if err != nil {
		return nil, err
	}
	snapshot.source = p.estate.source
	tree, err := p.estate.tree(head)
	return snapshot.with(tree), err
}

func (s *site) follows(env *declaration.Environment) string {
	if env.Spec.Source.Branch != "" {
		return env.Spec.Source.Branch
	}
	return s.trunk
}

// with is the same declarations over other files.
func (s *snapshot) with(tree *sources.Tree) *snapshot {
	other := *s
	other.tree = tree
	return &other
}

// question is what the agent is asked before the clone is read: its answer says which cluster is meant where declarations
// name none.
type question struct {
	env  string // "": it is not asked
	hint string // if it does not answer
}

// pointers is what the agent knows of an environment's releases.
type pointers struct {
	Cluster                  string
	Approved, Live, Previous *reconciler.Pointer
}

// ask asks the agent.
func (p *proposer) ask(ctx context.Context, q question) (known pointers, err error) {
	if q.env == "" {
		return known, nil
	}
	if err := p.agent.ask(ctx, "environments/"+url.PathEscape(q.env), &known); err != nil {
		return known, &sources.HintError{Err: err, Hint: q.hint}
	}
	p.estate.on(known.Cluster)
	return known, nil
}

// commitOf is the commit of a release, which must be of this repository.
func (p *proposer) commitOf(release *reconciler.Pointer) (string, error) {
	if p.estate.source != "" && release.Revision.Source != p.estate.source {
		return "", fmt.Errorf("release %s is of the repository %q, this is %q", release.Release, release.Revision.Source, p.estate.source)
	}
	revision, err := sources.ParseRevision(release.Revision.Revision)
	return revision.Commit, err
}

// files reads a commit that somebody else may have named, so that the clone may lack it.
func (p *proposer) files(ref string) (tree *sources.Tree, commit string, err error) {
	tree, revision, err := sources.LocalTree(p.estate.repo, ref, sources.Limits{})
	if err != nil {
		return nil, "", fmt.Errorf("%w; or fetch it: git fetch, or --push", err)
	}
	return tree, revision.Commit, nil
}

// disturbed lists the other environments that a change of files changes.
func (s *site) disturbed(ctx context.Context, after *snapshot) []string {
	var list []string
	for _, name := range after.names() {
		env := after.set.Environments[name]
		if env == s.env || env.Spec.Source.Repository != s.snapshot.source || s.follows(env) != s.branch {
			continue
		}
		was, failed := s.snapshot.build(ctx, env)
		if failed == nil && was.StillCurrent(after.tree, env.Spec.Source.Path) {
			continue
		}
		is, err := after.build(ctx, env)
		same := failed == nil && err == nil && was.Digest == is.Digest || failed != nil && err != nil && failed.Error() == err.Error()
		if !same {
			list = append(list, name)
		}
	}
	return list
}

// proposed is what a command did.
type proposed struct {
	Also        []string               `json:"also,omitempty"` // other environments that it changes
	Warnings    []string               `json:"warnings,omitempty"`
	Branch      string                 `json:"branch,omitempty"`
	Commit      string                 `json:"commit,omitempty"` // "": there was nothing to do
	Onto        string                 `json:"onto"`             // branch and commit that it is based on
	Pushed      bool                   `json:"pushed"`
	PullRequest *forge.OpenPullRequest `json:"pullRequest,omitempty"`
}

func (d *proposed) done() *proposed { return d }

// proposed is of nothing yet.
func (s *site) proposed() proposed {
	p := proposed{Onto: s.branch + "@sha1:" + s.head}
	if why := unplaced(s.env); why != "" {
		p.Warnings = append(p.Warnings, why)
	}
	return p
}

// prove makes the tree of the newest commit with the edits, and renders the environment from it. tree is "" where they
// change nothing.
func (s *site) prove(ctx context.Context, edits []fileEdit, done *proposed) (tree string, result *render.Release, err error) {
	paths := []string{s.env.Spec.Source.Path}
	for _, e := range edits {
		paths = append(paths, e.path)
	}
	if err := s.clean(ctx, paths); err != nil {
		return "", nil, err
	}
	tree, err = s.write(ctx, s.head, edits)
	if err != nil || tree == s.snapshot.tree.ID() {
		return "", nil, err
	}
	files, err := s.probe(ctx, tree)
	if err != nil {
		return "", nil, err
	}
	after := s.snapshot.with(files)
	if result, err = after.build(ctx, s.env); err != nil {
		return "", nil, fmt.Errorf("the new commit does not render, nothing was committed: %w", err)
	}
	done.Also = s.disturbed(ctx, after)
	return tree, result, nil
}

// propose commits a verified tree, and takes it to where people review.
func (p *proposer) propose(ctx context.Context, s *site, tree, message string, done *proposed) error {
	if len(done.Also) > 0 && !p.shared {
		return &sources.HintError{Err: fmt.Errorf("it would change %s too: nothing was committed", strings.Join(done.Also, ", ")),
			Hint: "give --shared if that is meant"}
	}
	if err := s.free(ctx, done.Branch); err != nil {
		return err
	}
	if p.message != "" {
		message = p.message
	}
	var err error
	if done.Commit, err = s.commit(ctx, s.head, tree, done.Branch, strings.TrimSpace(message)+"\n"); err != nil {
		return err
	}
	if !p.push {
		return nil
	}
	ref := "refs/heads/" + done.Branch
	if _, err := s.git(ctx, gitCall{timeout: pushTimeout, told: p.told}, "push", p.remote, ref+":"+ref); err != nil {
		return fmt.Errorf("branch %s is committed and not pushed: %w", done.Branch, err)
	}
	done.Pushed = true
	if p.kind == "" {
		return nil
	}
	title, body, _ := strings.Cut(strings.TrimSpace(message), "\n")
	if done.PullRequest, err = p.pullRequest(ctx, s, done.Branch, title, strings.TrimSpace(body)); err != nil {
		return fmt.Errorf("branch %s is pushed and has no pull request: %w", done.Branch, err)
	}
	return nil
}

func (p *proposer) pullRequest(ctx context.Context, s *site, branch, title, body string) (*forge.OpenPullRequest, error) {
	o := p.forge
	o.Type = forge.Type(p.kind)
	if o.URL == "" || o.Project == "" {
		address, err := s.git(ctx, gitCall{}, "remote", "get-url", "--push", p.remote)
		if err != nil {
			return nil, err
		}
		site, project := forgeOf(address)
		if o.URL == "" {
			o.URL = site
		}
		if o.Project == "" {
			o.Project = project
		}
	}
	client, err := forge.New(o)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	request, err := client.OpenPullRequest(ctx, branch, s.branch, title, body)
	return &request, err
}

var scpAddress = regexp.MustCompile(`^(?:[^@/]+@)?([^:/]+):([^/].*)$`)

// forgeOf reads the forge's address and the project out of a remote's: that of SSH has the same host.
func forgeOf(remote string) (address, project string) {
	if m := scpAddress.FindStringSubmatch(remote); m != nil {
		remote = "ssh://" + m[1] + "/" + m[2]
	}
	u, err := url.Parse(remote)
	if err != nil || u.Host == "" {
		return "", ""
	}
	project = strings.TrimSuffix(strings.Trim(u.Path, "/"), ".git")
	if u.Scheme == "http" || u.Scheme == "https" {
		return u.Scheme + "://" + u.Host, project
	}
	return "https://" + u.Hostname(), project
}

// conclude tells what was done and what is left to do.
func (d *proposed) conclude(w io.Writer, remote string) {
	for _, warning := range d.Warnings {
		fmt.Fprintf(w, "! %s\n", plain(warning))
	}
	for _, name := range d.Also {
		fmt.Fprintf(w, "! it changes %s too\n", name)
	}
	switch {
	case d.Commit == "":
		fmt.Fprintln(w, "nothing to change")
	case d.PullRequest != nil:
		fmt.Fprintf(w, "commit %s on branch %s, pull request %d: %s\n", d.Commit[:12], d.Branch, d.PullRequest.Number, plain(d.PullRequest.URL))
	case d.Pushed:
		fmt.Fprintf(w, "commit %s on branch %s, pushed\n", d.Commit[:12], d.Branch)
	default:
		fmt.Fprintf(w, "commit %s on branch %s; to propose it: git push %s %s\n", d.Commit[:12], d.Branch, remote, d.Branch)
	}
}

var notInBranch = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

// branchFor names a branch after what it brings.
func branchFor(verb, env, version, release string) string {
	_, hex, _ := strings.Cut(release, ":")
	version = strings.Trim(strings.ReplaceAll(notInBranch.ReplaceAllString(version, "-"), "..", "."), ".-")
	if version != "" {
		version += "-"
	}
	return verb + "/" + env + "/" + version + hex[:min(8, len(hex))]
}
