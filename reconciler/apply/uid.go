package apply

import (
	"context"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/purser-gitops/purser/render"
)

// uidTime is how long an answer about the cluster's UID counts.
const uidTime = 30 * time.Second

// uidCache keeps the cluster's UID for a while. Callers that come while it is asked for share the answer.
type uidCache struct {
	mu     sync.Mutex
	asking *uidAnswer // under way, or the last
}

type uidAnswer struct {
	done chan struct{}
	uid  string
	err  error
	at   time.Time
	left bool // the caller that asked went away, so the error is not about the cluster
}

// UID tells one cluster from another that took its place: the UID of the namespace kube-system. It was true at most half a
// minute ago.
func (c *Cluster) UID(ctx context.Context) (string, error) {
	for {
		a, mine := c.uid.join(c.o.Now())
		if mine {
			uid, err := c.askUID(ctx)
			c.uid.answer(a, uidAnswer{uid: uid, err: err, at: c.o.Now(), left: ctx.Err() != nil})
			return uid, err
		}
		select {
		case <-a.done:
		case <-ctx.Done():
			return "", ctx.Err()
		}
		if !a.left || a.err == nil {
			return a.uid, a.err
		}
	}
}

// join returns an answer that counts or is under way; when there is none, one that the caller has to give.
func (u *uidCache) join(now time.Time) (a *uidAnswer, mine bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if a := u.asking; a != nil {
		select {
		case <-a.done:
			if a.err == nil && now.Sub(a.at) < uidTime {
				return a, false
			}
		default:
			return a, false
		}
	}
	u.asking = &uidAnswer{done: make(chan struct{})}
	return u.asking, true
}

func (u *uidCache) answer(a *uidAnswer, is uidAnswer) {
	u.mu.Lock()
	defer u.mu.Unlock()
	a.uid, a.err, a.at, a.left = is.uid, is.err, is.at, is.left
	close(a.done)
}

func (c *Cluster) askUID(ctx context.Context) (string, error) {
	ns, err := c.agent.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}).Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
	if err != nil {
		ref := render.Ref{Version: "v1", Kind: "Namespace", Name: metav1.NamespaceSystem}
		return "", explain(call{verb: "get", ref: ref, user: "the agent", cluster: c.name}, err)
	}
	return string(ns.GetUID()), nil
}
