package policy

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// Promotion says how the candidate's images fared in the environment that it is promoted from.
type Promotion struct {
	From string `json:"from"`
	// Soaks are the image sets that were live there, newest last.
	Soaks []Soak `json:"soaks"`
}

// Soak is the time that an image set was seen live and healthy.
type Soak struct {
	Release string        `json:"release"`
	Images  []string      `json:"images"`          // see [ImageList]
	Healthy time.Duration `json:"healthy"`         // seen, up to Since
	Since   *time.Time    `json:"since,omitempty"` // start of the healthy time that goes on; nil when it does not
}

// Total is the healthy time up to now.
func (s Soak) Total(now time.Time) time.Duration {
	if s.Since == nil || now.Before(*s.Since) {
		return s.Healthy
	}
	return s.Healthy + now.Sub(*s.Since)
}

// promotion passes when the same images were live and healthy in the environment before for the soak time.
func promotion(c Candidate, f Facts, now time.Time) Result {
	rule := c.Environment.Spec.Promotion
	switch {
	case c.Origin == OriginRollback:
		return allow("a rollback: it was live here before")
	case rule.From == "" && c.Class.Spec.Promotion.Required:
		return Result{Answer: Deny, Reason: fmt.Sprintf("class %q asks for a promotion, and the environment does not say from where", c.Class.Meta.Name),
			Hint: "declare promotion.from of the environment, in governance"}
	case rule.From == "":
		return allow("the environment is promoted from nowhere")
	case f.Promotion == nil || f.Promotion.From != rule.From:
		return Result{Answer: Deny, Reason: fmt.Sprintf("what was live in %q is unknown", rule.From)}
	case len(c.Release.Images) == 0:
		return Result{Answer: Deny, Reason: "the release has no images, so nothing shows what was tested before", Hint: "take promotion off the environment, in governance"}
	}
	soak := max(rule.Soak, c.Class.Spec.Promotion.Soak)
	wanted := ImageList(c.Release.Images)
	best, seen := Soak{}, false
	for _, s := range f.Promotion.Soaks {
		if slices.Equal(s.Images, wanted) && (!seen || s.Total(now) >= best.Total(now)) {
			best, seen = s, true
		}
	}
	switch total := best.Total(now); {
	case !seen:
		return Result{Answer: Deny, Reason: fmt.Sprintf("%s was never live in %q", differingImages(wanted, f.Promotion.Soaks), rule.From),
			Hint: fmt.Sprintf("promote to %q first: purser promote", rule.From)}
	case total >= soak:
		return allow(fmt.Sprintf("the same images were live and healthy in %q for %s", rule.From, total.Truncate(time.Second)))
	case best.Since == nil:
		return Result{Answer: Wait, Reason: fmt.Sprintf("the same images were healthy in %q for %s of %s, and are not live and healthy there now", rule.From, total.Truncate(time.Second), soak),
			Hint: fmt.Sprintf("bring them back in %q", rule.From)}
	default:
		until := now.Add(soak - total)
		return Result{Answer: Wait, Until: &until, Reason: fmt.Sprintf("the same images were healthy in %q for %s of %s", rule.From, total.Truncate(time.Second), soak)}
	}
}

// differingImages names the images that the newest release there does not have.
func differingImages(images []string, soaks []Soak) string {
	var last []string
	if len(soaks) > 0 {
		last = soaks[len(soaks)-1].Images
	}
	var list []string
	for _, image := range images {
		if !slices.Contains(last, image) {
			list = append(list, image)
		}
	}
	if len(list) == 0 {
		return "the image set, which has fewer images,"
	}
	return some(list)
}

// ImageList writes an image set as sorted role/container=reference lines.
func ImageList(images map[string]string) []string {
	list := make([]string, 0, len(images))
	for _, key := range slices.Sorted(maps.Keys(images)) {
		list = append(list, key+"="+images[key])
	}
	return list
}
