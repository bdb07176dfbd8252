package render

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// roleLabel gives an object its role, on the object or on its pod template.
const roleLabel = "purser.dev/role"

// podPaths says where objects keep the pod they run.
var podPaths = map[string][]string{
	"/Pod":             {},
	"apps/Deployment":  {"spec", "template"},
	"apps/StatefulSet": {"spec", "template"},
	"apps/DaemonSet":   {"spec", "template"},
	"apps/ReplicaSet":  {"spec", "template"},
	"batch/Job":        {"spec", "template"},
	"batch/CronJob":    {"spec", "jobTemplate", "spec", "template"},
}

// imageSet maps "role/container" to the image of every container in pod
// templates. Where two objects give one key different images, theirs are told
// apart as "role/container#Kind.name".
func imageSet(objs []*unstructured.Unstructured) map[string]string {
	type use struct{ key, long, image string }
	var uses []use
	differ := map[string]bool{}
	first := map[string]string{}
	for _, o := range objs {
		ref := RefOf(o)
		at, ok := podPaths[ref.Group+"/"+ref.Kind]
		if !ok {
			continue
		}
		pod, _, _ := unstructured.NestedMap(o.Object, at...)
		role := roleOf(o, pod)
		for _, list := range []string{"initContainers", "containers", "ephemeralContainers"} {
			containers, _, _ := unstructured.NestedSlice(pod, "spec", list)
			for _, c := range containers {
				m, _ := c.(map[string]any)
				name, _ := m["name"].(string)
				image, _ := m["image"].(string)
				if image == "" {
					continue
				}
				key := role + "/" + name
				if got, ok := first[key]; ok && got != image {
					differ[key] = true
				}
				first[key] = image
				uses = append(uses, use{key, fmt.Sprintf("%s#%s.%s", key, ref.Kind, ref.Name), image})
			}
		}
	}
	images := map[string]string{}
	for _, u := range uses {
		if differ[u.key] {
			images[u.long] = u.image
		} else {
			images[u.key] = u.image
		}
	}
	return images
}

func roleOf(o *unstructured.Unstructured, pod map[string]any) string {
	if r := o.GetLabels()[roleLabel]; r != "" {
		return r
	}
	if r, _, _ := unstructured.NestedString(pod, "metadata", "labels", roleLabel); r != "" {
		return r
	}
	return o.GetName()
}
