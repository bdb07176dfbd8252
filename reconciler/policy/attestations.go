package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/purser-gitops/purser/sources/declaration"
)

// Attestation is an in-toto statement that was committed with the release.
type Attestation struct {
	Path          string `json:"path"`
	PredicateType string `json:"predicateType,omitempty"`
	// Subjects are the digests it is about: algorithm:value.
	Subjects []string `json:"subjects,omitempty"`
	Signer   string   `json:"signer,omitempty"`  // person whose key signed it
	Problem  string   `json:"problem,omitempty"` // why it does not count
	// Failed: its predicate says that the tests did not pass.
	Failed bool `json:"failed,omitempty"`
	// SameManifests: it is about a commit that has the same manifests as the candidate; release.yaml, which lists
	// attestations, may differ.
	SameManifests bool `json:"sameManifests,omitempty"`
}

// tests passes when every attestation that the class asks for is there, signed, and about these images or this commit.
func tests(c Candidate, f Facts, _ time.Time) Result {
	rules := c.Class.Spec.Tests
	if len(rules) == 0 {
		return allow("the class asks for no attestations")
	}
	var by []string
	for _, rule := range rules {
		who, why := attested(c, f, rule)
		if who == "" {
			return Result{Answer: Deny, Reason: fmt.Sprintf("no %s about the %s that counts: %s", rule.PredicateType, rule.About, why),
				Hint: "commit it beside release.yaml and list it under spec.attestations"}
		}
		by = append(by, fmt.Sprintf("%s by %s", rule.PredicateType, who))
	}
	return allow("attested: " + some(by))
}

// attested finds the signer of an attestation that meets a rule, or says why there is none.
func attested(c Candidate, f Facts, rule declaration.TestDemand) (signer, why string) {
	var problems []string
	for _, a := range f.Attestations {
		if a.Problem != "" {
			problems = append(problems, a.Path+": "+a.Problem)
			continue
		}
		if a.PredicateType != rule.PredicateType {
			continue
		}
		voter, known := f.People[a.Signer]
		switch missing := uncovered(c, a, rule.About); {
		case a.Failed:
			problems = append(problems, a.Path+": it says that tests failed")
		case !known || !voter.anyRole(rule.Roles):
			problems = append(problems, fmt.Sprintf("%s: %s has none of the roles %s", a.Path, a.Signer, strings.Join(rule.Roles, ", ")))
		case voter.Bot && !rule.Bots:
			problems = append(problems, fmt.Sprintf("%s: %s is a bot", a.Path, a.Signer))
		case missing != "":
			problems = append(problems, a.Path+": it is not about "+missing)
		default:
			return a.Signer, ""
		}
	}
	if len(problems) == 0 {
		return "", "there is none"
	}
	return "", some(problems)
}

// uncovered says what the attestation should be about and is not; "" when it is about everything.
func uncovered(c Candidate, a Attestation, about string) string {
	if about == declaration.AboutCommit {
		if a.SameManifests {
			return ""
		}
		return "a commit with the candidate's manifests"
	}
	if len(c.Release.Images) == 0 {
		return "an image: the release has none"
	}
	for _, role := range slices.Sorted(maps.Keys(c.Release.Images)) {
		_, digest, ok := strings.Cut(c.Release.Images[role], "@")
		if !ok || !slices.Contains(a.Subjects, digest) {
			return c.Release.Images[role]
		}
	}
	return ""
}
