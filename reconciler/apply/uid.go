package apply

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/singleflight"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/purser-gitops/purser/render"
)

// uidTime is how long an answer about the cluster's UID counts.
const uidTime = 30 * time.Second

// uidCache keeps the cluster's UID for a while. What asking runs, one call at a time, alone uses the other fields.
type uidCache struct {
	asking singleflight.Group
	uid    string // "" before the first answer
	at     time.Time
}

// errAskerLeft: the caller that asked for others too went away, so its error is not about the cluster.
var errAskerLeft = errors.New("the caller that asked went away")

// UID tells one cluster from another that took its place: the UID of the namespace kube-system. It was true at most half a
// minute ago. Callers that come while it is asked for share the answer.
func (c *Cluster) UID(ctx context.Context) (string, error) {
	for ctx.Err() == nil {
		answer := c.uid.asking.DoChan("", func() (any, error) {
			uid, err := c.recentUID(ctx)
			if err != nil && ctx.Err() != nil {
				err = errAskerLeft
			}
			return uid, err
		})
		select {
		case a := <-answer:
			if !errors.Is(a.Err, errAskerLeft) {
				return a.Val.(string), a.Err
			}
		case <-ctx.Done():
		}
	}
	return "", ctx.Err()
}

// recentUID asks for the UID, unless the last answer still counts.
func (c *Cluster) recentUID(ctx context.Context) (string, error) {
	if c.uid.uid != "" && c.o.Now().Sub(c.uid.at) < uidTime {
		return c.uid.uid, nil
	}
	ns, err := c.agent.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}).Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
	if err != nil {
		ref := render.Ref{Version: "v1", Kind: "Namespace", Name: metav1.NamespaceSystem}
		return "", explain(call{verb: "get", ref: ref, user: "the agent", cluster: c.name}, err)
	}
	c.uid.uid, c.uid.at = string(ns.GetUID()), c.o.Now()
	return c.uid.uid, nil
}
