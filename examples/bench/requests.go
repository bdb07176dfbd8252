package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
)

// request tells kinds of requests to an API server apart, by the labels of its metric apiserver_request_total. The audit
// log also tells whose they are, and names paths that are of no resource as a subresource.
type request struct{ verb, group, resource, subresource, dryRun, user string }

func (r request) String() string {
	text := r.verb
	if r.dryRun != "" {
		text += " (dry run)"
	}
	text += " " + strings.Trim(r.resource+"/"+r.subresource, "/")
	if r.user != "" {
		text += " by " + r.user
	}
	return text
}

// requests counts them.
type requests map[request]float64

// countRequests reads the API server's own count. A watch is counted when it ends.
func (c *cluster) countRequests(ctx context.Context) (requests, error) {
	body, err := c.get(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	defer body.Close()
	counted := requests{}
	err = readSeries(body, "apiserver_request_total", func(labels map[string]string, value float64) {
		counted[request{
			verb: labels["verb"], group: labels["group"], resource: labels["resource"], subresource: labels["subresource"], dryRun: labels["dry_run"],
		}] += value
	})
	if err == nil && len(counted) == 0 {
		err = fmt.Errorf("the API server tells no apiserver_request_total")
	}
	return counted, err
}

// get reads a path of the API server as its administrator.
func (c *cluster) get(ctx context.Context, path string) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.lab.APIURL+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := c.admin.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		response.Body.Close()
		return nil, fmt.Errorf("read %s of the API server: %s", path, response.Status)
	}
	return response.Body, nil
}

// since is what was counted after an earlier count, without what did not grow.
func (r requests) since(earlier requests) requests {
	grown := requests{}
	for k, n := range r {
		if d := n - earlier[k]; d > 0 {
			grown[k] = d
		}
	}
	return grown
}

// add counts others in.
func (r requests) add(others requests) {
	for k, n := range others {
		r[k] += n
	}
}

// only keeps those that match.
func (r requests) only(match func(request) bool) requests {
	kept := requests{}
	for k, n := range r {
		if match(k) {
			kept[k] = n
		}
	}
	return kept
}

func (r requests) sum() float64 {
	total := 0.0
	for _, n := range r {
		total += n
	}
	return total
}

// String lists the most frequent ones.
func (r requests) String() string {
	kinds := make([]request, 0, len(r))
	for k := range r {
		kinds = append(kinds, k)
	}
	slices.SortFunc(kinds, func(a, b request) int {
		return cmp.Or(cmp.Compare(r[b], r[a]), cmp.Compare(a.String(), b.String()))
	})
	var said []string
	for i, k := range kinds {
		if i == 8 {
			said = append(said, fmt.Sprintf("%d kinds more", len(kinds)-i))
			break
		}
		said = append(said, fmt.Sprintf("%g %s", r[k], k))
	}
	if len(said) == 0 {
		return "none"
	}
	return strings.Join(said, ", ")
}

// watching: a watch is no request that costs by itself, however long it lasts.
func watching(r request) bool { return r.verb == "WATCH" || r.verb == "WATCHLIST" }

// onManaged: about the kinds that the estate consists of.
func onManaged(r request) bool {
	return !watching(r) && slices.ContainsFunc(managed, func(k managedKind) bool {
		return k.resource.Group == r.group && k.resource.Resource == r.resource
	})
}

// dryRuns ask what applying an object of a managed kind would do.
func dryRuns(r request) bool { return onManaged(r) && r.dryRun != "" }

func besidesWatches(r request) bool { return !watching(r) }
