package statement

import (
	"crypto/rand"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// APIVersion is that of all statements.
const APIVersion = "purser.dev/v1alpha1"

// Governance stands, as the environment of an approval, for governance itself; From and To are commits then.
const Governance = "governance"

// MaxValidity is how long an override may hold, and what is signed without an expiry of its own may wait to be heard.
const MaxValidity = 7 * 24 * time.Hour

// Verb is what a person does by a statement.
type Verb string

// The verbs.
const (
	Approve       Verb = "approve"        // every landed change between From and To, up to Class
	ApproveDelete Verb = "approve-delete" // the deletion that To is the digest of
	Revoke        Verb = "revoke"         // Statement no longer counts
	Override      Verb = "override"       // Gates do not hold until Expires, for release To or, without it, the first that needs it
	Review        Verb = "review"         // the override Statement has been looked at
	Lift          Verb = "lift"           // the veto of release To
	Pause         Verb = "pause"          // nothing new goes to Environment
	Resume        Verb = "resume"         // it goes on
	Abort         Verb = "abort"          // the deployment under way is given up
)

// Statement is one sentence of a person. Which fields a verb needs and which it may have, [Statement.Validate] says.
type Statement struct {
	APIVersion  string    `json:"apiVersion"`
	Verb        Verb      `json:"verb"`
	Environment string    `json:"environment,omitempty"`
	Estate      string    `json:"estate,omitempty"`     // name of the Estate that Environment is one of
	Repository  string    `json:"repository,omitempty"` // the estate's governance repository, a [sources.Address]
	From        string    `json:"from,omitempty"`       // release digest, or commit of governance; "" before the first
	To          string    `json:"to,omitempty"`         // likewise
	Class       string    `json:"class,omitempty"`      // the highest class of change that is approved
	Gates       []string  `json:"gates,omitempty"`      // sorted
	Reason      string    `json:"reason,omitempty"`
	Ticket      string    `json:"ticket,omitempty"`
	Statement   string    `json:"statement,omitempty"` // ID of the one that this is about
	At          time.Time `json:"at"`                  // UTC, to the second; as the person's clock says, so only a claim
	Expires     time.Time `json:"expires,omitzero"`    // UTC, to the second
	Nonce       string    `json:"nonce"`               // makes two alike differ
}

// New completes a statement that a person makes now: version, time and nonce; times are cut to the second, gates sorted.
func New(s Statement, now time.Time) Statement {
	s.APIVersion, s.At, s.Nonce = APIVersion, now.UTC().Truncate(time.Second), rand.Text()
	s.Expires = s.Expires.UTC().Truncate(time.Second)
	s.Gates = slices.Sorted(slices.Values(s.Gates))
	return s
}

// fields of a statement, by their names in JSON.
type fields []string

// rules say what each verb needs and may have beside that.
var rules = map[Verb]struct{ needs, may fields }{
	Approve:       {fields{"environment", "to", "class", "expires"}, fields{"estate", "repository", "from", "reason", "ticket"}},
	ApproveDelete: {fields{"environment", "to", "expires"}, fields{"estate", "repository", "from", "reason", "ticket"}},
	Revoke:        {fields{"statement", "reason"}, nil},
	Override:      {fields{"environment", "gates", "reason", "ticket", "expires"}, fields{"estate", "repository", "to"}},
	Review:        {fields{"statement"}, fields{"reason"}},
	Lift:          {fields{"environment", "to"}, fields{"estate", "repository", "reason", "ticket"}},
	Pause:         {fields{"environment", "reason"}, fields{"estate", "repository", "ticket"}},
	Resume:        {fields{"environment", "reason"}, fields{"estate", "repository", "ticket"}},
	Abort:         {fields{"environment", "reason"}, fields{"estate", "repository", "ticket"}},
}

// Verbs lists all verbs, sorted.
func Verbs() []Verb {
	var verbs []Verb
	for v := range rules {
		verbs = append(verbs, v)
	}
	slices.Sort(verbs)
	return verbs
}

var (
	namePattern   = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	gatePattern   = regexp.MustCompile(`^[a-z][a-zA-Z]{0,62}$`)
	noncePattern  = regexp.MustCompile(`^[A-Za-z0-9]{16,64}$`)
	idPattern     = regexp.MustCompile(`^[0-9a-f]{64}$`)
	digestPattern = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	commitPattern = regexp.MustCompile(`^[0-9a-f]{40}$`)
)

// Validate checks everything that can be checked without knowing an estate, and reports all that is wrong at once.
func (s Statement) Validate() error {
	rule, ok := rules[s.Verb]
	if !ok {
		return fmt.Errorf("verb %.40q is none of %v", s.Verb, Verbs())
	}
	governance := s.Environment == Governance
	if governance && s.Verb == Approve {
		rule.needs = slices.DeleteFunc(slices.Clone(rule.needs), func(f string) bool { return f == "class" })
	}
	var errs []error
	for _, f := range s.fields() {
		switch {
		case !f.set && slices.Contains(rule.needs, f.name):
			errs = append(errs, fmt.Errorf("%s needs %s", s.Verb, f.name))
		case f.set && !slices.Contains(rule.needs, f.name) && !slices.Contains(rule.may, f.name):
			errs = append(errs, fmt.Errorf("%s has no %s", s.Verb, f.name))
		case f.set && f.wrong != "":
			errs = append(errs, fmt.Errorf("%s: %s", f.name, f.wrong))
		}
	}
	if governance && s.Verb != Approve {
		errs = append(errs, fmt.Errorf("environment: %q is for approve only", Governance))
	}
	if s.APIVersion != APIVersion {
		errs = append(errs, fmt.Errorf("apiVersion: want %s", APIVersion))
	}
	if !noncePattern.MatchString(s.Nonce) {
		errs = append(errs, errors.New("nonce: want 16 to 64 letters and digits"))
	}
	if s.At.IsZero() || !canonicalTime(s.At) {
		errs = append(errs, errors.New("at: want a time in UTC to the second"))
	}
	return errors.Join(errs...)
}

type field struct {
	name  string
	set   bool
	wrong string // why its form is wrong
}

func (s Statement) fields() []field {
	form := func(ok bool, otherwise string) string {
		if ok {
			return ""
		}
		return otherwise
	}
	subject, want := digestPattern, `want a digest, "sha256:" and 64 hexadecimal digits`
	if s.Environment == Governance {
		subject, want = commitPattern, "want the full id of a commit, 40 hexadecimal digits"
	}
	return []field{
		{"environment", s.Environment != "", form(namePattern.MatchString(s.Environment), "want the name of an environment")},
		{"estate", s.Estate != "", form(namePattern.MatchString(s.Estate), "want the name of an estate")},
		{"repository", s.Repository != "", form(readable(s.Repository, 2000) && !strings.Contains(s.Repository, "://"), "want the address of a repository without its scheme, git.example/retail/estate")},
		{"from", s.From != "", form(subject.MatchString(s.From), want)},
		{"to", s.To != "", form(subject.MatchString(s.To) && s.To != s.From, want+", and not that of from")},
		{"class", s.Class != "", form(namePattern.MatchString(s.Class), "want the name of a class")},
		{"gates", len(s.Gates) > 0, s.wrongGates()},
		{"reason", s.Reason != "", form(readable(s.Reason, 2000), "want at most 2000 printable characters on one line")},
		{"ticket", s.Ticket != "", form(readable(s.Ticket, 200), "want at most 200 printable characters on one line")},
		{"statement", s.Statement != "", form(idPattern.MatchString(s.Statement), "want the ID of a statement, 64 hexadecimal digits")},
		{"expires", !s.Expires.IsZero(), s.wrongExpiry()},
	}
}

func (s Statement) wrongGates() string {
	for i, g := range s.Gates {
		switch {
		case !gatePattern.MatchString(g):
			return "want names of gates"
		case i > 0 && s.Gates[i-1] >= g:
			return "want each gate once, sorted"
		case g == "evidence":
			return "the gate evidence cannot be overridden"
		}
	}
	return ""
}

func (s Statement) wrongExpiry() string {
	switch {
	case !canonicalTime(s.Expires):
		return "want a time in UTC to the second"
	case !s.Expires.After(s.At):
		return "is not after at"
	case s.Verb == Override && s.Expires.Sub(s.At) > MaxValidity:
		return "an override holds for at most 7 days"
	}
	return ""
}

func canonicalTime(t time.Time) bool {
	_, offset := t.Zone()
	return offset == 0 && t.Nanosecond() == 0 && t.Year() >= 2000 && t.Year() < 10000
}

// readable refuses what a terminal or a reader could be deceived by.
func readable(text string, limit int) bool {
	return utf8.ValidString(text) && utf8.RuneCountInString(text) <= limit && strings.TrimSpace(text) == text &&
		!strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}
