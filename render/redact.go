package render

import (
	"encoding/base64"
	"path"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/types"
)

// redact takes out of Kustomize's error text what the files of this build keep
// in Secrets: the error can quote whole objects, also plain ones that
// [NewRelease] would refuse later.
func (f *treeFS) redact(text string) string {
	var secrets []string
	add := func(values ...string) {
		for _, v := range values {
			if len(v) >= 3 {
				secrets = append(secrets, v, base64.StdEncoding.EncodeToString([]byte(v)))
			}
		}
	}
	for file, data := range f.content {
		if isKustomizationName(path.Base(file)) {
			f.generatorSecrets(dirOf(file), data, add)
			continue
		}
		if !strings.Contains(string(data), "Secret") {
			continue
		}
		objs, err := parseObjects(string(data))
		if err != nil {
			continue
		}
		for _, o := range objs {
			m, err := o.Map()
			if err != nil || o.GetKind() != "Secret" {
				continue
			}
			for _, field := range []string{"data", "stringData"} {
				anyString(m[field], func(s string) bool { add(s, strings.TrimSpace(s)); return false })
			}
		}
	}
	// Longest first, so that no part of a value is left over.
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) })
	for _, s := range secrets {
		text = strings.ReplaceAll(text, s, "***")
	}
	return text
}

// generatorSecrets adds what secretGenerators read.
func (f *treeFS) generatorSecrets(dir string, data []byte, add func(...string)) {
	var k types.Kustomization
	if k.Unmarshal(data) != nil {
		return
	}
	for _, g := range k.SecretGenerator {
		for _, l := range g.LiteralSources {
			_, v, _ := strings.Cut(l, "=")
			add(v, strings.Trim(v, `"'`))
		}
		for _, p := range append(g.EnvSources, g.EnvSource) {
			for _, line := range strings.Split(string(f.content[path.Join(dir, p)]), "\n") {
				_, v, _ := strings.Cut(line, "=")
				add(line, v)
			}
		}
		for _, p := range g.FileSources {
			if _, after, ok := strings.Cut(p, "="); ok {
				p = after
			}
			add(string(f.content[path.Join(dir, p)]))
		}
	}
}
