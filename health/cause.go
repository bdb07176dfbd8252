package health

import (
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// externalGroups are kinds whose controllers speak with somebody else's service.
var externalGroups = []string{"external-secrets.io", "acme.cert-manager.io", "cert-manager.io"}

// platformSigns in a message point at nodes, quotas or volumes.
var platformSigns = []string{"exceeded quota", "unschedulable", "insufficient ", "nodes are available", "could not be scheduled", "evicted"}

// answered are signs that a registry answered and does not have, or does not give out, the image.
var answered = []string{"not found", "manifest unknown", "unauthorized", "denied", "invalidimagename", "authorization failed", "no basic auth"}

// cause says who has to look at an object that is not well.
func cause(u *unstructured.Unstructured, message string) string {
	switch u.GetKind() {
	case "PersistentVolumeClaim", "PersistentVolume", "Namespace", "CustomResourceDefinition", "ResourceQuota", "StorageClass", "Node":
		return Platform
	}
	for _, g := range externalGroups {
		if group(u) == g {
			return External
		}
	}
	lower := strings.ToLower(message)
	if strings.Contains(lower, "imagepull") {
		if containsAny(lower, answered) {
			return Application
		}
		return External
	}
	if containsAny(lower, platformSigns) {
		return Platform
	}
	return Application
}

func containsAny(text string, parts []string) bool {
	for _, p := range parts {
		if strings.Contains(text, p) {
			return true
		}
	}
	return false
}
