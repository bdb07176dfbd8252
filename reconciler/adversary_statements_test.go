package reconciler

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/sources/statement"
)

// raw signs any bytes as a statement.
func (s *scene) raw(key, namespace, payload string) statement.Signed {
	s.t.Helper()
	return statement.Signed{Payload: []byte(payload), Signature: []byte(signSSH(s.t, key, namespace, payload) + "\n")}
}

// waiting makes a scene in which a change of developer-1 waits for one approval.
func waiting(t *testing.T) *scene {
	t.Helper()
	s := newScene(t, nil)
	s.change(draft{key: "developer-1"}, two)
	s.mustPropose()
	return s
}

// TestAdversaryStatementBytes changes the bytes of an approval that would count. None of the results counts.
func TestAdversaryStatementBytes(t *testing.T) {
	t.Parallel()
	random := seeded(t)
	s := waiting(t)
	said := s.approval()
	said.Estate, said.Repository, said.Expires = "test", "git.example/retail/estate", s.clock.Add(time.Hour)
	payload, err := statement.New(said, s.clock).Encode()
	if err != nil {
		t.Fatal(err)
	}
	text := string(payload)
	insert := func(field string) string { return strings.Replace(text, `"nonce"`, field+`,"nonce"`, 1) }
	forged := map[string]statement.Signed{
		"another namespace":  s.raw("release-manager-2", "git", text),
		"no namespace's":     s.raw("release-manager-2", "file", text),
		"a developer's":      s.raw("developer-2", statement.Namespace, text),
		"nobody's":           s.raw("nobody", statement.Namespace, text),
		"a key for commits":  s.raw("release-manager-2/commits", statement.Namespace, text),
		"a revoked key":      s.raw("release-manager-1/revoked", statement.Namespace, text),
		"another signature":  {Payload: payload, Signature: []byte(signSSH(t, "release-manager-2", statement.Namespace, text+" "))},
		"no signature":       {Payload: payload},
		"two signatures":     {Payload: payload, Signature: []byte(strings.Repeat(signSSH(t, "release-manager-2", statement.Namespace, text)+"\n", 2))},
		"text before":        {Payload: payload, Signature: []byte("x\n" + signSSH(t, "release-manager-2", statement.Namespace, text))},
		"dressed as OpenPGP": {Payload: payload, Signature: []byte(strings.ReplaceAll(signSSH(t, "release-manager-2", statement.Namespace, text), "SSH", "PGP"))},
	}
	for name, altered := range map[string]string{
		"an unknown field":    insert(`"force":true`),
		"a repeated field":    insert(`"environment":"qa"`),
		"a field of others":   insert(`"gates":["evidence"]`),
		"other case":          strings.Replace(text, `"to"`, `"To"`, 1),
		"spaces":              strings.Replace(text, `":"`, `": "`, 1),
		"no newline":          strings.TrimSpace(text),
		"something after it":  text + "{}\n",
		"an escape":           strings.Replace(text, `"dev"`, `"\u0064ev"`, 1),
		"null":                insert(`"reason":null`),
		"no nonce":            strings.Replace(text, `,"nonce"`, `,"nonse"`, 1),
		"another version":     strings.Replace(text, "v1alpha1", "v1alpha2", 1),
		"a huge reason":       insert(fmt.Sprintf(`"reason":%q`, strings.Repeat("x", 1<<20))),
		"another environment": strings.Replace(text, `"dev"`, `"qa"`, 1),
		"no environment":      strings.Replace(text, `"environment":"dev",`, "", 1),
		"another estate":      strings.Replace(text, `"estate":"test"`, `"estate":"other"`, 1),
		"no estate":           strings.Replace(text, `"estate":"test",`, "", 1),
		"another repository":  strings.Replace(text, "git.example/retail/estate", "git.example/test/estate", 1),
		"no repository":       strings.Replace(text, `"repository":"git.example/retail/estate",`, "", 1),
		"an unknown class":    strings.Replace(text, `"high"`, `"higher"`, 1),
		"a lower class":       strings.Replace(text, `"high"`, `"reviewed"`, 1),
		"another verb":        strings.Replace(text, `"approve"`, `"approve-delete"`, 1),
		"expired":             strings.Replace(text, `"expires":"2026-11-23T10`, `"expires":"2026-11-22T10`, 1),
		"of tomorrow":         strings.Replace(strings.Replace(text, `"at":"2026-11-23T`, `"at":"2026-11-24T`, 1), `"expires":"2026-11-23T`, `"expires":"2026-11-25T`, 1),
		"not JSON":            "approve dev\n",
		"nothing":             "",
	} {
		if altered == text {
			t.Fatalf("%s alters nothing of %s", name, text)
		}
		forged[name] = s.raw("release-manager-2", statement.Namespace, altered)
	}
	for i := range 100 { // whatever byte is changed after the signature
		changed, where := slices.Clone(payload), random.IntN(len(payload))
		changed[where] ^= 1 << random.IntN(7)
		forged[fmt.Sprintf("bit %d", i)] = statement.Signed{Payload: changed, Signature: []byte(signSSH(t, "release-manager-2", statement.Namespace, text))}
	}
	for name, signed := range forged {
		s.hears(signed)
		if v := s.judge("dev"); v.Answer == policy.Allow {
			t.Fatalf("%s: %s counts:\n%s", name, signed.Payload, gatesOf(v))
		}
	}
	s.stopped()
	delete(s.agent.journal.state.Statements, forged["a developer's"].ID()) // who is known, and said the same
	if refused := s.hears(s.raw("release-manager-2", statement.Namespace, text)); refused != "" {
		t.Errorf("the statement itself does not count: %s", refused)
	}
	if v := s.judge("dev"); v.Answer != policy.Allow {
		t.Error(gatesOf(v))
	}
}

// TestAdversaryStatements says what people may not say, or what no longer holds.
func TestAdversaryStatements(t *testing.T) {
	t.Parallel()
	override := func(gates ...string) statement.Statement {
		return statement.Statement{Verb: statement.Override, Environment: "dev", Gates: gates, Reason: "now", Ticket: "ERP-1"}
	}
	for name, attack := range map[string]func(s *scene){
		"a replay after it was used": func(s *scene) {
			said := s.approval()
			said.Estate, said.Repository, said.Expires = "test", "git.example/retail/estate", s.clock.Add(9*time.Hour)
			payload, err := statement.New(said, s.clock).Encode()
			if err != nil {
				s.t.Fatal(err)
			}
			signed := s.raw("release-manager-2", statement.Namespace, string(payload))
			s.hears(signed)
			s.approve("dev")
			s.live(files{"apps/dev/objects.yaml": file(mapYAML("shop", "one"))})
			s.change(draft{key: "developer-1"}, two)
			s.mustPropose()
			s.hears(signed)
		},
		"one that expires now": func(s *scene) {
			said := s.approval()
			said.Expires = s.clock.Add(time.Minute)
			s.says("release-manager-2", said)
			s.clock = s.clock.Add(time.Minute)
		},
		"one that was taken back": func(s *scene) {
			said := s.approval()
			said.Estate, said.Repository, said.Expires = "test", "git.example/retail/estate", s.clock.Add(time.Hour)
			payload, err := statement.New(said, s.clock).Encode()
			if err != nil {
				s.t.Fatal(err)
			}
			signed := s.raw("release-manager-2", statement.Namespace, string(payload))
			s.hears(signed)
			s.says("release-manager-2", statement.Statement{Verb: statement.Revoke, Statement: signed.ID(), Reason: "wrong"})
		},
		"an override by a developer":         func(s *scene) { s.says("developer-2", override("approvals")) },
		"an override by a bot":               func(s *scene) { s.says("release-bot", override("approvals")) },
		"an override with a revoked key":     func(s *scene) { s.says("release-manager-1/revoked", override("approvals")) },
		"an override of another environment": func(s *scene) { o := override("approvals"); o.Environment = "qa"; s.says("release-manager-1", o) },
		"an override of another estate":      func(s *scene) { o := override("approvals"); o.Estate = "other"; s.says("release-manager-1", o) },
		"an override of a copy of the repository": func(s *scene) {
			o := override("approvals")
			o.Repository = "git.example/test/estate"
			s.says("release-manager-1", o)
		},
		"an approval in an estate without a name": func(s *scene) {
			said := s.approval()
			s.law.Estate = nil
			s.says("release-manager-2", said)
		},
		"an override of another release": func(s *scene) {
			o := override("approvals")
			o.To = s.agent.journal.environment("dev").Approved.Release
			s.says("release-manager-1", o)
		},
		"an override of a release that was pushed over": func(s *scene) {
			o := override("approvals")
			o.To = s.agent.journal.environment("dev").Proposed.Release
			s.says("release-manager-1", o)
			s.change(draft{key: "developer-1"}, three)
		},
		"an override that another release used up": func(s *scene) {
			s.breaks(override("approvals"))
			s.change(draft{key: "developer-1"}, three)
		},
		"an override of a gate that the class keeps shut": func(s *scene) {
			s.enact(files{"purser/classes/standard.yaml": file(strings.Replace(s.files["purser/classes/standard.yaml"].text, "gates: [signatures, approvals, calendar]", "gates: [calendar]", -1))})
			s.says("release-manager-1", override("approvals"))
		},
		"an override of another gate":      func(s *scene) { s.says("release-manager-1", override("signatures", "calendar", "policy")) },
		"an override that is over":         func(s *scene) { s.says("release-manager-1", override("approvals")); s.clock = s.clock.Add(time.Hour) },
		"an override whose key is revoked": func(s *scene) { s.says("release-manager-2", override("approvals")); s.enact(revokedManager) },
		"a used override whose key is revoked": func(s *scene) {
			o := override("approvals")
			o.Expires = s.clock.Add(100 * time.Hour)
			s.breaks(o)
			s.enact(revokedManager)
			s.change(draft{key: "developer-1"}, three)
		},
		"an override that nobody else reviewed": func(s *scene) {
			o := override("approvals", "signatures")
			o.Expires = s.clock.Add(7 * 24 * time.Hour)
			used := s.breaks(o)
			s.clock = s.clock.Add(policy.ReviewDue)
			for _, key := range []string{"release-manager-2", "release-bot", "developer-2", "owner-1", "nobody"} {
				if s.says(key, statement.Statement{Verb: statement.Review, Statement: used.Statement.ID}) == "" {
					s.t.Errorf("the review of %s counts", key)
				}
			}
			s.change(draft{key: "developer-1"}, three)
			s.mustPropose()
			s.approves("release-manager-3")
		},
		"an override that was reviewed before its use": func(s *scene) {
			o := override("approvals", "signatures")
			o.Expires = s.clock.Add(7 * 24 * time.Hour)
			s.says("release-manager-2", o)
			for _, waiting := range s.agent.journal.environment("dev").Overrides {
				if s.says("release-manager-1", statement.Statement{Verb: statement.Review, Statement: waiting.Statement.ID}) == "" {
					s.t.Error("the review counts")
				}
			}
			s.spend()
			s.clock = s.clock.Add(policy.ReviewDue)
			s.change(draft{key: "developer-1"}, three)
			s.mustPropose()
			s.approves("release-manager-3")
		},
		"a lift of a veto by a developer": func(s *scene) {
			s.approves("release-manager-2")
			state := s.agent.journal.environment("dev")
			s.fold(evidence.TypeVeto, "dev", evidence.Veto{Release: state.Proposed.Release, Reason: "it broke", By: "release-manager-1"})
			if s.says("developer-1", statement.Statement{Verb: statement.Lift, Environment: "dev", To: state.Proposed.Release}) == "" {
				s.t.Error("the lift counts")
			}
		},
		"a resume by a developer": func(s *scene) {
			s.approves("release-manager-2")
			s.says("release-manager-1", statement.Statement{Verb: statement.Pause, Environment: "dev", Reason: "stock count"})
			s.says("developer-1", statement.Statement{Verb: statement.Resume, Environment: "dev", Reason: "let me"})
			s.says("release-manager-2", statement.Statement{Verb: statement.Resume, Environment: "dev", Estate: "other", Reason: "in another estate"})
			s.says("release-manager-2", statement.Statement{Verb: statement.Resume, Environment: "qa", Reason: "in another environment"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := waiting(t)
			attack(s)
			s.stopped()
		})
	}
	for _, gate := range policy.Gates() {
		if policy.MayOverride(gate) == nil {
			continue
		}
		t.Run("an override of "+gate, func(t *testing.T) {
			t.Parallel()
			s := waiting(t)
			said := override(gate)
			said.Estate, said.Repository, said.Expires = "test", "git.example/retail/estate", s.clock.Add(time.Hour)
			payload, err := json.Marshal(statement.New(said, s.clock))
			if err != nil {
				t.Fatal(err)
			}
			if refused := s.hears(s.raw("release-manager-1", statement.Namespace, string(payload)+"\n")); refused == "" {
				t.Error("it counts")
			}
			s.stopped()
		})
	}
}

var three = files{"apps/dev/objects.yaml": file(mapYAML("shop", "three"))}

// breaks lets what is proposed for dev in by an override of release-manager-2.
func (s *scene) breaks(o statement.Statement) policy.Override {
	s.t.Helper()
	s.says("release-manager-2", o)
	return s.spend()
}

// spend records that what is proposed for dev is let in, which uses up the only override that there is.
func (s *scene) spend() policy.Override {
	s.t.Helper()
	v := s.judge("dev")
	if v.Answer != policy.Allow {
		s.t.Fatal(gatesOf(v))
	}
	state := s.agent.journal.environment("dev")
	s.fold(evidence.TypeDecision, "dev", evidence.Decision{To: state.Proposed.Release, Class: "standard", Revision: state.Proposed.Revision, Verdict: v})
	used := s.agent.journal.environment("dev").Overrides
	if len(used) != 1 || used[0].Used == nil || used[0].Release != state.Proposed.Release {
		s.t.Fatalf("%+v", used)
	}
	return used[0]
}

// TestReviewByARoleOfTheClass: those who approve the class review its overrides, unless it names others.
func TestReviewByARoleOfTheClass(t *testing.T) {
	t.Parallel()
	for class, reviewer := range map[string]string{"": "release-manager-1", "review: [governance-owner], ": "owner-1"} {
		s := waiting(t)
		s.enact(files{"purser/classes/standard.yaml": file(strings.Replace(s.files["purser/classes/standard.yaml"].text, "override: {", "override: {"+class, -1))})
		used := s.breaks(statement.Statement{Verb: statement.Override, Environment: "dev", Gates: []string{"approvals"}, Reason: "now", Ticket: "ERP-1"})
		said := statement.Statement{Verb: statement.Review, Statement: used.Statement.ID}
		for _, key := range []string{"release-manager-1", "owner-1"} {
			if refused := s.says(key, said); (refused == "") != (key == reviewer) {
				t.Errorf("class {%s}: the review of %s: %q", class, key, refused)
			}
		}
		if o := s.agent.journal.environment("dev").Overrides; len(o) != 1 || o[0].Reviewer != reviewer {
			t.Errorf("class {%s}: %+v", class, o)
		}
	}
}

// revokedManager declares the keys of release-manager-2 stolen.
var revokedManager = files{"purser/people/manager-2.yaml": file(personYAML("release-manager-2", "release-manager", "",
	keyYAML("release-manager-2", ", revoked: {at: 2026-11-23T09:00:00Z, reason: stolen}"), keyYAML("release-manager-2/commits", "")))}

// TestAdversaryStatementsOfOnePoll: what somebody says later holds, in whatever order the refs come.
func TestAdversaryStatementsOfOnePoll(t *testing.T) {
	t.Parallel()
	for _, verbs := range [][2]statement.Verb{
		{statement.Approve, statement.Revoke}, {statement.Override, statement.Revoke}, {statement.Resume, statement.Pause}, {statement.Lift, statement.Abort},
	} {
		for _, apart := range []time.Duration{0, time.Second, time.Hour} {
			one := heard{ref: "refs/purser/statements/b", said: statement.Statement{Verb: verbs[0], At: started}}
			other := heard{ref: "refs/purser/statements/a", said: statement.Statement{Verb: verbs[1], At: started.Add(apart)}}
			for range 10 {
				list := []heard{one, other}
				rand.Shuffle(2, func(i, j int) { list[i], list[j] = list[j], list[i] })
				slices.SortStableFunc(list, heard.compare)
				if list[1].said.Verb != verbs[1] {
					t.Errorf("%s is heard after %s, which was said %s later", verbs[0], verbs[1], apart)
				}
			}
		}
	}
}

// TestAdversaryStatementsOfACopy: whatever the verb, what is said for a copy of the repository counts in the copy alone; by
// each of its addresses the repository is the same.
func TestAdversaryStatementsOfACopy(t *testing.T) {
	t.Parallel()
	s := waiting(t)
	said := s.approval()
	for _, one := range []statement.Statement{
		said,
		{Verb: statement.Approve, Environment: statement.Governance, To: s.head, Expires: s.clock.Add(time.Hour)},
		{Verb: statement.ApproveDelete, Environment: "dev", From: said.From, To: said.To},
		{Verb: statement.Override, Environment: "dev", Gates: []string{"approvals"}, Reason: "now", Ticket: "ERP-1"},
		{Verb: statement.Lift, Environment: "dev", To: said.To},
		{Verb: statement.Pause, Environment: "dev", Reason: "stock count"},
		{Verb: statement.Resume, Environment: "dev", Reason: "counted"},
		{Verb: statement.Abort, Environment: "dev", Reason: "orders are lost"},
	} {
		one.Repository = "git.example/test/estate"
		if refused := s.says("release-manager-2", one); !strings.Contains(refused, "it is meant for the repository git.example/test/estate, and this is git.example/retail/estate: ") {
			t.Errorf("%s: %q", one.Verb, refused)
		}
	}
	s.stopped()
	s.agent.config.Governance.Addresses = []string{"ssh://git@mirror.example:2222/estate.git"}
	said.Repository = "mirror.example:2222/estate"
	if refused := s.says("release-manager-2", said); refused != "" {
		t.Error(refused)
	}
}

// TestAdversaryJunkIsBounded: of what strangers push, a hundred a day are recorded, and nothing twice.
func TestAdversaryJunkIsBounded(t *testing.T) {
	t.Parallel()
	s, at := NewState(), evidence.Record{}
	recorded := 0
	for i := range 48 * 60 { // two days and a second
		now := started.Add(time.Duration(i) * time.Minute)
		for _, junk := range []evidence.Statement{{ID: "b", Ref: "refs/purser/statements/b", Unproven: true}, {Ref: fmt.Sprint(i), Unproven: true}} {
			if !s.Junk.due(junk, now) {
				continue
			}
			recorded++
			at.Time = now
			foldStatement(s, at, junk)
		}
	}
	if recorded != 2*junkMax || len(s.Junk.Heard) != junkMax || len(s.Statements) != 0 {
		t.Errorf("%d are recorded; known: %d junk, %d statements", recorded, len(s.Junk.Heard), len(s.Statements))
	}
}

// TestAdversaryOldOrders: what has no expiry of its own is an order for now. What only holds back is heard whenever it comes.
func TestAdversaryOldOrders(t *testing.T) {
	t.Parallel()
	s := waiting(t)
	orders := []statement.Statement{
		{Verb: statement.Lift, Environment: "dev", To: s.approval().To}, {Verb: statement.Resume, Environment: "dev", Reason: "counted"},
		{Verb: statement.Abort, Environment: "dev", Reason: "orders are lost"}, {Verb: statement.Pause, Environment: "dev", Reason: "stock count"},
	}
	for _, said := range orders {
		said.Estate, said.Repository = "test", "git.example/retail/estate"
		payload, err := statement.New(said, s.clock.Add(-statement.MaxValidity-time.Second)).Encode()
		if err != nil {
			t.Fatal(err)
		}
		refused := s.hears(s.raw("release-manager-2", statement.Namespace, string(payload)))
		if old := strings.Contains(refused, "more than 7 days before it was heard"); old == (said.Verb == statement.Pause) {
			t.Errorf("%s: %q", said.Verb, refused)
		}
	}
}

// TestAdversaryRefusedStaysRefused: what somebody said by a clock that is fast, with a key that is not valid yet or is for something
// else does not come to count as time passes; what was signed with a key that was given up is junk.
func TestAdversaryRefusedStaysRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		key  string
		fast time.Duration
		junk bool
	}{
		"a fast clock":           {"release-manager-2", 6 * time.Minute, false},
		"a key of tomorrow":      {"developer-1/future", 0, false},
		"a key for commits":      {"release-manager-2/commits", 0, false},
		"a key that has expired": {"developer-1/expired", 0, true},
		"a revoked key":          {"release-manager-1/revoked", 0, true},
		"a stranger's key":       {"nobody", 0, true},
	} {
		s := waiting(t)
		said := statement.Statement{Verb: statement.Pause, Environment: "dev", Estate: "test", Repository: "git.example/retail/estate", Reason: "stock count"}
		payload, err := statement.New(said, s.clock.Add(test.fast)).Encode()
		if err != nil {
			t.Fatal(err)
		}
		signed := s.raw(test.key, statement.Namespace, string(payload))
		if refused := s.hears(signed); refused == "" {
			t.Errorf("%s: it counts", name)
		}
		if heard := s.agent.journal.state.Junk.Heard; (len(heard) > 0) != test.junk {
			t.Errorf("%s: of junk %d are recorded", name, len(heard))
		}
		s.clock = s.clock.AddDate(2, 0, 0) // long after a restart
		if refused := s.hears(signed); !test.junk && refused != "it was heard before" {
			t.Errorf("%s: two years later: %q", name, refused)
		}
		if hold := s.agent.journal.environment("dev").Hold; hold != nil {
			t.Errorf("%s: %+v", name, hold)
		}
	}
}

// TestJunkIsToldApart by where it is, what its ref points at and who signed it, also where it cannot be read.
func TestJunkIsToldApart(t *testing.T) {
	t.Parallel()
	one := evidence.Statement{Ref: "refs/purser/statements/b", Commit: "b1b1", Refused: "it is none"}
	moved, other, signed := one, one, one
	moved.Commit, other.Ref, signed.Signature = "c2c2", "refs/purser/statements/c", "signature"
	seen := map[string]bool{}
	for _, junk := range []evidence.Statement{one, moved, other, signed} {
		seen[junkOf(junk)] = true
	}
	if len(seen) != 4 {
		t.Errorf("of 4 %d are told apart", len(seen))
	}
}
