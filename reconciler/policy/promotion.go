package policy

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
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
	// Ran says of the images that were seen to run there how much healthy time there was before they were.
	Ran map[string]time.Duration `json:"ran,omitempty"`
}

// Saw notes images that are seen to run.
func (s Soak) Saw(images []string, at time.Time) Soak {
	ran := maps.Clone(s.Ran)
	for _, image := range images {
		if _, known := ran[image]; !known {
			if ran == nil {
				ran = map[string]time.Duration{}
			}
			ran[image] = s.Total(at)
		}
	}
	s.Ran = ran
	return s
}

// tested is the healthy time up to now since the last of the images was seen to run, and which of them none was seen of: what is
// healthy because nothing of it runs shows nothing.
func (s Soak) tested(now time.Time) (total time.Duration, unseen []string) {
	var before time.Duration
	for _, line := range s.Images {
		_, image, _ := strings.Cut(line, "=")
		since, seen := time.Duration(0), false
		for ran, at := range s.Ran {
			if sameImage(ran, image) && (!seen || at < since) {
				since, seen = at, true
			}
		}
		if !seen {
			unseen = append(unseen, line)
		}
		before = max(before, since)
	}
	return max(s.Total(now)-before, 0), unseen
}

// sameImage reports whether two references name one image. A digest says all: a cluster may pull it from a mirror.
func sameImage(a, b string) bool {
	_, da, _ := strings.Cut(a, "@")
	_, db, _ := strings.Cut(b, "@")
	return a == b || da != "" && da == db
}

// Total is the healthy time up to now.
func (s Soak) Total(now time.Time) time.Duration {
	if s.Since == nil || now.Before(*s.Since) {
		return s.Healthy
	}
	return s.Healthy + now.Sub(*s.Since)
}

// promotion passes when the same images were live and healthy in the environment before for the soak time, and all of them seen
// to run there.
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
	best, live := Soak{}, false
	var total time.Duration
	var unseen []string
	for _, s := range f.Promotion.Soaks {
		t, u := s.tested(now)
		if slices.Equal(s.Images, wanted) && (!live || cmp.Or(len(unseen)-len(u), cmp.Compare(t, total)) >= 0) {
			best, total, unseen, live = s, t, u, true
		}
	}
	switch {
	case !live:
		return Result{Answer: Deny, Reason: fmt.Sprintf("%s was never live in %q", differingImages(wanted, f.Promotion.Soaks), rule.From),
			Hint: fmt.Sprintf("promote to %q first: purser promote", rule.From)}
	case len(unseen) > 0:
		return Result{Answer: Wait, Reason: fmt.Sprintf("%s was live in %q and not seen to run there: no pod of it was ready, and none came to its end", some(unseen), rule.From),
			Hint: fmt.Sprintf("let it run in %q: what is scaled to 0, paused or suspended does not, and a CronJob has to succeed once", rule.From)}
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
