package reconciler

import (
	"errors"
	"path"
	"slices"
	"strings"

	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/attestation"
	"github.com/purser-gitops/purser/sources/declaration"
)

// attestations reads what the release says was attested about it, from the newest commit of its branch. What cannot be
// read does not count, and says why. Nothing records when one was first seen, so signatures must be valid now.
func (a *Agent) attestations(l *law, env *declaration.Environment, release *render.Release) []policy.Attestation {
	src := a.sources[env.Spec.Source.Repository]
	if src == nil || release.Declaration == nil || len(release.Declaration.Attestations) == 0 {
		return nil
	}
	head, ok := src.repo.Head(env.Spec.Source.Branch)
	if !ok {
		return a.attestationsIn(l, src.repo, nil, errors.New("its branch was not fetched yet"), env, release)
	}
	tree, err := src.repo.Tree(head.Commit)
	return a.attestationsIn(l, src.repo, tree, err, env, release)
}

// attestationsIn reads the attestations that a release names from a tree of a repository; problem is why there is no tree.
func (a *Agent) attestationsIn(l *law, repo *sources.Repository, tree *sources.Tree, problem error, env *declaration.Environment, release *render.Release) []policy.Attestation {
	if release.Declaration == nil {
		return nil
	}
	var list []policy.Attestation
	for _, name := range release.Declaration.Attestations {
		fact := policy.Attestation{Path: path.Join(env.Spec.Source.Path, name)}
		err := problem
		if err == nil {
			err = a.readAttestation(l, repo, tree, release, &fact)
		}
		if err != nil {
			fact.Problem = err.Error()
		}
		list = append(list, fact)
	}
	return list
}

func (a *Agent) readAttestation(l *law, repo *sources.Repository, tree *sources.Tree, release *render.Release, fact *policy.Attestation) error {
	data, err := tree.ReadFile(fact.Path)
	if err != nil {
		return err
	}
	read, err := attestation.Read(data, l.Keyring, a.now())
	if err != nil {
		return err
	}
	fact.PredicateType, fact.Subjects, fact.Signer, fact.Failed = read.PredicateType, read.Subjects, read.Signature.Person, read.Failed
	slices.Sort(fact.Subjects)
	if !read.Signature.Counts() {
		fact.Problem = read.Signature.String()
	}
	manifests := slices.DeleteFunc(slices.Clone(release.Inputs), func(in render.Input) bool { return path.Base(in.Path) == declaration.ReleaseFile })
	for _, subject := range read.Subjects {
		if about, ok := commitOf(subject); ok && sameManifests(repo, about, manifests) {
			fact.SameManifests = true
		}
	}
	return nil
}

// commitOf is the commit that a subject names.
func commitOf(subject string) (string, bool) {
	algorithm, value, _ := strings.Cut(subject, ":")
	return value, (algorithm == "gitCommit" || algorithm == "sha1") && len(value) == 40
}

// sameManifests reports whether a commit has everything that a release was made from.
func sameManifests(repo *sources.Repository, commit string, inputs render.Inputs) bool {
	tree, err := repo.Tree(commit)
	return err == nil && len(inputs) > 0 && inputs.Unchanged(tree)
}
