package declaration

import (
	"errors"
	"fmt"
	"io/fs"
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
}

func newCheck(g *governance) *check {
	return &check{g: g, doc: map[string]*document{}, set: &Set{
		Clusters:     map[string]*Cluster{},
		Tenants:      map[string]*Tenant{},
		Environments: map[string]*Environment{},
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
	c.tenants()
	names := slices.Sorted(maps.Keys(c.set.Environments))
	targets := map[string]string{} // what is deployed where → environment
	for _, name := range names {
		e, doc := c.set.Environments[name], c.doc["Environment "+name]
		c.tenant(e, doc)
		c.cluster(e, doc)
		if err := c.source(e, doc); err != nil {
			return err
		}
		c.target(e, doc, targets)
		c.health(e.Spec.Health, doc, "spec.health.http")
		c.dependencies(e, doc)
	}
	c.cycles(names)
	c.defaultTenant(names)
	return nil
}

// tenants refuses two tenants that could touch one namespace.
// reservedName is where the audit remote keeps the governance, beside the environments.
const reservedName = "governance"

func (c *check) tenants() {
	type claim struct {
		tenant, pattern string
		at              Position
	}
	var claims []claim
	for _, name := range slices.Sorted(maps.Keys(c.set.Tenants)) {
		doc := c.doc["Tenant "+name]
		for i, pattern := range c.set.Tenants[name].Spec.Namespaces {
			if pattern == "" {
				continue // reported by the decoder
			}
			at := doc.mark(fmt.Sprintf("spec.namespaces[%d]", i))
			for _, other := range claims {
				if other.tenant != name && overlap(other.pattern, pattern) {
					c.g.errs.add(at, fmt.Sprintf("namespaces %q of tenant %q overlap", pattern, name),
						fmt.Sprintf("tenant %q has %q at %s, and a namespace belongs to one tenant", other.tenant, other.pattern, other.at), "narrow one of the two")
					break
				}
			}
			claims = append(claims, claim{name, pattern, at})
		}
	}
}

// overlap reports whether a namespace can match both patterns.
func overlap(a, b string) bool {
	pa, openA := strings.CutSuffix(a, "*")
	pb, openB := strings.CutSuffix(b, "*")
	switch {
	case openA && openB:
		return strings.HasPrefix(pa, pb) || strings.HasPrefix(pb, pa)
	case openA:
		return strings.HasPrefix(pb, pa)
	case openB:
		return strings.HasPrefix(pa, pb)
	}
	return pa == pb
}

func (c *check) tenant(e *Environment, doc *document) {
	if e.Meta.Name == reservedName {
		c.g.errs.add(doc.mark("metadata.name"), fmt.Sprintf("an Environment cannot be named %q", reservedName), "the audit log keeps the declarations under that name", "give it another name")
	}
	s := &e.Spec
	implicit := s.Tenant == ""
	if implicit {
		s.Tenant = DefaultTenant
	}
	tenant, ok := c.set.Tenants[s.Tenant]
	at := doc.mark("spec.namespace")
	switch {
	case ok:
		patterns := tenant.Spec.Namespaces
		judged := len(patterns) > 0 && !slices.Contains(patterns, "") // else the tenant's own error says enough
		if judged && s.Namespace != "" && !tenant.Spec.AllowsNamespace(s.Namespace) {
			c.g.errs.add(at, fmt.Sprintf("namespace %q is outside tenant %q", s.Namespace, s.Tenant),
				"the tenant may touch "+strings.Join(patterns, ", "), "choose one of these, or add it to the tenant at "+c.doc["Tenant "+s.Tenant].Position.String())
		}
	case s.Tenant != DefaultTenant:
		if c.g.complete {
			c.unknown(doc.mark("spec.tenant"), "tenant", s.Tenant, slices.Sorted(maps.Keys(c.set.Tenants)))
		}
	default:
		for _, name := range slices.Sorted(maps.Keys(c.set.Tenants)) {
			if s.Namespace != "" && c.set.Tenants[name].Spec.AllowsNamespace(s.Namespace) {
				c.g.errs.add(at, fmt.Sprintf("namespace %q belongs to tenant %q", s.Namespace, name), "this environment names no tenant", "add \"tenant: "+name+"\", or choose another namespace")
			}
		}
	}
}

// defaultTenant gives environments without a declared tenant theirs.
func (c *check) defaultTenant(names []string) {
	if c.set.Tenants[DefaultTenant] != nil {
		return
	}
	var own []string
	for _, name := range names {
		if s := c.set.Environments[name].Spec; s.Tenant == DefaultTenant && !slices.Contains(own, s.Namespace) {
			own = append(own, s.Namespace)
		}
	}
	if len(own) > 0 {
		slices.Sort(own)
		c.set.Tenants[DefaultTenant] = &Tenant{Meta: Meta{Name: DefaultTenant}, Spec: TenantSpec{Namespaces: own}}
	}
}

func (c *check) cluster(e *Environment, doc *document) {
	names, missing := c.g.known.Clusters, "the agent has no cluster of that name"
	if len(names) == 0 {
		names, missing = slices.Sorted(maps.Keys(c.set.Clusters)), "no Cluster of that name is declared"
	}
	at, given := doc.marks["spec.cluster"]
	switch {
	case len(names) == 0 && !c.g.complete, len(names) == 0 && len(c.g.known.Clusters) == 0:
	case !given && len(names) == 1:
		e.Spec.Cluster = names[0]
	case !given:
		c.g.errs.add(doc.mark("spec"), `missing field "cluster"`, "there are several clusters: "+strings.Join(names, ", "), `add "cluster:" with one of them`)
	case e.Spec.Cluster != "" && !slices.Contains(names, e.Spec.Cluster):
		c.unknownBecause(at, "cluster", e.Spec.Cluster, missing, names)
	}
}

func (c *check) source(e *Environment, doc *document) error {
	s, home := &e.Spec.Source, c.g.known.Governance
	if s.Repository == "" {
		s.Repository = home.Repository
	}
	if s.Branch == "" {
		s.Branch = home.Branch
	}
	names := c.g.known.Sources
	if len(names) > 0 && s.Repository != "" && !slices.Contains(names, s.Repository) {
		c.unknownBecause(doc.mark("spec.source.repository"), "repository", s.Repository, "the agent has no source of that name", names)
		return nil
	}
	if c.g.lookup == nil || c.g.known.Partial || s.Path == "" || s.Repository != home.Repository || s.Branch != home.Branch {
		return nil
	}
	at := doc.mark("spec.source.path")
	entry, err := c.g.lookup(s.Path)
	if errors.Is(err, fs.ErrNotExist) {
		c.g.errs.add(at, fmt.Sprintf("no folder %q", s.Path), "the environment's manifests are in it", "correct the path, or add the folder in the same commit")
		return nil
	}
	if err != nil {
		var errs Errors
		if !refused(&errs, s.Path, err) {
			return err
		}
		c.g.errs = append(c.g.errs, Error{Position: at, What: fmt.Sprintf("folder %q cannot be read", s.Path), Why: errs[0].Why, Remedy: errs[0].Remedy, cause: err})
		return nil
	}
	if !entry.IsDir {
		c.g.errs.add(at, fmt.Sprintf("%q is a file", s.Path), "the path of a source is a folder with a kustomization", "name the folder")
	}
	return nil
}

// target refuses two environments that would deploy the same objects.
func (c *check) target(e *Environment, doc *document, targets map[string]string) {
	s := e.Spec
	if s.Namespace == "" || s.Source.Path == "" {
		return
	}
	key := strings.Join([]string{s.Cluster, s.Namespace, s.Source.Repository, s.Source.Branch, s.Source.Path}, "\x00")
	other, ok := targets[key]
	if !ok {
		targets[key] = e.Meta.Name
		return
	}
	at := c.doc["Environment "+other].mark("metadata.name")
	c.g.errs.add(doc.mark("spec.source.path"), fmt.Sprintf("environments %q and %q deploy the same path to the same namespace", other, e.Meta.Name),
		fmt.Sprintf("both would own the same objects; %q is declared at %s", other, at), "remove one of the two, or change its cluster, namespace or path")
}

// health refuses two checks of one name in the list that doc has at path.
func (c *check) health(h Health, doc *document, path string) {
	if _, own := doc.marks[path]; !own {
		return
	}
	seen := map[string]int{}
	for i, check := range h.HTTP {
		first, ok := seen[check.Name]
		if !ok {
			seen[check.Name] = i
			continue
		}
		if check.Name != "" {
			at := doc.mark(fmt.Sprintf("%s[%d].name", path, first))
			c.g.errs.add(doc.mark(fmt.Sprintf("%s[%d].name", path, i)), fmt.Sprintf("health check %q is declared twice", check.Name), "it is already declared at "+at.String(), "rename one of the two")
		}
	}
}

func (c *check) dependencies(e *Environment, doc *document) {
	for i, name := range e.Spec.DependsOn {
		at := doc.mark(fmt.Sprintf("spec.dependsOn[%d]", i))
		switch {
		case name == "":
		case name == e.Meta.Name:
			c.g.errs.add(at, fmt.Sprintf("environment %q depends on itself", name), "it would wait for itself forever", "remove the dependency")
		case c.set.Environments[name] == nil && c.g.complete:
			c.unknown(at, "environment", name, slices.Sorted(maps.Keys(c.set.Environments)))
		}
	}
}

// cycles reports every dependency that leads back to where it came from.
func (c *check) cycles(names []string) {
	const (
		untouched = iota
		underway
		done
	)
	state := map[string]int{}
	var trail []string
	var visit func(name string)
	visit = func(name string) {
		state[name] = underway
		trail = append(trail, name)
		for i, next := range c.set.Environments[name].Spec.DependsOn {
			switch {
			case next == name || c.set.Environments[next] == nil: // reported by dependencies
			case state[next] == untouched:
				visit(next)
			case state[next] == underway:
				loop := append(slices.Clone(trail[slices.Index(trail, next):]), next)
				c.g.errs.add(c.doc["Environment "+name].mark(fmt.Sprintf("spec.dependsOn[%d]", i)), "dependsOn goes in a circle",
					strings.Join(loop, " -> ")+", and each would wait for the next forever", "remove one of these dependencies")
			}
		}
		trail = trail[:len(trail)-1]
		state[name] = done
	}
	for _, name := range names {
		if state[name] == untouched {
			visit(name)
		}
	}
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
