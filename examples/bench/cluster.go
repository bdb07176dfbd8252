package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/kubectl"
)

// cluster is a control plane of its own, with a Git server beside it: etcd, API server and controller manager.
// Nothing else runs in it. Nothing waits for a pod to run, so that neither a scheduler nor nodes are missed.
type cluster struct {
	lab     *lab.Lab
	config  *rest.Config // cluster-admin, without limits
	admin   *http.Client
	kube    kubernetes.Interface
	dynamic dynamic.Interface
}

func newCluster(ctx context.Context, dir string, progress io.Writer) (_ *cluster, err error) {
	l, err := lab.Start(ctx, lab.Options{Dir: dir, Servers: []string{lab.ControllerManager, lab.Git}, Progress: progress})
	if err != nil {
		return nil, err
	}
	c := &cluster{lab: l}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.stop())
		}
	}()
	if c.config, err = clientcmd.BuildConfigFromFlags("", l.Kubeconfig); err != nil {
		return nil, err
	}
	c.config.QPS = -1
	if c.admin, err = rest.HTTPClientFor(c.config); err != nil {
		return nil, err
	}
	if c.kube, err = kubernetes.NewForConfigAndClient(c.config, c.admin); err != nil {
		return nil, err
	}
	c.dynamic, err = dynamic.NewForConfigAndClient(c.config, c.admin)
	return c, err
}

func (c *cluster) stop() error {
	if c.admin != nil {
		c.admin.CloseIdleConnections()
	}
	return c.lab.Stop()
}

// setUpWorkers bounds how much of the set-up is done at the same time.
const setUpWorkers = 16

// grant does what whoever runs the cluster does once: the agent's rights as in examples/deploy/rbac, the namespaces,
// and who may do what in them. It returns when the controllers are done with the new namespaces.
func (c *cluster) grant(ctx context.Context, root string, places []place) error {
	if err := c.createNamespace(ctx, "purser"); err != nil {
		return err
	}
	if err := kubectl.ApplyKustomization(ctx, c.config, filepath.Join(root, "examples", "deploy", "rbac"), benchManager); err != nil {
		return err
	}
	tenants := map[string]bool{}
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(setUpWorkers)
	for _, p := range places {
		tenants[p.tenant] = true
		group.Go(func() error {
			if err := c.createNamespace(inner, p.namespace); err != nil {
				return err
			}
			_, err := c.kube.RbacV1().RoleBindings(p.namespace).Create(inner, &rbacv1.RoleBinding{
				ObjectMeta: metav1.ObjectMeta{Name: "purser-tenant"},
				RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "purser-tenant"},
				Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: tenantUser(p.tenant)}},
			}, metav1.CreateOptions{})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("prepare namespaces: %w", err)
	}
	if err := c.letImpersonate(ctx, tenants); err != nil {
		return err
	}
	return c.awaitNamespaces(ctx, len(places))
}

func tenantUser(tenant string) string { return "purser:tenant:" + tenant }

func (c *cluster) createNamespace(ctx context.Context, name string) error {
	_, err := c.kube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	return err
}

// agentUser is nobody special: what it may do is what examples/deploy/rbac gives it.
const agentUser = "system:serviceaccount:purser:purser"

// agentKubeconfig is the file with which the agent comes in.
func (c *cluster) agentKubeconfig() (string, error) {
	return c.lab.KubeconfigFor(lab.Identity{User: agentUser})
}

// letImpersonate lists the tenants by name, as examples/deploy/rbac does for its own.
func (c *cluster) letImpersonate(ctx context.Context, tenants map[string]bool) error {
	var users []string
	for tenant := range tenants {
		users = append(users, tenantUser(tenant))
	}
	if len(users) == 0 {
		return nil
	}
	const name = "purser-agent-bench"
	_, err := c.kube.RbacV1().ClusterRoles().Create(ctx, &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"users"}, ResourceNames: users, Verbs: []string{"impersonate"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("list the tenants: %w", err)
	}
	_, err = c.kube.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: agentUser}},
	}, metav1.CreateOptions{})
	return err
}

// awaitNamespaces waits until the controllers have put into every namespace what they put there.
func (c *cluster) awaitNamespaces(ctx context.Context, count int) error {
	return until(ctx, 5*time.Minute, time.Second, func() error {
		accounts, err := c.kube.CoreV1().ServiceAccounts("").List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=default"})
		if err != nil {
			return err
		}
		certificates, err := c.kube.CoreV1().ConfigMaps("").List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=kube-root-ca.crt"})
		if err != nil {
			return err
		}
		if len(accounts.Items) < count || len(certificates.Items) < count {
			return fmt.Errorf("the controllers are done with %d of %d namespaces", min(len(accounts.Items), len(certificates.Items)), count)
		}
		return nil
	})
}

// benchManager is the field manager of what the benches apply themselves.
const benchManager = "bench"

// until asks again until the answer is good or patience ends.
func until(ctx context.Context, patience, every time.Duration, ask func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := ask()
		if err == nil {
			return nil
		}
		if !pause(ctx, every) {
			return fmt.Errorf("not within %s: %w", patience, err)
		}
	}
}

// pause waits; false says that the context ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
