package declaration

import "strings"

// DefaultTenant is the tenant of an Environment that names none.
const DefaultTenant = "default"

// Cluster describes a cluster. The way in is the agent's own configuration.
type Cluster struct {
	Meta     Meta
	Spec     ClusterSpec
	Position Position
}

// ClusterSpec is the content of a [Cluster].
type ClusterSpec struct {
	// Where the cluster runs, as people of the estate call it. Recorded; not judged.
	Region string `json:"region,omitempty"`
	// Facts about the cluster. Recorded; not judged.
	Labels map[string]string `json:"labels,omitempty"`
}

// Tenant says what the environments of one owner may touch.
type Tenant struct {
	Meta     Meta
	Spec     TenantSpec
	Position Position
}

// TenantSpec is the content of a [Tenant].
type TenantSpec struct {
	// Namespaces the tenant may touch: exact names, or prefixes that end in *. No two tenants share a namespace.
	Namespaces []string `json:"namespaces" jsonschema:"required,minItems=1,uniqueItems=true,format=namespaces"`
	// Namespaced kinds it may touch. Without this list: all of them.
	Kinds []GroupKindRule `json:"kinds,omitempty" jsonschema:"minItems=1"`
	// Cluster-scoped kinds it may touch, Namespace included. Without this list: none.
	ClusterKinds []GroupKind `json:"clusterKinds,omitempty" jsonschema:"minItems=1"`
	// Who answers for the tenant, as text for people. Recorded; not judged.
	Owners []string `json:"owners,omitempty" jsonschema:"minItems=1,uniqueItems=true"`
}

// GroupKindRule selects kinds of the Kubernetes API.
type GroupKindRule struct {
	// API group, such as apps. Empty is the core group.
	Group string `json:"group,omitempty" jsonschema:"format=group"`
	// Kind, such as Deployment, or * for every kind of the group.
	Kind string `json:"kind" jsonschema:"required,format=kinds"`
}

// GroupKind names one kind of the Kubernetes API.
type GroupKind struct {
	// API group, such as rbac.authorization.k8s.io. Empty is the core group.
	Group string `json:"group,omitempty" jsonschema:"format=group"`
	// Kind, such as ClusterRole.
	Kind string `json:"kind" jsonschema:"required,format=kind"`
}

// AllowsNamespace reports whether the tenant may touch the namespace.
func (s TenantSpec) AllowsNamespace(namespace string) bool {
	for _, pattern := range s.Namespaces {
		prefix, open := strings.CutSuffix(pattern, "*")
		if pattern == namespace || open && strings.HasPrefix(namespace, prefix) {
			return true
		}
	}
	return false
}

// AllowsKind reports whether the tenant may touch objects of a namespaced kind.
func (s TenantSpec) AllowsKind(group, kind string) bool {
	for _, k := range s.Kinds {
		if k.Group == group && (k.Kind == kind || k.Kind == "*") {
			return true
		}
	}
	return len(s.Kinds) == 0
}

// AllowsClusterKind reports whether the tenant may touch objects of a
// cluster-scoped kind.
func (s TenantSpec) AllowsClusterKind(group, kind string) bool {
	for _, k := range s.ClusterKinds {
		if k.Group == group && k.Kind == kind {
			return true
		}
	}
	return false
}
