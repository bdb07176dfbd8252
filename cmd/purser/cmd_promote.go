package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/declaration"
)

const promoteHelp = `Propose for one environment what is live in another: a commit on a new branch that
gives TO's kustomization.yaml the images of FROM, and TO's release.yaml the version,
change, migration, modules and attestations. The rest of both files stays as it is, and
so do the working directory and the branch that is checked out.

  purser promote staging prod-eu            what the agent says is live in staging
  purser promote staging prod-eu --ref v2   what staging is at a commit, without the agent
  purser promote staging prod-eu --push --forge gitea --forge-token-file token

The new commit is rendered before it is made: its images must be those of FROM, and no
other environment may change. It is made by git, and signed if you configured that
(commit.gpgSign).

Exit codes: 0 done, or nothing to change; 1 refused or failed: nothing was committed,
unless the message says so; 2 the command line is wrong.`

func newPromoteCommand() *cobra.Command {
	var p proposer
	var ref string
	var skip bool
	cmd := &cobra.Command{
		Use:   "promote FROM TO",
		Short: "Propose for one environment what is live in another",
		Long:  promoteHelp,
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			q := question{hint: "say with --ref which commit to promote, without the agent"}
			if ref == "" {
				q.env = args[0]
			}
			return p.run(cmd, args[1], q, func(ctx context.Context, s *site, known pointers) (proposal, string, error) {
				return p.promote(ctx, s, known, args[0], args[1], ref, skip)
			})
		},
	}
	cmd.ValidArgsFunction = p.estate.complete(2)
	p.flags(cmd)
	cmd.Flags().StringVar(&ref, "ref", "", "take FROM as it is at this commit, instead of what is live")
	cmd.Flags().BoolVar(&skip, "skip-stage", false, "promote past the environment that TO is promoted from (its gate denies that all the same)")
	return cmd
}

// promotion is what promote did.
type promotion struct {
	From      string        `json:"from"`
	To        string        `json:"to"`
	Release   string        `json:"release"` // of FROM
	Version   versions      `json:"version"`
	Downgrade bool          `json:"downgrade"`
	Images    []imageChange `json:"images"`
	proposed
}

// promote works out the commit.
func (p *proposer) promote(ctx context.Context, s *site, known pointers, from, to, ref string, skip bool) (proposal, string, error) {
	origin, err := s.snapshot.environment(from)
	if err != nil {
		return nil, "", err
	}
	done := &promotion{From: from, To: to, proposed: s.proposed()}
	if stage := s.env.Spec.Promotion.From; stage != "" && stage != from {
		if !skip {
			return nil, "", &sources.HintError{Err: fmt.Errorf("environment %q is promoted from %q, not from %q", to, stage, from),
				Hint: fmt.Sprintf("promote to %q first; with --skip-stage the commit is made, and the promotion gate denies it until these images were live in %q", stage, stage)}
		}
		done.Warnings = append(done.Warnings, fmt.Sprintf("it skips %s: the promotion gate denies it until the same images were live and healthy there", stage))
	}
	if origin.Spec.Source.Path == s.env.Spec.Source.Path {
		return nil, "", fmt.Errorf("%q and %q are the same folder %s: there is nothing to carry over", from, to, s.env.Spec.Source.Path)
	}
	source, release, err := p.source(ctx, s, known, origin, ref)
	if err != nil {
		return nil, "", err
	}
	old, err := s.snapshot.build(ctx, s.env)
	if err != nil {
		return nil, "", err
	}
	done.compare(old, release)
	done.Branch = cmp.Or(p.branch, branchFor("promote", to, done.Version.New, release.Digest))
	tree, err := s.carry(ctx, done, origin, source, release, old)
	return done, tree, err
}

// source is the release to promote and the files it came from.
func (p *proposer) source(ctx context.Context, s *site, known pointers, origin *declaration.Environment, ref string) (*snapshot, *render.Release, error) {
	var live []string
	if ref == "" {
		if known.Live == nil {
			return nil, nil, fmt.Errorf("nothing is live in %q", origin.Meta.Name)
		}
		live = known.Live.Images
		var err error
		if ref, err = p.commitOf(known.Live); err != nil {
			return nil, nil, err
		}
	}
	tree, _, err := p.files(ref)
	if err != nil {
		return nil, nil, err
	}
	source := s.snapshot.with(tree)
	release, err := source.build(ctx, origin)
	if err != nil {
		return nil, nil, err
	}
	if images := policy.ImageList(release.Images); len(live) > 0 && !slices.Equal(images, live) {
		return nil, nil, &sources.HintError{Err: fmt.Errorf("the agent says that other images are live in %q than its commit renders: %s", origin.Meta.Name, strings.Join(live, ", ")),
			Hint: "is its folder another one since?"}
	}
	if len(release.Images) == 0 {
		return nil, nil, fmt.Errorf("environment %q has no images: nothing to promote", origin.Meta.Name)
	}
	return source, release, nil
}

// compare tells what would change.
func (d *promotion) compare(old, release *render.Release) {
	d.Release, d.Images = release.Digest, imageChanges(old.Images, release.Images)
	d.Version = versions{Old: versionOf(old), New: versionOf(release)}
	d.Downgrade = newer(d.Version.Old, d.Version.New)
	if d.Downgrade {
		d.Warnings = append(d.Warnings, fmt.Sprintf("DOWNGRADE: %s has %s, which is newer than %s", d.To, d.Version.Old, d.Version.New))
	}
	if d.Downgrade && old.Declaration.Migration == "breaking" {
		d.Warnings = append(d.Warnings, fmt.Sprintf("%s declares a breaking migration: what it did to the database stays", d.Version.Old))
	}
	if r := release.Declaration; r != nil && r.Class != "" && (old.Declaration == nil || old.Declaration.Class != r.Class) {
		d.Warnings = append(d.Warnings, fmt.Sprintf("release.yaml of %s says class %s, which is not carried over", d.From, r.Class))
	}
}

// text is the message of the commit.
func (d *promotion) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s from %s to %s\n\n", strings.TrimSpace("Promote "+plain(d.Version.New)), d.From, d.To)
	if d.Downgrade {
		fmt.Fprintf(&b, "This is a downgrade: %s has %s.\n\n", d.To, d.Version.Old)
	}
	for _, i := range d.Images {
		fmt.Fprintf(&b, "%s: %s -> %s\n", i.Container, cmp.Or(i.Old, "absent"), i.New)
	}
	fmt.Fprintf(&b, "\nRelease %s of %s.\n", d.Release, d.From)
	return b.String()
}

func (d *promotion) print(w io.Writer) {
	fmt.Fprintf(w, "%s → %s\t%s → %s\n", d.From, d.To, plain(cmp.Or(d.Version.Old, "-")), plain(cmp.Or(d.Version.New, "-")))
	printImages(w, d.Images)
}
