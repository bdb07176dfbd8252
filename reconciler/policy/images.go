package policy

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"
)

// pinned is an image reference that ends in a digest.
var pinned = regexp.MustCompile(`@sha256:[0-9a-f]{64}$`)

// images passes when every image is pinned by its digest: a tag may be another image tomorrow.
func images(c Candidate, _ Facts, _ time.Time) Result {
	rule := c.Class.Spec.Images
	if !rule.Digests {
		return allow("the class asks for no digests")
	}
	if len(c.Release.Images) == 0 && !rule.AllowNone {
		return Result{Answer: Deny, Reason: "the release has no images to judge", Hint: "let the class allow it (images.allowNone), in governance"}
	}
	var loose []string
	for _, role := range slices.Sorted(maps.Keys(c.Release.Images)) {
		if image := c.Release.Images[role]; !pinned.MatchString(image) {
			loose = append(loose, fmt.Sprintf("%s (%s)", image, role))
		}
	}
	if len(loose) > 0 {
		return Result{Answer: Deny, Reason: "not pinned by digest: " + some(loose), Hint: "kustomize edit set image NAME=NAME@sha256:…"}
	}
	return allow(fmt.Sprintf("%d images are pinned by digest", len(c.Release.Images)))
}
