package render

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// roleLabel gives an object its role, on the object or on its pod template.
const roleLabel = "purser.dev/role"

// podPaths says where objects keep the pod they run, or would run.
var podPaths = map[string][]string{
	"/Pod":                    {},
	"/PodTemplate":            {"template"},
	"/ReplicationController":  {"spec", "template"},
	"apps/Deployment":         {"spec", "template"},
	"apps/StatefulSet":        {"spec", "template"},
	"apps/DaemonSet":          {"spec", "template"},
	"apps/ReplicaSet":         {"spec", "template"},
	"apps/ControllerRevision": {"data", "spec", "template"},
	"batch/Job":               {"spec", "template"},
	"batch/CronJob":           {"spec", "jobTemplate", "spec", "template"},
}

// imageUse is one place that names an image. Its keys grow longer: each tells apart what the one before may not.
type imageUse struct {
	keys  [3]string
	image string
}

// imageSet maps "role/container" to the image of every container in pod
// templates, and "role/volume:name" to that of every image volume. Where two
// objects give one key different images, theirs are told apart as
// "role/container#Kind.name", and where that is not enough as
// "role/container#Kind.namespace/name", with "[2]" and so on for namesakes in one pod.
func imageSet(objs []*unstructured.Unstructured) map[string]string {
	var uses []imageUse
	for _, o := range objs {
		ref := RefOf(o)
		at, ok := podPaths[ref.Group+"/"+ref.Kind]
		if !ok {
			continue
		}
		pod, _, _ := unstructured.NestedMap(o.Object, at...)
		role := roleOf(o, pod)
		seen := map[string]int{}
		podImages(pod, func(name, image string) {
			key := role + "/" + name
			object := fmt.Sprintf("%s#%s.%s/%s", key, ref.Kind, ref.Namespace, ref.Name)
			if seen[name]++; seen[name] > 1 { // the API server refuses that in most kinds, not in all
				object += fmt.Sprintf("[%d]", seen[name])
			}
			uses = append(uses, imageUse{[3]string{key, fmt.Sprintf("%s#%s.%s", key, ref.Kind, ref.Name), object}, image})
		})
	}
	first, differ := map[string]string{}, map[string]bool{}
	for _, u := range uses {
		for _, key := range u.keys {
			if got, ok := first[key]; ok && got != u.image {
				differ[key] = true
			}
			first[key] = u.image
		}
	}
	images := map[string]string{}
	for _, u := range uses {
		key := u.keys[0]
		for _, longer := range u.keys[1:] {
			if differ[key] {
				key = longer
			}
		}
		images[key] = u.image
	}
	return images
}

// PodImages are the images of the pod that an object runs, or would run, sorted; none of an object of another kind.
func PodImages(o *unstructured.Unstructured) []string {
	ref := RefOf(o)
	at, ok := podPaths[ref.Group+"/"+ref.Kind]
	if !ok {
		return nil
	}
	var images []string
	pod, _, _ := unstructured.NestedMap(o.Object, at...)
	podImages(pod, func(_, image string) { images = append(images, image) })
	slices.Sort(images)
	return slices.Compact(images)
}

// podImages gives what a pod runs and mounts: the image of each container, and as volume:name that of each volume. No
// container has a colon in its name.
func podImages(pod map[string]any, give func(name, image string)) {
	each := func(list string, note func(m map[string]any, name string)) {
		items, _, _ := unstructured.NestedSlice(pod, "spec", list)
		for _, item := range items {
			m, _ := item.(map[string]any)
			name, _ := m["name"].(string)
			note(m, name)
		}
	}
	for _, list := range []string{"initContainers", "containers", "ephemeralContainers"} {
		each(list, func(m map[string]any, name string) {
			if image, _ := m["image"].(string); image != "" {
				give(name, image)
			}
		})
	}
	each("volumes", func(m map[string]any, name string) {
		if image, _, _ := unstructured.NestedString(m, "image", "reference"); image != "" {
			give("volume:"+name, image)
		}
	})
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
