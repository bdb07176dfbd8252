package declaration

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// check judges declarations against each other and against what the agent
// offers. It fills in what an Environment leaves to the agent.
type check struct {
	g   *governance
	set *Set
	doc map[string]*document // "Kind name" → its document

	unsound bool // something is wrong with the persons
}

func newCheck(g *governance) *check {
	return &check{g: g, doc: map[string]*document{}, set: &Set{
		Clusters:       map[string]*Cluster{},
		Tenants:        map[string]*Tenant{},
		Environments:   map[string]*Environment{},
		Persons:        map[string]*Person{},
		Classes:        map[string]*ReleaseClass{},
		Calendars:      map[string]*Calendar{},
		Policies:       map[string]*Policy{},
		BackupPolicies: map[string]*BackupPolicy{},
	}}
}

// claim takes the document's name; false when it has none or another has it.
func (c *check) claim(doc *document) bool {
	if doc.meta.Name == "" {
		c.g.complete = false
		return false
	}
	key := doc.kind.name + " " + doc.meta.Name
	if other, ok := c.doc[key]; ok {
		at := other.mark("metadata.name")
		c.g.errs.add(doc.mark("metadata.name"), fmt.Sprintf("%s %q is declared twice", doc.kind.name, doc.meta.Name), "it is already declared at "+at.String(), "rename or remove one of the two")
		return false
	}
	c.doc[key] = doc
	return true
}

func (c *check) estate(doc *document, e *Estate) {
	if first := c.set.Estate; first != nil {
		at := c.doc["Estate "+first.Meta.Name].mark("metadata.name")
		c.g.errs.add(doc.mark("metadata.name"), "second Estate", "the estate is already declared at "+at.String(), "merge the two")
		return
	}
	c.set.Estate = e
	c.health(e.Spec.Defaults.Health, doc, "spec.defaults.health.http")
}

// all runs every check. Its error is of the tree that paths are looked up in.
func (c *check) all() error {
	c.builtIn()
	c.tenants()
	c.people()
	c.classes()
	c.calendars()
	c.backupPolicies()
	if c.set.Estate != nil {
		c.rulesOfEstate(c.set.Estate, c.doc["Estate "+c.set.Estate.Meta.Name])
	}
	if err := c.environments(); err != nil {
		return err
	}
	c.policies()
	c.consent()
	c.keyring()
	return nil
}

// environments judges each, and then all together. Its error is of the tree.
func (c *check) environments() error {
	names := slices.Sorted(maps.Keys(c.set.Environments))
	targets := map[string]string{}    // what is deployed where → environment
	namespaces := map[string]string{} // cluster and namespace → its first environment
	for _, name := range names {
		e, doc := c.set.Environments[name], c.doc["Environment "+name]
		c.tenant(e, doc)
		c.cluster(e, doc)
		if err := c.source(e, doc); err != nil {
			return err
		}
		c.target(e, doc, targets)
		c.rules(e, doc)
		c.backups(e, doc)
		c.neighbours(e, doc, namespaces)
		c.promotion(e, doc)
		c.health(e.Spec.Health, doc, "spec.health.http")
		c.dependencies(e, doc)
	}
	c.openings(names)
	c.renames(names)
	c.cycles(names, dependencyLinks, "dependsOn", "remove one of these dependencies")
	c.cycles(names, promotionLinks, "promotion", "remove one of these promotions")
	c.defaultTenant(names)
	return nil
}

// distinct refuses two items of one name in the list that doc has at path.
func (c *check) distinct(doc *document, path, what string, names []string) {
	seen := map[string]int{}
	for i, name := range names {
		first, ok := seen[name]
		if !ok {
			seen[name] = i
			continue
		}
		if name != "" {
			at := doc.mark(fmt.Sprintf("%s[%d].name", path, first))
			c.g.errs.add(doc.mark(fmt.Sprintf("%s[%d].name", path, i)), fmt.Sprintf("%s %q is declared twice", what, name), "it is already declared at "+at.String(), "rename one of the two")
		}
	}
}

// given reports whether the document itself has the field.
func given(doc *document, path string) bool {
	_, ok := doc.marks[path]
	return ok
}

func (c *check) unknown(at Position, what, name string, names []string) {
	c.unknownBecause(at, what, name, "no "+what+" of that name is declared", names)
}

func (c *check) unknownBecause(at Position, what, name, why string, names []string) {
	remedy := "name one of: " + strings.Join(names, ", ")
	if near := nearest(name, names); near != "" {
		remedy = fmt.Sprintf("did you mean %q?", near)
	} else if len(names) == 0 {
		remedy = "declare it"
	} else if len(names) > 20 {
		remedy = fmt.Sprintf("name one of the %d there are", len(names))
	}
	c.g.errs.add(at, fmt.Sprintf("unknown %s %q", what, name), why, remedy)
}
