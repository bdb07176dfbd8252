package declaration

import (
	"strings"
	"testing"
	"time"
)

// What is warned of: a class, or governance, by which one person, or whoever administers a forge, gets past the others.
func TestWarnings(t *testing.T) {
	const header = "apiVersion: purser.dev/v1alpha1\nkind: "
	person := func(name, roles, key, more string) string {
		return header + "Person\nmetadata: {name: " + name + "}\nspec:\n  roles: [" + roles + "]\n  keys: [{ssh: " + key + more + "}]\n---\n"
	}
	people := func(expires string) string {
		return person("release-manager-1", "release-manager, governance-owner", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIM659Q0iIvDB11U44lG5pIi5qbP7+Tc9z0Z2c5SwvjkM", expires) +
			person("release-manager-2", "release-manager, governance-owner", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIH/KqsCGpzrja2KMaI15yZVrNS2LHzQLvcdepNHAyROj", expires) +
			person("dba-1", "dba", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEIzHmi1jumVqpmQpA6Hsz0OtVqUyC4YPZ9nHicEkyFd", "")
	}
	class := func(name, spec string) string {
		return header + "ReleaseClass\nmetadata: {name: " + name + "}\nspec: " + spec + "\n---\n"
	}
	estateOf := func(governance string) string {
		return header + "Estate\nmetadata: {name: sample}\nspec: {governance: " + governance + "}\n---\n"
	}
	const one, signed = "approvals: [{count: 1, roles: [release-manager]}]", "approvals: [{count: 1, roles: [release-manager], by: statement}]"
	owned := estateOf("{approvals: [{count: 1, roles: [governance-owner], by: statement}]}")
	reviewed := estateOf("{approvals: [{count: 1, roles: [governance-owner]}]}")
	for name, test := range map[string]struct {
		text string
		want []string
	}{
		"nothing":                        {owned + people("") + class("high", "{rank: 30, signatures: required, "+signed+"}"), nil},
		"an override instead of people":  {owned + people("") + class("high", "{rank: 30, "+one+", override: {gates: [approvals]}}"), []string{`class "high" demands less of overrides`, `one person can do without the approvals (1) that class "high" demands`}},
		"an override of both":            {owned + people("") + class("high", "{rank: 30, signatures: required, "+one+", override: {gates: [signatures, approvals]}}"), []string{`class "high" demands less of overrides`, "the approvals (1) and the signatures"}},
		"an override of what none asks":  {owned + people("") + class("high", "{rank: 30, override: {gates: [signatures, approvals]}}"), []string{`class "high" demands less of overrides`}},
		"an override of the calendar":    {owned + people("") + class("high", "{rank: 30, "+one+", override: {gates: [calendar]}}"), nil},
		"the higher class takes reviews": {owned + people("") + class("high", "{rank: 30, "+signed+"}") + class("urgent", "{rank: 40, "+one+"}"), []string{`class "urgent" demands 0 signed statements (by: statement), where "high" demands 1`}},
		"the declarations take reviews":  {reviewed + people("") + class("high", "{rank: 30, "+signed+"}"), []string{`class "high" takes signed statements of some people, and a change of the declarations takes reviews of all`}},
		"the forge tells the authors":    {owned + people("") + class("high", "{rank: 30, authorship: forge, "+signed+"}"), []string{"sign for a change of their own", "knows authors by their accounts"}},
		"the forge tells the owners":     {estateOf("{authorship: forge, approvals: [{count: 1, roles: [governance-owner], by: statement}]}") + people(""), []string{"spec.governance takes signed statements", "knows authors by their accounts"}},
		"as many as the class asks for, and nobody else": {owned + people("") + class("high", "{rank: 30, approvals: [{count: 2, roles: [release-manager]}]}"),
			[]string{`nobody could let a first release of class "high" in: of it nobody looks up who made it, so that one person more than the class asks for has to approve, each by a signed statement: 3,`}},
		"a first release of two roles":    {owned + people("") + class("high", "{rank: 30, approvals: [{count: 1, roles: [release-manager]}, {count: 1, roles: [dba]}]}"), nil},
		"keys that are valid":             {reviewed + people(", validBefore: 2026-12-01T00:00:00Z") + class("high", "{rank: 30, "+one+"}"), nil},
		"keys that have expired":          {reviewed + people(", validBefore: 2026-11-01T00:00:00Z") + class("high", "{rank: 30, "+one+"}"), []string{`class "high" cannot be satisfied now: of those who can approve as release-manager too few`, "spec.governance cannot be satisfied now"}},
		"keys that are not valid so soon": {reviewed + people(", validAfter: 2026-12-01T00:00:00Z"), []string{"spec.governance cannot be satisfied now"}},
	} {
		set, err := Parse(estate(t, "a.yaml", strings.TrimSuffix(test.text, "---\n")), "purser", Known{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got []string
		for _, w := range set.Warnings(time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)) {
			got = append(got, w.Error())
		}
		matches := len(got) == len(test.want)
		for i := range min(len(got), len(test.want)) {
			matches = matches && strings.Contains(got[i], test.want[i])
		}
		if !matches {
			t.Errorf("%s: warned of\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(test.want, "\n"))
		}
	}
}
