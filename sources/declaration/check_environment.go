package declaration

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
)

// reservedName is where the audit remote keeps the governance, beside the environments.
const reservedName = "governance"

// tenants refuses two tenants that could touch one namespace.
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
	implied := c.g.known.Cluster
	if implied == "" && len(names) == 1 {
		implied = names[0]
	}
	at, given := doc.marks["spec.cluster"]
	switch {
	case !given && implied != "":
		e.Spec.Cluster = implied
	case len(names) == 0:
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
	names := make([]string, len(h.HTTP))
	for i, check := range h.HTTP {
		names[i] = check.Name
	}
	c.distinct(doc, path, "health check", names)
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

// link is an environment that another one refers to, and the path of the field that does.
type link struct{ name, path string }

func dependencyLinks(e *Environment) []link {
	links := make([]link, len(e.Spec.DependsOn))
	for i, name := range e.Spec.DependsOn {
		links[i] = link{name, fmt.Sprintf("spec.dependsOn[%d]", i)}
	}
	return links
}

func promotionLinks(e *Environment) []link {
	if e.Spec.Promotion.From == "" {
		return nil
	}
	return []link{{e.Spec.Promotion.From, "spec.promotion.from"}}
}

// cycles reports every link that leads back to where it came from. What names the field, remedy what to do.
func (c *check) cycles(names []string, links func(*Environment) []link, what, remedy string) {
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
		for _, next := range links(c.set.Environments[name]) {
			switch {
			case next.name == name || c.set.Environments[next.name] == nil: // reported where each link is judged
			case state[next.name] == untouched:
				visit(next.name)
			case state[next.name] == underway:
				loop := append(slices.Clone(trail[slices.Index(trail, next.name):]), next.name)
				c.g.errs.add(c.doc["Environment "+name].mark(next.path), what+" goes in a circle",
					strings.Join(loop, " -> ")+", and each would wait for the next forever", remedy)
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

// promotion judges where the releases of an environment run first.
func (c *check) promotion(e *Environment, doc *document) {
	from := e.Spec.Promotion.From
	class := c.set.Classes[e.Spec.Class]
	switch {
	case from == e.Meta.Name:
		c.g.errs.add(doc.mark("spec.promotion.from"), fmt.Sprintf("environment %q is promoted from itself", from), "a release would have to run there before it may run there", "name the environment that comes before it")
	case from != "" && c.set.Environments[from] == nil && c.g.complete:
		c.unknown(doc.mark("spec.promotion.from"), "environment", from, slices.Sorted(maps.Keys(c.set.Environments)))
	case from == "" && !doc.broken && class != nil && class.Spec.Promotion.Required:
		c.g.errs.add(doc.mark("spec.class"), fmt.Sprintf("environment %q has no promotion", e.Meta.Name),
			fmt.Sprintf("its class %q demands that a release ran elsewhere first, so none could ever be approved", e.Spec.Class),
			`add "promotion:" with "from:", or choose another class`)
	}
}

// renames judges the name that an environment had before: what it owns cannot be somebody else's.
func (c *check) renames(names []string) {
	heirs := map[string]string{}
	for _, name := range names {
		from, at := c.set.Environments[name].Spec.RenamedFrom, c.doc["Environment "+name].mark("spec.renamedFrom")
		switch {
		case from == "":
		case c.set.Environments[from] != nil:
			c.g.errs.add(at, fmt.Sprintf("environment %q cannot be the renamed %q", name, from), "that is still declared, and its objects are its own", "remove one of the two: the declaration, or renamedFrom")
		case heirs[from] != "":
			c.g.errs.add(at, fmt.Sprintf("environment %q cannot be the renamed %q", name, from), fmt.Sprintf("environment %q is already", heirs[from]), "remove renamedFrom from one of the two")
		default:
			heirs[from] = name
		}
	}
}

// rules judges what an environment refers to besides other environments.
func (c *check) rules(e *Environment, doc *document) {
	if name := e.Spec.Class; name != "" && given(doc, "spec.class") {
		c.class(doc.mark("spec.class"), name)
	}
	if name := e.Spec.Calendar; name != "" && given(doc, "spec.calendar") {
		c.calendarNamed(doc.mark("spec.calendar"), name)
	}
}

// openings judges each pair of class and calendar that environments have.
func (c *check) openings(names []string) {
	type pair struct {
		class    *ReleaseClass
		calendar *Calendar
	}
	seen := map[pair]bool{}
	for _, name := range names {
		s := c.set.Environments[name].Spec
		p := pair{c.set.Classes[s.Class], c.set.Calendars[s.Calendar]}
		if p.class != nil && p.calendar != nil && !seen[p] {
			seen[p] = true
			c.remaining(p.class, p.calendar)
		}
	}
}

// neighbours refuses two environments of one namespace that are judged differently: what one keeps out would come in
// through the other.
func (c *check) neighbours(e *Environment, doc *document, first map[string]string) {
	s := e.Spec
	key := s.Cluster + "\x00" + s.Namespace
	other, ok := first[key]
	if !ok || s.Namespace == "" {
		first[key] = e.Meta.Name
		return
	}
	t := c.set.Environments[other].Spec
	if s.Class == t.Class && s.Calendar == t.Calendar && s.Promotion == t.Promotion {
		return
	}
	c.g.errs.add(doc.mark("spec.class"), fmt.Sprintf("environments %q and %q share namespace %q and differ in class, calendar or promotion", other, e.Meta.Name, s.Namespace),
		fmt.Sprintf("what one keeps out would come in through the other; %q is declared at %s", other, c.doc["Environment "+other].mark("metadata.name")),
		"give both the same class, calendar and promotion, or one of them another namespace")
}
