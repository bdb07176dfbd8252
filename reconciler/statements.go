package reconciler

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/declaration"
	"github.com/purser-gitops/purser/sources/identity"
	"github.com/purser-gitops/purser/sources/statement"
)

// hear reads the statements that a poll of the governance source found, and records each word for word. Those that do not
// count are recorded as well, with the reason. A person's statement is heard once: what happens to its ref later changes
// nothing. What is junk takes nobody's place: its ref is looked at again when it moves or the declarations change.
func (a *Agent) hear() error {
	src := a.sources[a.config.Governance.Source]
	l := a.inForce()
	var found []heard
	var problems []error
	looked := map[string]look{}
	for _, ref := range src.repo.Refs(statement.RefPrefix) {
		commit, there := src.repo.Ref(ref)
		at := look{commit: commit, law: l}
		if !there || a.journal.heard(strings.TrimPrefix(ref, statement.RefPrefix)) {
			continue
		}
		if a.looked[ref] == at {
			looked[ref] = at
			continue
		}
		one, err := readStatement(src, ref, commit)
		if err != nil {
			problems = append(problems, fmt.Errorf("statement %s: %w", ref, err))
			continue
		}
		one.again = a.looked[ref].commit == commit && a.looked[ref].law != nil
		found, looked[ref] = append(found, one), at
	}
	a.looked = looked
	slices.SortStableFunc(found, heard.compare)
	about := map[string]bool{} // environments; they are judged when all is heard, so that a pause beside an approval holds
	for _, one := range found {
		environment, err := a.hearOne(l, one)
		if err != nil {
			problems = append(problems, fmt.Errorf("statement %s: %w", one.ref, err))
			delete(looked, one.ref)
		}
		about[environment] = true
	}
	for environment := range about {
		if environment != "" {
			a.wake(environment)
		}
	}
	return errors.Join(problems...)
}

// heard is a statement as a ref has it.
type heard struct {
	ref        string
	commit     string
	signed     statement.Signed
	unreadable error // why it is none
	said       statement.Statement
	again      bool // it was looked at before, by other declarations, and so recorded if it is junk
}

// look is what a statement's ref had, and the declarations in force, when it was looked at.
type look struct {
	commit string
	law    *law
}

// restraining verbs come last of those that are said in one second: what somebody takes back is taken back.
var restraining = []statement.Verb{statement.Revoke, statement.Pause, statement.Abort}

// compare puts statements into the order in which people say that they made them, so that what is said later is heard later,
// also when one poll brings both.
func (h heard) compare(o heard) int {
	last := func(v statement.Verb) int { return 1 + slices.Index(restraining, v) }
	return cmp.Or(h.said.At.Compare(o.said.At), cmp.Compare(last(h.said.Verb), last(o.said.Verb)), strings.Compare(h.ref, o.ref))
}

// readStatement reads what a ref has. It fails where another try may not.
func readStatement(src *source, ref, commit string) (heard, error) {
	one := heard{ref: ref, commit: commit}
	one.signed, one.unreadable = statement.Read(src.repo, ref, commit)
	if one.unreadable == nil {
		one.said, one.unreadable = statement.Decode(one.signed.Payload)
	}
	if one.unreadable != nil && passing(one.unreadable) {
		return heard{}, one.unreadable
	}
	return one, nil
}

// hearOne records one statement, and gives the environment that has to be judged again; "" for none.
func (a *Agent) hearOne(l *law, one heard) (environment string, err error) {
	name := strings.TrimPrefix(one.ref, statement.RefPrefix)
	if one.unreadable != nil {
		return "", a.recordJunk(one, evidence.Statement{ID: shorten(name, refBytes), Refused: shorten(one.unreadable.Error(), messageBytes)})
	}
	said, by, record := a.judgeStatement(l, one.signed)
	if record.Unproven && l == nil {
		return "", nil // once there is a governance, it may be somebody's
	}
	if record.Unproven {
		return "", a.recordJunk(one, record)
	}
	if a.journal.heard(refusedOf(name, by.Key)) {
		return "", nil
	}
	record.Ref = one.ref
	draft := evidence.Draft{Type: evidence.TypeStatement, Predicate: record}
	if record.Refused == "" && said.Environment != statement.Governance {
		draft.Environment = said.Environment
	}
	if _, err := a.journal.record(draft); err != nil {
		return "", err
	}
	a.at("heard")
	a.logger.Info("statement", "id", name, "verb", said.Verb, "environment", said.Environment, "person", by.Person, "refused", record.Refused)
	a.metrics.statements.WithLabelValues(string(said.Verb), strconv.FormatBool(record.Refused == "")).Inc()
	if record.Refused != "" {
		return "", nil
	}
	if said.Verb == statement.Abort || said.Verb == statement.Lift {
		if err := a.vetoByStatement(said, by, name); err != nil {
			return "", err
		}
	}
	return draft.Environment, nil // governance is considered next, in any case
}

const (
	junkPeriod = 24 * time.Hour
	junkMax    = 100 // records of one period
	refBytes   = 256
)

// isJunk reports whether a signature is that of a stranger, or was made with a key that was given up, which a thief may hold. What
// counts later of what is junk now is up to the declarations alone: time does not make a key that has expired valid.
func isJunk(by identity.Signature) bool {
	return by.Person == "" || by.Status == identity.Revoked || by.Status == identity.Expired
}

// recordJunk records junk as far as a stranger may fill the log: each once a period, and few in all.
func (a *Agent) recordJunk(one heard, record evidence.Statement) error {
	record.Ref, record.Commit, record.Unproven = shorten(one.ref, refBytes), one.commit, true
	var due bool
	a.journal.read(func(s *State) { due = !one.again && s.Junk.due(record, a.now()) })
	if !due {
		a.logger.Debug("junk statement", "ref", record.Ref, "refused", record.Refused)
		return nil
	}
	if _, err := a.journal.record(evidence.Draft{Type: evidence.TypeStatement, Predicate: record}); err != nil {
		return err
	}
	a.logger.Warn("junk statement", "ref", record.Ref, "refused", record.Refused, "recorded", fmt.Sprintf("at most %d a day", junkMax))
	a.metrics.statements.WithLabelValues("", "false").Inc()
	return nil
}

// Junk is what strangers, or keys that were given up, signed, as far as it was recorded in a period.
type Junk struct {
	Since time.Time `json:"since,omitzero"`
	Heard []string  `json:"heard,omitempty"` // digests of ref, commit and signature; at most junkMax
}

func (j Junk) over(now time.Time) bool { return now.Sub(j.Since).Abs() >= junkPeriod }

func (j Junk) due(p evidence.Statement, now time.Time) bool {
	return j.over(now) || len(j.Heard) < junkMax && !slices.Contains(j.Heard, junkOf(p))
}

// with adds what was recorded.
func (j Junk) with(p evidence.Statement, at time.Time) Junk {
	if j.over(at) {
		j = Junk{Since: at}
	}
	j.Heard = append(slices.Clone(j.Heard), junkOf(p))
	return j
}

// junkOf tells apart what two refs, or one that moved, have.
func junkOf(p evidence.Statement) string {
	sum := sha256.Sum256([]byte(p.Ref + "\n" + p.Commit + "\n" + p.Signature))
	return hex.EncodeToString(sum[:])
}

// refusedOf stands for a statement that does not count, of the holder of a key. It keeps that from being judged again, so that it
// does not come to count as time passes, and whoever else signs the same bytes, or the same person with another key, is heard.
func refusedOf(id, key string) string { return id + " " + key }

// judgeStatement says what was said, by whom, and what to record of it: also why it does not count.
func (a *Agent) judgeStatement(l *law, signed statement.Signed) (statement.Statement, identity.Signature, evidence.Statement) {
	said, by := a.attribute(l, signed)
	record := evidence.Statement{ID: signed.ID(), Payload: signed.Payload, Signature: string(signed.Signature), Person: by.Person, Key: by.Key, Unproven: isJunk(by)}
	if said.Statement != "" { // it is about another statement, and so about that one's environment
		said.Environment = a.environmentOf(said.Statement)
	}
	if record.Refused = by.String(); by.Counts() {
		record.Refused = a.pointless(l, said, by)
	}
	return said, by, record
}

// attribute says whose statement it is: a person's, or, about the declarations, that of a root key.
func (a *Agent) attribute(l *law, signed statement.Signed) (statement.Statement, identity.Signature) {
	now := a.now()
	nobody := identity.Signature{Status: identity.UnknownKey, Detail: "no person declares the key"}
	said, by := statement.Statement{}, nobody
	if l != nil {
		said, by = statement.Verify(l.Keyring, signed, now)
	}
	if by.Status == identity.UnknownKey && a.root != nil {
		if rootSaid, rootBy := statement.Verify(a.root, signed, now); rootBy.Person != "" && rootSaid.Environment == statement.Governance {
			return rootSaid, rootBy
		}
	}
	return said, by
}

// pointless says why a statement of a person can have no effect; "" when it can.
func (a *Agent) pointless(l *law, said statement.Statement, by identity.Signature) string {
	now := a.now()
	if !said.Expires.IsZero() && !now.Before(said.Expires) {
		return "it expired at " + said.Expires.UTC().Format(time.RFC3339)
	}
	if lapses := said.Expires.IsZero() && said.Verb != statement.Pause && said.Verb != statement.Revoke; lapses && now.Sub(said.At) > statement.MaxValidity {
		return fmt.Sprintf("it was said at %s, more than 7 days before it was heard: say it again", said.At.UTC().Format(time.RFC3339))
	}
	if why := a.elsewhere(said); why != "" {
		return why
	}
	if strings.HasPrefix(by.Person, rootPerson) {
		if said.Verb != statement.Approve {
			return "root keys approve governance, and nothing else"
		}
		return ""
	}
	voter := l.people[by.Person]
	if said.Environment == "" {
		return "there is no statement in force that it could be about"
	}
	if said.Environment != statement.Governance && l.Environments[said.Environment] == nil {
		return fmt.Sprintf("environment %q is not declared", said.Environment)
	}
	if said.Statement == "" && said.Environment != statement.Governance {
		switch name := l.estate(); {
		case name == "":
			return "this estate has no name, so nothing can be said that counts in no other: declare an Estate"
		case said.Estate != name:
			return fmt.Sprintf("it is about an environment of the estate %q, and this estate is %q", said.Estate, name)
		}
	}
	state := a.journal.environment(said.Environment)
	switch said.Verb {
	case statement.Approve:
		if l.Classes[said.Class] == nil && said.Environment != statement.Governance {
			return fmt.Sprintf("class %q is not declared", said.Class)
		}
	case statement.ApproveDelete:
		if !policy.MayDelete(voter) {
			return noRole(by.Person, policy.DeletionRoles)
		}
	case statement.Override:
		for _, gate := range said.Gates {
			if err := policy.MayOverride(gate); err != nil {
				return err.Error()
			}
		}
		return mayOrder(voter, by.Person)
	case statement.Review:
		i := slices.IndexFunc(state.Overrides, func(o policy.Override) bool { return o.Statement.ID == said.Statement })
		switch {
		case i < 0:
			return "it reviews an override that there is not"
		case state.Overrides[i].Used == nil:
			return "the override was not used yet: there is nothing to review"
		case state.Overrides[i].Statement.Person == by.Person:
			return "nobody reviews an override of their own"
		}
		if class := l.Classes[state.Overrides[i].Class]; !policy.MayReview(voter, class) {
			return noRole(by.Person, policy.ReviewRoles(class))
		}
	case statement.Revoke:
		return a.revocable(state, said, by.Person)
	case statement.Resume:
		if refused := mayOrder(voter, by.Person); refused != "" {
			return refused
		}
		return a.saidTooEarly(state, said)
	default: // lift, pause, abort
		return mayOrder(voter, by.Person)
	}
	return ""
}

// elsewhere says why a statement is not meant for this estate's repository; "" when it is. What is said in a copy of the
// repository, with the same names and even the same releases, counts only there. What is about another statement is bound
// by that one.
func (a *Agent) elsewhere(said statement.Statement) string {
	if said.Statement != "" {
		return ""
	}
	ours := a.addresses()
	switch {
	case said.Repository == "":
		return "it does not name the repository that it is meant for, which is " + strings.Join(ours, ", ") + ": say it again, with this version of purser"
	case !slices.Contains(ours, said.Repository):
		return fmt.Sprintf("it is meant for the repository %s, and this is %s: say it again with --repository or, if that is the same, add it to governance.addresses of the agent's configuration",
			said.Repository, strings.Join(ours, ", "))
	}
	return ""
}

// addresses are those of the governance source, as statements name it.
func (a *Agent) addresses() []string {
	var list []string
	for _, c := range a.config.Sources {
		if c.Name != a.config.Governance.Source {
			continue
		}
		for _, raw := range append([]string{c.URL}, a.config.Governance.Addresses...) {
			if address, err := sources.Address(raw); err == nil {
				list = append(list, address)
			}
		}
	}
	return list
}

// saidTooEarly says why a resume does not confirm that the log lacks nothing; "" when it does, or nothing has to be confirmed.
// One from before the data directory began anew is heard again by a log that was set back, and nobody looked.
func (a *Agent) saidTooEarly(state EnvironmentState, said statement.Statement) string {
	sure, began := false, time.Time{}
	a.journal.read(func(s *State) { sure, began = s.sure(state), s.EpochAt })
	if sure || !said.At.Before(began.Truncate(time.Second)) {
		return ""
	}
	return fmt.Sprintf("it was said at %s, and the data directory began anew at %s: say it again, by a clock that is right",
		said.At.UTC().Format(time.RFC3339), began.UTC().Format(time.RFC3339))
}

// mayOrder says why somebody may not give orders about an environment; "" when they may.
func mayOrder(v policy.Voter, person string) string {
	if policy.MayOrder(v) {
		return ""
	}
	return noRole(person, declaration.OrderRoles)
}

// noRole says why somebody does not count.
func noRole(person string, roles []string) string {
	return fmt.Sprintf("%s is a bot, or has none of the roles %s", person, strings.Join(roles, ", "))
}

// revocable says why a statement cannot be taken back; "" when it can: it is one's own, and was not used up.
func (a *Agent) revocable(state EnvironmentState, said statement.Statement, person string) string {
	statements := state.Statements
	if said.Environment == statement.Governance {
		a.journal.read(func(s *State) { statements = s.Governance.Statements })
	}
	for _, o := range state.Overrides {
		if o.Used == nil {
			statements = append(slices.Clone(statements), o.Statement)
		}
	}
	for _, s := range statements {
		switch {
		case s.ID != said.Statement:
		case s.Person != person:
			return "it is the statement of " + s.Person
		default:
			return ""
		}
	}
	return "it was used already, or is not in force"
}

// environmentOf finds the environment that a statement in force is about; "" when there is none.
func (a *Agent) environmentOf(id string) string {
	is := func(s policy.Statement) bool { return s.ID == id }
	found := ""
	a.journal.read(func(s *State) {
		if slices.ContainsFunc(s.Governance.Statements, is) {
			found = statement.Governance
		}
		for name, e := range s.Environments {
			if slices.ContainsFunc(e.Statements, is) || slices.ContainsFunc(e.Overrides, func(o policy.Override) bool { return is(o.Statement) }) {
				found = name
			}
		}
	})
	return found
}

// vetoByStatement records what an abort or a lift does to a release.
func (a *Agent) vetoByStatement(said statement.Statement, by identity.Signature, id string) error {
	state := a.journal.environment(said.Environment)
	v := evidence.Veto{Release: said.To, Reason: said.Reason, By: by.Person, Statement: id, Lifted: said.Verb == statement.Lift}
	if said.Verb == statement.Abort {
		switch {
		case state.Approved == nil || state.Live.is(state.Approved.Release):
			return nil // nothing is under way; the statement is recorded
		case v.Release == "":
			v.Release = state.Approved.Release
		}
	}
	if !v.Lifted {
		a.metrics.failures.WithLabelValues(said.Environment, causeVeto).Inc()
	}
	_, err := a.journal.record(ofRelease(evidence.TypeVeto, said.Environment, v.Release, v))
	return err
}

// foldStatement takes what a person said.
func foldStatement(s *State, r evidence.Record, p evidence.Statement) {
	switch {
	case p.Unproven:
		s.Junk = s.Junk.with(p, r.Time)
	case p.Refused != "":
		s.Statements[refusedOf(p.ID, p.Key)] = true
	default:
		s.Statements[p.ID] = true
	}
	said, err := statement.Decode(p.Payload)
	if p.Refused != "" || err != nil {
		return
	}
	says := policy.Statement{
		ID: p.ID, Verb: string(said.Verb), Person: p.Person, Key: p.Key, From: said.From, To: said.To, Class: said.Class,
		Gates: said.Gates, Reason: said.Reason, Ticket: said.Ticket, Expires: said.Expires, Seen: r.Time,
	}
	if r.Environment == "" {
		foldAmendmentStatement(&s.Governance, says, said)
		return
	}
	e := s.environment(r.Environment)
	switch said.Verb {
	case statement.Approve, statement.ApproveDelete:
		e.Statements = append(slices.Clone(e.Statements), says)
	case statement.Revoke:
		e.Statements = without(e.Statements, said.Statement)
		e.Overrides = slices.DeleteFunc(slices.Clone(e.Overrides), func(o policy.Override) bool { return o.Used == nil && o.Statement.ID == said.Statement })
	case statement.Override:
		e.Overrides = append(slices.Clone(e.Overrides), policy.Override{Statement: says})
	case statement.Review:
		e.Overrides = slices.Clone(e.Overrides)
		for i := range e.Overrides {
			if e.Overrides[i].Statement.ID == said.Statement {
				e.Overrides[i].Reviewer = p.Person
			}
		}
	case statement.Pause:
		e.Hold = &policy.Hold{Person: p.Person, Reason: said.Reason, Since: r.Time}
	case statement.Resume:
		e.Hold, e.SureEpoch = nil, r.Epoch
	}
}

func foldAmendmentStatement(g *Governance, says policy.Statement, said statement.Statement) {
	switch root := strings.HasPrefix(says.Person, rootPerson); {
	case root:
		g.Root = append(slices.Clone(g.Root), says)
	case said.Verb == statement.Approve:
		g.Statements = append(slices.Clone(g.Statements), says)
	case said.Verb == statement.Revoke:
		g.Statements = without(g.Statements, said.Statement)
	}
}

// without drops a statement.
func without(list []policy.Statement, id string) []policy.Statement {
	return slices.DeleteFunc(slices.Clone(list), func(s policy.Statement) bool { return s.ID == id })
}

// spend closes what an approved release used up: approvals, and overrides that opened a gate, which are to be reviewed
// from now on.
func (e *EnvironmentState) spend(v policy.Verdict, release, class string, at time.Time) {
	opened := map[string][]string{} // gates, by override
	for _, g := range v.Gates {
		if g.Override != "" {
			opened[g.Override] = append(opened[g.Override], g.Gate)
		}
	}
	e.Statements = nil
	e.useOverrides(opened, release, class, at)
}

// useOverrides notes that a release of a class used some overrides, by the gates that they opened, and drops those that are
// over.
func (e *EnvironmentState) useOverrides(opened map[string][]string, release, class string, at time.Time) {
	var left []policy.Override
	for _, o := range e.Overrides {
		if gates := opened[o.Statement.ID]; len(gates) > 0 {
			if o.Used == nil {
				o.Used, o.Release, o.Class = &at, release, class
			}
			o.Opened = slices.Compact(slices.Sorted(slices.Values(slices.Concat(o.Opened, gates))))
		}
		done := o.Used != nil && o.Reviewer != ""
		if expired := !at.Before(o.Statement.Expires); !done && (o.Used != nil || !expired) {
			left = append(left, o)
		}
	}
	e.Overrides = left
}

// foldVeto keeps a release away, or lets it in again. A veto of the release under way approves what is live again, unless
// a rollback left what is live; any other moves no pointer.
func foldVeto(s *State, r evidence.Record, p evidence.Veto) {
	e := s.environment(r.Environment)
	if p.Lifted {
		e.Vetoes = maps.Clone(e.Vetoes)
		delete(e.Vetoes, p.Release)
	} else {
		e.veto(p.Release, policy.Veto{Reason: p.Reason, By: p.By, At: r.Time})
	}
	if !p.Lifted && e.Approved.is(p.Release) && e.Live != nil && e.Live.Release != p.Release && !e.Live.Left {
		e.goBack(r.Time)
		e.Used = Used{} // whoever lifts the veto asks for new approvals
	}
}

// veto keeps a release away.
func (e *EnvironmentState) veto(release string, v policy.Veto) {
	vetoes := maps.Clone(e.Vetoes)
	if vetoes == nil {
		vetoes = map[string]policy.Veto{}
	}
	vetoes[release] = v
	e.Vetoes = vetoes
}
