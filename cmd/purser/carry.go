package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/declaration"
	"github.com/purser-gitops/purser/sources/edit"
)

// carry works out what brings the release to its new environment, and proves it.
func (s *site) carry(ctx context.Context, done *promotion, origin *declaration.Environment, source *snapshot, release, old *render.Release) (tree string, err error) {
	edits, err := s.imageEdits(ctx, release, old)
	if err != nil {
		return "", err
	}
	about, err := s.releaseEdits(origin, source, release)
	if err != nil {
		return "", err
	}
	tree, result, err := s.prove(ctx, append(edits, about...), &done.proposed)
	if tree == "" || err != nil {
		return "", err
	}
	if !maps.Equal(result.Images, release.Images) {
		return "", &sources.HintError{Err: fmt.Errorf("the new commit has other images than %q, nothing was committed: %s", origin.Meta.Name, unlike(release.Images, result.Images)),
			Hint: "something besides images: decides: a replacement, a patch of a component"}
	}
	return tree, nil
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
