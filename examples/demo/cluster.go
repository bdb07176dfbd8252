package main

import (
	"context"
	"fmt"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/purser-gitops/purser/examples/lab/kubectl"
)

// namespaces of the sample estate, by the tenant that may use them.
var namespaces = map[string]string{
	"north-dev": "north", "north-qa": "north", "north-staging": "north", "north-prod-eu": "north",
	"south-uat": "south", "south-training": "south",
}

// grant does what whoever runs the cluster does once: namespaces, and who may do what in them.
func (d *demo) grant(ctx context.Context, config *rest.Config) error {
	for _, namespace := range append([]string{"purser"}, sortedKeys(namespaces)...) {
		_, err := d.kube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("create namespace %s: %w", namespace, err)
		}
	}
	if err := kubectl.ApplyKustomization(ctx, config, filepath.Join(d.root, "examples", "deploy", "rbac"), "demo"); err != nil {
		return err
	}
	for namespace, tenant := range namespaces {
		binding := &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "purser-tenant"},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "purser-tenant"},
			Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "purser:tenant:" + tenant}},
		}
		_, err := d.kube.RbacV1().RoleBindings(namespace).Create(ctx, binding, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("bind tenant %s in %s: %w", tenant, namespace, err)
		}
	}
	return nil
}
