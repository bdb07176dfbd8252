package edit

import (
	"errors"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

const digest = "sha256:03d75713c1328cb333ff913fe64302c27314dd2150910c02d4c2d07d5b5c66c6"

func TestSetImages(t *testing.T) {
	t.Parallel()
	odoo := Image{Name: "registry.example/odoo", Digest: digest}
	for name, c := range map[string]struct {
		in     string
		images []Image
		want   string
	}{
		"one value, everything else stays": {
			"# The shop.\nkind: Kustomization\n\nresources:\n- ../../base   # shared\n\nimages:\n  # What QA saw.\n  - name: registry.example/odoo # ours\n    digest: sha256:1 # pinned\n\n  - name: redis\n    newTag: \"7\"\npatches:\n  - patch: |-\n      - op: remove\n\n        path: /x\n",
			[]Image{odoo},
			"# The shop.\nkind: Kustomization\n\nresources:\n- ../../base   # shared\n\nimages:\n  # What QA saw.\n  - name: registry.example/odoo # ours\n    digest: " + digest + " # pinned\n\n  - name: redis\n    newTag: \"7\"\npatches:\n  - patch: |-\n      - op: remove\n\n        path: /x\n",
		},
		"a tag becomes a digest, as kustomize sorts fields": {
			"images:\n- digest: sha256:1\n  # why\n  name: registry.example/odoo\n  tagSuffix: -x\nresources: []\n",
			[]Image{{Name: "registry.example/odoo", NewName: "mirror.example/odoo", NewTag: "18.0"}},
			"images:\n- name: registry.example/odoo\n  # why\n  newName: mirror.example/odoo\n  newTag: \"18.0\"\nresources: []\n",
		},
		"a new entry after the last one": {
			"images:\n    -   name: redis\n        newTag: \"7\"\n# end\n", []Image{odoo},
			"images:\n    -   name: redis\n        newTag: \"7\"\n    -   name: registry.example/odoo\n        digest: " + digest + "\n# end\n",
		},
		"no images yet, lists are indented": {
			"resources:\n  - ../base", []Image{odoo},
			"resources:\n  - ../base\nimages:\n  - name: registry.example/odoo\n    digest: " + digest + "\n",
		},
		"no images yet, lists are not indented": {
			"resources:\n- ../base\n", []Image{odoo},
			"resources:\n- ../base\nimages:\n- name: registry.example/odoo\n  digest: " + digest + "\n",
		},
		"an empty list": {
			"images: [] # none\nresources: [a]\n", []Image{odoo},
			"images: # none\n- name: registry.example/odoo\n  digest: " + digest + "\nresources: [a]\n",
		},
		"an entry in braces": {
			"images:\n- {name: registry.example/odoo, newTag: v1} # ours\n- {name: redis, newTag: v7}\n", []Image{odoo},
			"images:\n- {name: registry.example/odoo, digest: " + digest + "} # ours\n- {name: redis, newTag: v7}\n",
		},
		"a tag that looked like a number": {
			"images:\n- name: a\n  newTag: 18.0\n", []Image{{Name: "a", NewTag: "18.0"}},
			"images:\n- name: a\n  newTag: \"18.0\"\n",
		},
		"back to what the base says": {
			"images:\n- name: a\n  newTag: v1\n- name: b\n", []Image{{Name: "a"}},
			"images:\n- name: a\n- name: b\n",
		},
		"nothing to change": {
			"images:   \n-   digest: sha256:1\n    name: 'a'\n", []Image{{Name: "a", Digest: "sha256:1"}},
			"images:   \n-   digest: sha256:1\n    name: 'a'\n",
		},
		"lines of Windows": {
			"images:\r\n- name: a\r\n  newTag: v1 # c\r\nresources:\r\n- x\r\n", []Image{{Name: "a", NewTag: "v2"}},
			"images:\r\n- name: a\r\n  newTag: v2 # c\r\nresources:\r\n- x\r\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := SetImages([]byte(c.in), c.images)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
			again, err := SetImages(got, c.images)
			if err != nil || string(again) != c.want {
				t.Errorf("a second time: %v\n%s", err, again)
			}
		})
	}
}

func TestSetImagesRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ in, why string }{
		"a list in brackets":        {"images: [{name: a, newTag: v1}]\n", "line 1"},
		"an entry on several lines": {"images:\n- {name: a,\n  newTag: v1}\n", "line 2"},
		"a value on the next line":  {"images:\n- name: a\n  newTag:\n    v1\n", "line 3"},
		"everything in braces":      {"{resources: [x]}\n", "written in a way"},
		"an end of the document":    {"resources: [x]\n...\n", "written in a way"},
		"several documents":         {"resources: [x]\n---\nresources: [y]\n", "several documents"},
		"a list":                    {"- a\n", "no mapping"},
		"the same name twice":       {"images:\n- name: a\n  newTag: v1\n- name: a\n  newTag: v3\n", "twice"},
		"no YAML":                   {"images: [\n", "parse"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := SetImages([]byte(c.in), []Image{{Name: "a", NewTag: "v2"}})
			if err == nil || !strings.Contains(err.Error(), c.why) {
				t.Errorf("got %v and %q, want an error with %q", err, got, c.why)
			}
		})
	}
}

func TestClearImages(t *testing.T) {
	t.Parallel()
	got, err := ClearImages([]byte("resources: [a]\nimages:\n- name: a\nnamespace: b\n"))
	if err != nil {
		t.Fatal(err)
	}
	var data map[string]any
	if err := yaml.Unmarshal(got, &data); err != nil || len(data) != 2 || data["namespace"] != "b" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestReference(t *testing.T) {
	t.Parallel()
	for image, want := range map[string][3]string{
		"odoo":                           {"odoo", "", ""},
		"odoo:18":                        {"odoo", "18", ""},
		"localhost:5000/odoo":            {"localhost:5000/odoo", "", ""},
		"localhost:5000/odoo:18":         {"localhost:5000/odoo", "18", ""},
		"registry.example/odoo@sha256:1": {"registry.example/odoo", "", "sha256:1"},
		"r.example:1/odoo:18@sha256:1":   {"r.example:1/odoo", "18", "sha256:1"},
	} {
		name, tag, sum := Reference(image)
		if got := [3]string{name, tag, sum}; got != want {
			t.Errorf("%s: got %q", image, got)
		}
	}
}

func TestCopyRelease(t *testing.T) {
	t.Parallel()
	const from = "# of dev\nkind: Release\nspec:\n    version: \"2\"   # new\n    class: low\n\n    change:\n        ticket: ERP-2\n        reason: |-\n            It was\n\n            wrong\n    modules: [sale]\n"
	for name, c := range map[string]struct{ to, want string }{
		"its head and class stay, the text is the other's": {
			"# yaml-language-server: of prod\nkind: Release\nspec:\n  version: \"1\"\n  class: high # here\n  migration: breaking\n",
			"# yaml-language-server: of prod\nkind: Release\nspec:\n    class: high\n    version: \"2\"   # new\n\n    change:\n        ticket: ERP-2\n        reason: |-\n            It was\n\n            wrong\n    modules: [sale]\n",
		},
		"without a class": {
			"kind: Release\nspec:\n  version: \"1\"\n",
			"kind: Release\nspec:\n    version: \"2\"   # new\n\n    change:\n        ticket: ERP-2\n        reason: |-\n            It was\n\n            wrong\n    modules: [sale]\n",
		},
		"in another style": {
			"# flow\nkind: Release\nspec: {version: \"1\", class: high}\n",
			"# flow\nkind: Release\nspec: {class: high, version: \"2\", change: {ticket: ERP-2, reason: \"It was\\n\\nwrong\"}, modules: [sale]}\n",
		},
		"the same already": {
			"spec: {modules: [sale], version: '2', change: {ticket: ERP-2, reason: \"It was\\n\\nwrong\"}}",
			"spec: {modules: [sale], version: '2', change: {ticket: ERP-2, reason: \"It was\\n\\nwrong\"}}",
		},
		"none yet": {
			"",
			"# of dev\nkind: Release\nspec:\n    version: \"2\"   # new\n\n    change:\n        ticket: ERP-2\n        reason: |-\n            It was\n\n            wrong\n    modules: [sale]\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			to := []byte(c.to)
			if c.to == "" {
				to = nil
			}
			got, err := CopyRelease(to, []byte(from))
			if err != nil {
				t.Fatal(err)
			}
			if name == "in another style" { // how comments and blank lines come out there is the encoder's
				var a, b any
				if yaml.Unmarshal(got, &a) != nil || yaml.Unmarshal([]byte(c.want), &b) != nil || !strings.HasPrefix(string(got), "# flow\n") {
					t.Errorf("got\n%s", got)
				}
				return
			}
			if string(got) != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
	if _, err := CopyRelease([]byte("kind: Release\n"), []byte(from)); !errors.Is(err, ErrShape) {
		t.Errorf("a release without spec: %v", err)
	}
}
