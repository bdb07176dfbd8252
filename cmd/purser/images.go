package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// imageChange is a container that gets another image.
type imageChange struct {
	Container string `json:"container"` // role/container or role/volume:name
	Old       string `json:"old"`
	New       string `json:"new"`
}

// imageChanges lists the containers that get another image, or go.
func imageChanges(old, now map[string]string) []imageChange {
	all := maps.Clone(old)
	maps.Copy(all, now)
	list := []imageChange{}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if old[key] != now[key] {
			list = append(list, imageChange{Container: key, Old: old[key], New: now[key]})
		}
	}
	return list
}

func printImages(w io.Writer, images []imageChange) {
	for _, i := range images {
		fmt.Fprintf(w, "%s\t%s → %s\n", plain(i.Container), plain(cmp.Or(i.Old, "-")), plain(cmp.Or(i.New, "-")))
	}
}

// unlike lists the containers whose images differ.
func unlike(want, got map[string]string) string {
	var list []string
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if got[key] != want[key] {
			list = append(list, fmt.Sprintf("%s is %s, not %s", key, cmp.Or(got[key], "absent"), want[key]))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[key]; !ok {
			list = append(list, fmt.Sprintf("%s is %s, not absent", key, got[key]))
		}
	}
	return strings.Join(list, "; ")
}

// container is the role/container of a key of an image set, see [render.Release].
func container(key string) string {
	name, _, _ := strings.Cut(key, "#")
	return name
}
