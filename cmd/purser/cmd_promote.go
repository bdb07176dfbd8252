package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/declaration"
	"github.com/purser-gitops/purser/sources/edit"
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
			p.told = cmd.ErrOrStderr()
			if err := p.check(); err != nil {
				return err
			}
			done, err := p.promote(cmd.Context(), args[0], args[1], ref, skip)
			if done == nil {
				return err
			}
			return errors.Join(err, p.out.write(cmd.OutOrStdout(), done, func(w io.Writer) error { return done.print(w, p.remote) }))
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

type versions struct {
	Old string `json:"old,omitempty"`
	New string `json:"new,omitempty"`
}

type imageChange struct {
	Container string `json:"container"` // role/container
	Old       string `json:"old"`
	New       string `json:"new"`
}

// promote returns what it did as well when it failed after the commit.
func (p *proposer) promote(ctx context.Context, from, to, ref string, skip bool) (*promotion, error) {
	s, err := p.open(ctx, to)
	if err != nil {
		return nil, err
	}
	origin, err := s.snapshot.environment(from)
	if err != nil {
		return nil, err
	}
	done := &promotion{From: from, To: to, proposed: proposed{Onto: s.branch + "@sha1:" + s.head}}
	if stage := s.env.Spec.Promotion.From; stage != "" && stage != from {
		if !skip {
			return nil, &sources.HintError{Err: fmt.Errorf("environment %q is promoted from %q, not from %q", to, stage, from),
				Hint: fmt.Sprintf("promote to %q first; with --skip-stage the commit is made, and the promotion gate denies it until these images were live in %q", stage, stage)}
		}
		done.Warnings = append(done.Warnings, fmt.Sprintf("it skips %s: the promotion gate denies it until the same images were live and healthy there", stage))
	}
	if origin.Spec.Source.Path == s.env.Spec.Source.Path {
		return nil, fmt.Errorf("%q and %q are the same folder %s: there is nothing to carry over", from, to, s.env.Spec.Source.Path)
	}
	source, release, err := p.source(ctx, s, origin, ref)
	if err != nil {
		return nil, err
	}
	old, err := s.snapshot.build(ctx, s.env)
	if err != nil {
		return nil, err
	}
	done.compare(old, release)
	done.Branch = cmp.Or(p.branch, branchFor("promote", to, done.Version.New, release.Digest))
	tree, err := s.carry(ctx, done, origin, source, release, old)
	if err != nil {
		return nil, err
	}
	if tree == "" {
		return done, nil
	}
	err = p.propose(ctx, s, tree, done.text(), &done.proposed)
	if done.Commit == "" {
		return nil, err
	}
	return done, err
}

// source is the release to promote and the files it came from.
func (p *proposer) source(ctx context.Context, s *site, origin *declaration.Environment, ref string) (*snapshot, *render.Release, error) {
	var live []string
	if ref == "" {
		known, err := p.ask(ctx, origin.Meta.Name)
		if err != nil {
			return nil, nil, &sources.HintError{Err: err, Hint: "say with --ref which commit to promote, without the agent"}
		}
		if known.Live == nil {
			return nil, nil, fmt.Errorf("nothing is live in %q", origin.Meta.Name)
		}
		live = known.Live.Images
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

func versionOf(r *render.Release) string {
	if r.Declaration == nil {
		return ""
	}
	return r.Declaration.Version
}

// carry makes the tree that brings the release to its new environment, and proves it. "" is no change.
func (s *site) carry(ctx context.Context, done *promotion, origin *declaration.Environment, source *snapshot, release, old *render.Release) (string, error) {
	edits, err := s.imageEdits(ctx, release, old)
	if err != nil {
		return "", err
	}
	about, err := s.releaseEdits(origin, source, release)
	if err != nil {
		return "", err
	}
	edits = append(edits, about...)
	var paths []string
	for _, e := range edits {
		paths = append(paths, e.path)
	}
	if err := s.clean(ctx, append(paths, s.env.Spec.Source.Path)); err != nil {
		return "", err
	}
	tree, err := s.write(ctx, s.head, edits)
	if err != nil || tree == s.snapshot.tree.ID() {
		return "", err
	}
	files, err := s.probe(ctx, tree)
	if err != nil {
		return "", err
	}
	after := s.snapshot.with(files)
	result, err := after.build(ctx, s.env)
	if err != nil {
		return "", fmt.Errorf("the new commit does not render, nothing was committed: %w", err)
	}
	if !maps.Equal(result.Images, release.Images) {
		return "", &sources.HintError{Err: fmt.Errorf("the new commit has other images than %q, nothing was committed: %s", origin.Meta.Name, unlike(release.Images, result.Images)),
			Hint: "something besides images: decides: a replacement, a patch of a component"}
	}
	done.Also = s.disturbed(ctx, after)
	return tree, nil
}

// unlike lists the containers whose images differ.
func unlike(want, got map[string]string) string {
	var list []string
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if got[key] != want[key] {
			list = append(list, fmt.Sprintf("%s is %s, not %s", key, cmp.Or(got[key], "absent"), want[key]))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[key]; !ok {
			list = append(list, fmt.Sprintf("%s is %s, not absent", key, got[key]))
		}
	}
	return strings.Join(list, "; ")
}

// imageEdits sets images: of the environment's kustomization. Which names it has to be told is seen by rendering without.
func (s *site) imageEdits(ctx context.Context, release, old *render.Release) ([]fileEdit, error) {
	file, text, err := kustomization(s.snapshot.tree, s.env.Spec.Source.Path)
	if err != nil {
		return nil, err
	}
	cleared, err := edit.ClearImages(text)
	if err != nil {
		return nil, fmt.Errorf("edit %s: %w", file, err)
	}
	tree, err := s.write(ctx, s.head, []fileEdit{{path: file, mode: "100644", data: cleared}})
	if err != nil {
		return nil, err
	}
	files, err := s.probe(ctx, tree)
	if err != nil {
		return nil, err
	}
	plain, err := s.snapshot.with(files).build(ctx, s.env)
	if err != nil {
		return nil, err
	}
	images, err := imagesFor(plain.Images, old.Images, release.Images)
	if err != nil {
		return nil, err
	}
	text, err = edit.SetImages(text, images)
	if err != nil {
		return nil, fmt.Errorf("edit %s: %w", file, err)
	}
	return []fileEdit{{path: file, mode: "100644", data: text}}, nil
}

// kustomization finds the kustomization of a folder by the names that Kustomize knows.
func kustomization(tree *sources.Tree, dir string) (file string, text []byte, err error) {
	for _, name := range []string{"kustomization.yaml", "kustomization.yml", "Kustomization"} {
		entry, err := tree.Lookup(path.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", nil, err
		}
		text, err := tree.ReadFile(entry.Path)
		return entry.Path, text, err
	}
	return "", nil, fmt.Errorf("%s has no kustomization.yaml", dir)
}

// imagesFor works out the entries that turn the images of a render without images: into those that are wanted. What the
// environment has already needs no entry.
func imagesFor(plain, old, want map[string]string) ([]edit.Image, error) {
	if err := sameContainers(plain, want); err != nil {
		return nil, err
	}
	type decision struct{ container, image string }
	by := map[string]decision{} // name in the manifests → image
	changed := map[string]bool{}
	for _, key := range slices.Sorted(maps.Keys(plain)) {
		container := container(key)
		image, ok := want[key]
		if !ok {
			image, ok = want[container]
		}
		if !ok {
			return nil, fmt.Errorf("%s has images that differ between its objects in one environment and not in the other", container)
		}
		name, _, _ := edit.Reference(plain[key])
		if first, taken := by[name]; taken && first.image != image {
			return nil, &sources.HintError{Err: fmt.Errorf("%s and %s have the image %s without images:, and must get %s and %s: one entry cannot say both", first.container, container, name, first.image, image),
				Hint: "give them images of different names in the base"}
		}
		by[name] = decision{container, image}
		if has, ok := old[key]; !ok || has != image {
			changed[name] = true
		}
	}
	var images []edit.Image
	for _, name := range slices.Sorted(maps.Keys(changed)) {
		entry := edit.Image{Name: name}
		entry.NewName, entry.NewTag, entry.Digest = edit.Reference(by[name].image)
		if entry.NewName == name {
			entry.NewName = ""
		}
		images = append(images, entry)
	}
	return images, nil
}

// container is the role/container of a key of an image set, see [render.Release].
func container(key string) string {
	name, _, _ := strings.Cut(key, "#")
	return name
}

// sameContainers refuses what images: cannot change: which containers there are.
func sameContainers(has, want map[string]string) error {
	lacking := func(a, b map[string]string) []string {
		there := map[string]bool{}
		for key := range b {
			there[container(key)] = true
		}
		var list []string
		for key := range a {
			if name := container(key); !there[name] && !slices.Contains(list, name) {
				list = append(list, name)
			}
		}
		slices.Sort(list)
		return list
	}
	var problems []string
	if list := lacking(has, want); len(list) > 0 {
		problems = append(problems, "it has "+strings.Join(list, ", ")+", and where it comes from has not")
	}
	if list := lacking(want, has); len(list) > 0 {
		problems = append(problems, "it lacks "+strings.Join(list, ", "))
	}
	if len(problems) == 0 {
		return nil
	}
	return &sources.HintError{Err: fmt.Errorf("the containers (role/container) are not the same: %s", strings.Join(problems, "; ")),
		Hint: "images: can only change images: bring the manifests over first; the promotion gate compares whole image sets"}
}

// releaseEdits bring release.yaml and the attestations it names.
func (s *site) releaseEdits(origin *declaration.Environment, source *snapshot, release *render.Release) ([]fileEdit, error) {
	from, to := origin.Spec.Source.Path, s.env.Spec.Source.Path
	file := path.Join(to, declaration.ReleaseFile)
	has, err := s.snapshot.tree.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		has, err = nil, nil
	}
	if err != nil {
		return nil, err
	}
	if release.Declaration == nil {
		if has == nil {
			return nil, nil
		}
		return nil, fmt.Errorf("%q has no release.yaml, and %s would describe another release: write one in %q", origin.Meta.Name, file, origin.Meta.Name)
	}
	text, err := source.tree.ReadFile(path.Join(from, declaration.ReleaseFile))
	if err != nil {
		return nil, err
	}
	if text, err = edit.CopyRelease(has, text); err != nil {
		return nil, fmt.Errorf("edit %s: %w", file, err)
	}
	edits := []fileEdit{{path: file, mode: "100644", data: text}}
	for _, name := range release.Declaration.Attestations {
		data, err := source.tree.ReadFile(path.Join(from, name))
		if err != nil {
			return nil, err
		}
		edits = append(edits, fileEdit{path: path.Join(to, name), mode: "100644", data: data})
	}
	return edits, nil
}

// text is the message of the commit.
func (d *promotion) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Promote %sfrom %s to %s\n\n", spaced(d.Version.New), d.From, d.To)
	if d.Downgrade {
		fmt.Fprintf(&b, "This is a downgrade: %s has %s.\n\n", d.To, d.Version.Old)
	}
	for _, i := range d.Images {
		fmt.Fprintf(&b, "%s: %s -> %s\n", i.Container, cmp.Or(i.Old, "absent"), i.New)
	}
	fmt.Fprintf(&b, "\nRelease %s of %s.\n", d.Release, d.From)
	return b.String()
}

// spaced is a word and a space, if there is a word.
func spaced(word string) string {
	if word == "" {
		return ""
	}
	return plain(word) + " "
}

func (d *promotion) print(w io.Writer, remote string) error {
	fmt.Fprintf(w, "%s → %s\t%s → %s\n", d.From, d.To, plain(cmp.Or(d.Version.Old, "-")), plain(cmp.Or(d.Version.New, "-")))
	printImages(w, d.Images)
	d.proposed.print(w, remote)
	return nil
}

// newer reports that version a is newer than b, as far as people's versions can be compared: numbers by their value, and
// 1.0-rc1 before 1.0. Words have an order only in what comes before a release.
func newer(a, b string) bool {
	x, y := parts(a), parts(b)
	for i := range min(len(x), len(y)) {
		n, failed := strconv.ParseUint(x[i], 10, 64)
		m, failing := strconv.ParseUint(y[i], 10, 64)
		switch {
		case x[i] == y[i]:
		case x[i] == before || y[i] == before:
			return y[i] == before // 1.0.1 and 1.0-rc1
		case failed == nil && failing == nil:
			if n != m {
				return n > m
			}
		default:
			return failed != nil && failing != nil && slices.Contains(x[:i], before) && x[i] > y[i]
		}
	}
	if len(x) < len(y) {
		return len(x) > 0 && y[len(x)] == before
	}
	return len(x) > len(y) && len(y) > 0 && x[len(y)] != before
}

// before stands in a version's parts for the mark of what comes before a release.
const before = "-"

// parts splits a version into numbers, words and [before].
func parts(version string) []string {
	version = strings.TrimPrefix(version, "v")
	version, _, _ = strings.Cut(version, "+") // build metadata
	var list []string
	kind := 0
	for _, r := range version {
		is := 1
		switch {
		case unicode.IsDigit(r):
			is = 2
		case r == '-' || r == '~':
			list, kind = append(list, before), 0
			continue
		case !unicode.IsLetter(r):
			kind = 0
			continue
		}
		if is != kind {
			list = append(list, "")
		}
		list[len(list)-1] += string(r)
		kind = is
	}
	return list
}
