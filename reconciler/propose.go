package reconciler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/landed"
	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/declaration"
)

// propose renders the head of the environment's branch and records a release that was not proposed yet. A
// commit that touches nothing the last render read costs a look at the tree. What does not render is
// refused; the last good proposal stays.
func (a *Agent) propose(ctx context.Context, env *declaration.Environment) Outcome {
	src := a.sources[env.Spec.Source.Repository]
	if src == nil {
		return Outcome{Kind: Stalled, Reason: fmt.Sprintf("its source %q is not in the agent's configuration", env.Spec.Source.Repository)}
	}
	head, ok := src.repo.Head(env.Spec.Source.Branch)
	if !ok {
		return Outcome{Kind: Waiting, Reason: fmt.Sprintf("branch %q of source %q was not fetched yet", env.Spec.Source.Branch, src.name)}
	}
	name := env.Meta.Name
	state := a.journal.environment(name)
	digest, err := a.renderHead(ctx, env, src, head, state)
	if err != nil {
		if passing(err) {
			return Outcome{Kind: Failed, Reason: err.Error()}
		}
		revision := evidence.Revision{Source: src.name, Revision: head.String()}
		a.refuse(name, state.Refused, evidence.Refused{Revision: revision, Stage: evidence.StageRender, Errors: messages(err)})
		return Outcome{Kind: Stalled, Reason: "refused: " + firstLine(err), Hint: "push a commit that renders"}
	}
	if state.Proposed.is(digest) && state.Refused == nil {
		return Outcome{}
	}
	release, err := a.release(ctx, env, Pointer{Release: digest, Revision: evidence.Revision{Source: src.name, Revision: head.String()}})
	if err != nil {
		return Outcome{Kind: Failed, Reason: err.Error()}
	}
	a.at("rendered")
	if err := a.recordChange(ctx, env, state, release, head); err != nil {
		return Outcome{Kind: Failed, Reason: err.Error()}
	}
	a.at("proposed")
	return Outcome{}
}

// passing tells an error of this machine and moment from one of the commit: nobody is to be blamed for it.
func passing(err error) bool {
	for _, cause := range []error{context.Canceled, context.DeadlineExceeded, sources.ErrDamaged, sources.ErrNoCommit} {
		if errors.Is(err, cause) {
			return true
		}
	}
	return false
}

// renderHead gives the digest of an environment's release at the head of its branch. It renders only when something
// changed that the last render read; after a restart the last render is that of the approved release.
func (a *Agent) renderHead(ctx context.Context, env *declaration.Environment, src *source, head sources.Revision, state EnvironmentState) (string, error) {
	tree, err := src.repo.Tree(head.Commit)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", head, err)
	}
	binding, err := bindingOf(env)
	if err != nil {
		return "", err
	}
	seen := a.observation(env.Meta.Name).rendered
	if seen == nil && state.Approved != nil {
		if release, err := a.kept(env.Meta.Name, state.Approved.Release); err == nil {
			seen = outline(release)
		}
	}
	if seen != nil && seen.StillCurrent(tree, env.Spec.Source.Path) && sameBinding(seen.Binding, binding) {
		a.note(env.Meta.Name, func(o *observation) { o.rendered = seen })
		return seen.Digest, nil
	}
	release, err := a.build(ctx, tree, env)
	if err != nil {
		return "", err
	}
	a.releases.add(release)
	a.note(env.Meta.Name, func(o *observation) { o.rendered = outline(release) })
	return release.Digest, nil
}

// outline is a release without what it consists of: enough to tell whether it is still current.
func outline(r *render.Release) *render.Release {
	return &render.Release{Digest: r.Digest, Binding: r.Binding, Renderer: r.Renderer, Inputs: r.Inputs, Directory: r.Directory}
}

// renderCommit makes the release of an environment at a commit.
func (a *Agent) renderCommit(ctx context.Context, env *declaration.Environment, src *source, at sources.Revision) (*render.Release, error) {
	tree, err := src.repo.Tree(at.Commit)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", at, err)
	}
	return a.build(ctx, tree, env)
}

// build is Build when it is the tenant's turn.
func (a *Agent) build(ctx context.Context, tree *sources.Tree, env *declaration.Environment) (*render.Release, error) {
	if err := a.renders.take(ctx, tenantOf(env)); err != nil {
		return nil, err
	}
	defer a.renders.give()
	return Build(ctx, a.renderer, a.decrypt, tree, env)
}

// Build makes the release of an environment from a tree: rendered manifests, checked encryption, release.yaml.
// It needs no cluster and no agent.
func Build(ctx context.Context, renderer *render.Renderer, decrypt *render.Decrypter, tree *sources.Tree, env *declaration.Environment) (*render.Release, error) {
	dir := env.Spec.Source.Path
	binding, err := bindingOf(env)
	if err != nil {
		return nil, err
	}
	result, err := renderer.Render(ctx, tree, dir)
	if err != nil {
		return nil, err
	}
	about, err := declaration.ParseRelease(tree, dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := decrypt.VerifySource(tree, result.Inputs); err != nil {
		return nil, err
	}
	traced := *result
	traced.Inputs = append(slices.Clone(result.Inputs), releaseInput(tree, dir))
	return render.NewRelease(&traced, about, binding)
}

// releaseInput traces release.yaml, present or absent.
func releaseInput(tree *sources.Tree, dir string) render.Input {
	file := path.Join(dir, declaration.ReleaseFile)
	entry, err := tree.Lookup(file)
	if err != nil {
		return render.Input{Path: file}
	}
	return render.Input{Path: file, Hash: entry.Hash}
}

// bindingOf is what of its declaration makes an environment's release: where it goes and how it is judged.
func bindingOf(env *declaration.Environment) (render.Binding, error) {
	health, err := json.Marshal(env.Spec.Health)
	if err != nil {
		return render.Binding{}, fmt.Errorf("encode health of %q: %w", env.Meta.Name, err)
	}
	return render.Binding{Environment: env.Meta.Name, Cluster: env.Spec.Cluster, Namespace: env.Spec.Namespace, Health: health}, nil
}

func sameBinding(a, b render.Binding) bool {
	return a.Environment == b.Environment && a.Cluster == b.Cluster && a.Namespace == b.Namespace &&
		string(a.Health) == string(b.Health)
}

// recordChange writes down a newly proposed release, with its difference from the approved one.
func (a *Agent) recordChange(ctx context.Context, env *declaration.Environment, state EnvironmentState, release *render.Release, at sources.Revision) error {
	approved, err := a.approvedRelease(ctx, env, state)
	if err != nil {
		return err
	}
	diff := render.Diff(approved, release)
	change := evidence.Change{
		To:       release.Digest,
		Revision: evidence.Revision{Source: env.Spec.Source.Repository, Revision: at.String()},
		Origin:   originOf(state, approved, release),
		Images:   policy.ImageList(release.Images),
		Diff:     map[string]int{},
		Renderer: release.Renderer,
	}
	if state.Approved != nil {
		change.From = state.Approved.Release
		if change.Landed, err = a.listLanded(env, state, approved, release, at); err != nil {
			return fmt.Errorf("list landed changes: %w", err)
		}
	}
	for _, c := range diff {
		change.Diff[c.Action]++
	}
	if d := release.Declaration; d != nil {
		change.Version, change.Ticket, change.Reason = d.Version, d.Change.Ticket, d.Change.Reason
	}
	text, err := json.Marshal(render.Told(diff))
	if err != nil {
		return fmt.Errorf("encode release diff: %w", err)
	}
	draft := ofRelease(evidence.TypeChange, env.Meta.Name, release.Digest, change)
	draft.Blobs = []evidence.Blob{{Name: "diff", Data: text}}
	if _, err := a.journal.record(draft); err != nil {
		return err
	}
	a.logger.Info("release proposed", "environment", env.Meta.Name, "release", release.Digest, "revision", at.String(), "origin", change.Origin, "diff", change.Diff)
	return nil
}

// originOf says why there is a new release.
func originOf(state EnvironmentState, approved, release *render.Release) policy.Origin {
	switch {
	case state.Approved == nil || approved == nil:
		return policy.OriginFirst
	case restores(state, release.Digest):
		return policy.OriginRollback
	case slices.Equal(approved.Inputs, release.Inputs) && approved.Renderer != release.Renderer:
		return policy.OriginRenderer
	case slices.Equal(approved.Inputs, release.Inputs) && !sameBinding(approved.Binding, release.Binding):
		return policy.OriginGovernance
	}
	return policy.OriginGit
}

// restores reports whether a release is the way back: to what is live while another one is approved, or to what
// was live before. What a rollback left is none: to go there again is a way forward, which every gate judges.
func restores(state EnvironmentState, release string) bool {
	if state.Approved.is(release) && state.Deployment.Release == release {
		return false // it is there already
	}
	return state.Live.isBack(release) || state.Previous.isBack(release)
}

// listLanded names the landed changes since the approved revision that alter what one of the releases reads, and those that
// earlier proposals listed. After a rewritten history there are none. It fails where the next attempt may know more.
func (a *Agent) listLanded(env *declaration.Environment, state EnvironmentState, approved, release *render.Release, to sources.Revision) ([]string, error) {
	from, err := sources.ParseRevision(state.Approved.Revision.Revision)
	src := a.sources[state.Approved.Revision.Source]
	if err != nil || src == nil || src.name != env.Spec.Source.Repository {
		return nil, nil
	}
	commits, err := src.landed.List(to.Branch, from.Commit, to.Commit, landed.ReadsOf(approved, release), state.Offers.Commits())
	if err != nil && (!passing(err) || errors.Is(err, sources.ErrNoCommit)) {
		a.logger.Warn("landed changes not listed", "environment", env.Meta.Name, "error", err)
		return nil, nil
	}
	return commits, err
}

// refuse records input that could not become a release, once for each new reason.
func (a *Agent) refuse(environment string, last *evidence.Refused, r evidence.Refused) {
	if last != nil && slices.Equal(last.Errors, r.Errors) {
		return
	}
	a.metrics.refused.Inc()
	for _, message := range r.Errors {
		a.logger.Error("refused", "environment", environment, "revision", r.Revision.Revision, "error", message)
	}
	if _, err := a.journal.record(evidence.Draft{Type: evidence.TypeRefused, Environment: environment, Predicate: r}); err != nil {
		a.logger.Error("refusal not recorded", "environment", environment, "error", err)
	}
}

// messages splits an error into one line per problem, bounded.
func messages(err error) []string {
	var problems declaration.Errors
	var list []string
	if errors.As(err, &problems) {
		for _, p := range problems {
			list = append(list, p.Error())
		}
	} else {
		list = strings.Split(err.Error(), "\n")
	}
	if len(list) > messagesMax {
		list = append(list[:messagesMax], fmt.Sprintf("and %d more", len(list)-messagesMax))
	}
	for i, m := range list {
		list[i] = shorten(m, messageBytes) // as a record stores it, so that it compares equal later
	}
	return list
}

// shorten cuts a text and makes it what a record can hold.
func shorten(text string, bytes int) string {
	if len(text) > bytes {
		text = text[:bytes] + "…"
	}
	return strings.ToValidUTF8(text, "�")
}

const (
	messagesMax  = 50
	messageBytes = 2048
)

func firstLine(err error) string { return messages(err)[0] }
