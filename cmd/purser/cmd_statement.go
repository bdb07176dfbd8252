package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/statement"
)

const statementHelp = `

The statement is shown, confirmed (y/N on the terminal, or --yes), signed, and pushed to
the governance repository as refs/purser/statements/ID. Its ID is printed. The agent hears
it at its next poll and records it word for word, also when it does not count.

The key is --key FILE, whose passphrase is asked for, or one that ssh-agent holds:
its only one, or --agent-key FINGERPRINT or COMMENT. Where to push is --repository, or
"origin" of the clone in --repo; credentials are read from files. A statement counts for
that repository alone, and names it. --output FILE writes FILE and FILE.sig instead, and
contacts nobody.

Exit codes: 0 it is said; 1 it failed (the agent does not answer, nothing is proposed, the
key is unusable, the push is refused); 2 the command line is wrong, or the statement not
well-formed; 3 it was not confirmed.`

// notConfirmed is the exit code when a person does not want to sign after all.
const notConfirmed = 3

// sentence is one verb on the command line.
type sentence struct {
	verb        statement.Verb
	short, long string
	about       string   // "ENVIRONMENT" or "STATEMENT"
	flags       []string // beside those that all verbs have
	required    []string // of these
	expires     time.Duration
}

var sentences = []sentence{
	{
		verb: statement.Approve, about: "ENVIRONMENT", flags: []string{"from", "to", "class", "expires", "reason", "ticket"}, expires: 24 * time.Hour,
		short: "Approve what is proposed for an environment, or a change of governance",
		long: `Approve every landed change between two releases of an environment, up to a class. What
is not said is what the running agent proposes; with --from, --to and --class nobody is
asked. An approval does not count for what its signer had a part in.

  purser approve prod-eu
  purser approve prod-eu --from none --to sha256:… --class high --output approval.json
  purser approve governance                  the declarations that wait; --to COMMIT for others`,
	},
	{
		verb: statement.ApproveDelete, about: "ENVIRONMENT", flags: []string{"from", "to", "expires", "reason", "ticket"}, expires: 24 * time.Hour,
		short: "Let a release delete more objects than the limits",
		long: `Let one release of an environment delete more objects than its limits (prune) allow. It
is for release managers and database administrators. What is not said is what the running
agent proposes; with --from and --to nobody is asked.`,
	},
	{
		verb: statement.Revoke, about: "STATEMENT", flags: []string{"reason"}, required: []string{"reason"},
		short: "Take back a statement of your own",
		long: `Take back a statement of your own that was not used yet. STATEMENT is its ID; the agent
completes a part of it.`,
	},
	{
		verb: statement.Override, about: "ENVIRONMENT", flags: []string{"gate", "to", "reason", "ticket", "expires"},
		required: []string{"gate", "reason", "ticket", "expires"},
		short:    "Open gates for one release, in an emergency",
		long: `Let one release of an environment pass although some gates say no, for at most seven days.
It is for release managers and owners of governance, and somebody else has to review it
within three days of its use. Which gates it can open, and who reviews, is up to the
release's class. The release is the one that the running agent proposes or, while a freeze
holds it, the approved one that is not live yet. --to names another; --to next names none,
for the time before the commit exists: the first release that needs it uses it up.

  purser override prod-eu --gate calendar --reason "orders are lost" --ticket ERP-911 --expires 2h
  purser override prod-eu --to next --gate calendar --reason "orders are lost" --ticket ERP-911 --expires 2h`,
	},
	{
		verb: statement.Review, about: "STATEMENT", flags: []string{"reason"},
		short: "Confirm that you looked at what an override did",
		long: `Confirm that you looked at what somebody else's override did, once it was used. It takes a
role that the class of its release names (override.review or, without that, approvals).
STATEMENT is its ID; the agent completes a part of it.`,
	},
	{
		verb: statement.Lift, about: "ENVIRONMENT", flags: []string{"to", "reason", "ticket"},
		short: "Let a vetoed release in again",
		long: `Lift the veto of a release that failed or was aborted. Without --to it is the release that
the running agent proposes.`,
	},
	{
		verb: statement.Pause, about: "ENVIRONMENT", flags: []string{"reason", "ticket"}, required: []string{"reason"},
		short: "Let nothing new go to an environment",
		long:  `Let nothing new go to an environment until somebody resumes it.`,
	},
	{
		verb: statement.Resume, about: "ENVIRONMENT", flags: []string{"reason", "ticket"}, required: []string{"reason"},
		short: "End a pause",
		long:  `End the pause of an environment.`,
	},
	{
		verb: statement.Abort, about: "ENVIRONMENT", flags: []string{"reason", "ticket"}, required: []string{"reason"},
		short: "Give up the deployment under way",
		long: `Give up the deployment that is under way and go back to what was live. Where a rollback left what is live, nothing
else is approved instead: push another release.`,
	},
}

// newStatementCommands makes a command for each verb.
func newStatementCommands() []*cobra.Command {
	commands := make([]*cobra.Command, len(sentences))
	for i, s := range sentences {
		commands[i] = newStatementCommand(s)
	}
	return commands
}

// wording are the parts of a statement that flags give.
type wording struct {
	statement.Statement
	expires time.Duration
}

func newStatementCommand(s sentence) *cobra.Command {
	var n notary
	w := wording{expires: s.expires}
	cmd := &cobra.Command{
		Use:   string(s.verb) + " " + s.about,
		Short: s.short,
		Long:  s.long + statementHelp,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			said, about, err := n.compose(cmd, s, w, args[0])
			if err != nil {
				return err
			}
			return n.say(cmd, said, about)
		},
	}
	n.flags(cmd)
	flags := cmd.Flags()
	if s.about == "ENVIRONMENT" {
		flags.StringVar(&n.named, "estate", "", "name of the Estate that it is one of (default: that of the clone)")
	}
	for _, name := range s.flags {
		switch name {
		case "from":
			flags.StringVar(&w.From, name, "", "digest of the approved release that it follows; none before the first")
		case "to":
			meant := "digest of the release that is meant; of declarations, their commit"
			if s.verb == statement.Override {
				meant = "digest of the release that is meant; next is the first that needs it"
			}
			flags.StringVar(&w.To, name, "", meant)
		case "class":
			flags.StringVar(&w.Class, name, "", "the highest class of change that is approved")
		case "gate":
			flags.StringArrayVar(&w.Gates, name, nil, "gate to open; repeat it for each")
		case "reason":
			flags.StringVar(&w.Reason, name, "", "why, for those who read the log")
		case "ticket":
			flags.StringVar(&w.Ticket, name, "", "ticket that tells more")
		case "expires":
			flags.DurationVar(&w.expires, name, s.expires, "how long it holds")
		}
	}
	if s.about == "ENVIRONMENT" {
		cmd.ValidArgsFunction = n.estate.complete(1)
	}
	return cmd
}

// compose makes the statement out of the command line and, where that leaves something open, of what the agent proposes.
// about is what the person should know before signing.
func (n *notary) compose(cmd *cobra.Command, s sentence, w wording, subject string) (said statement.Statement, about []string, err error) {
	for _, name := range s.required {
		if !cmd.Flags().Changed(name) {
			return said, nil, exit{usageExit, fmt.Errorf("--%s is needed", name)}
		}
	}
	for _, gate := range w.Gates {
		if first, rest, several := strings.Cut(gate, ","); several {
			return said, nil, exit{usageExit, fmt.Errorf("--gate %q: it names one gate: repeat it for each (--gate %s --gate %s …)", gate, strings.TrimSpace(first), strings.TrimSpace(strings.Split(rest, ",")[0]))}
		}
		if err := policy.MayOverride(gate); err != nil {
			return said, nil, exit{usageExit, fmt.Errorf("--gate: %w; there are: %s", err, strings.Join(overridable(), ", "))}
		}
	}
	if err := n.check(s.about == "ENVIRONMENT"); err != nil {
		return said, nil, err
	}
	w.Verb = s.verb
	if w.expires != 0 {
		w.Expires = time.Now().Add(w.expires)
	}
	if s.about == "STATEMENT" {
		w.Statement.Statement, err = n.completeID(cmd.Context(), subject)
		return w.Statement, nil, err
	}
	w.Environment = subject
	if w.Repository, err = sources.Address(n.repository); err != nil {
		return said, nil, fmt.Errorf("name the governance repository (--repository, or origin): %w", err)
	}
	if w.Estate = n.named; n.named == "" && subject != statement.Governance {
		if w.Estate, err = n.estate.name(); err != nil {
			return said, nil, err
		}
	}
	fromSaid := cmd.Flags().Changed("from")
	if w.From == "none" {
		w.From = ""
	}
	switch {
	case subject == statement.Governance && s.verb == statement.Approve:
		about, err = n.governance(cmd.Context(), &w.Statement, fromSaid)
	case s.verb == statement.Override:
		about, err = n.overridden(cmd.Context(), &w.Statement)
	case !slices.Contains(s.flags, "to"):
	case w.To != "" && (fromSaid || s.verb == statement.Lift) && (w.Class != "" || s.verb != statement.Approve):
		about = []string{"Nobody was asked: it says what the command line says."}
	default:
		about, err = n.proposed(cmd.Context(), &w.Statement, fromSaid)
	}
	return w.Statement, about, err
}

// overridable are the gates that an override can name.
func overridable() []string {
	return slices.DeleteFunc(policy.Gates(), func(gate string) bool { return policy.MayOverride(gate) != nil })
}

// say shows a statement, has it confirmed and signed, and pushes or writes it.
func (n *notary) say(cmd *cobra.Command, said statement.Statement, about []string) error {
	said = statement.New(said, time.Now())
	payload, err := said.Encode()
	if err != nil {
		return exit{usageExit, err}
	}
	to := cmd.ErrOrStderr()
	for _, line := range append(lines(said), about...) {
		fmt.Fprintln(to, plain(line))
	}
	if !n.yes {
		switch ok, err := confirm(to, "Sign this?"); {
		case err != nil:
			return exit{usageExit, err}
		case !ok:
			return exit{notConfirmed, errors.New("not signed")}
		}
	}
	signed, err := n.sign(cmd.Context(), to, payload)
	if err != nil {
		return err
	}
	fmt.Fprintln(to, n.signer(signed))
	if err := n.deliver(cmd.Context(), to, signed); err != nil {
		return err
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), signed.ID())
	return err
}

// lines shows a statement to the person who is about to sign it.
func lines(s statement.Statement) []string {
	list := []string{fmt.Sprintf("%-12s %s", "Verb", s.Verb)}
	row := func(name, value string) {
		if value != "" {
			list = append(list, fmt.Sprintf("%-12s %s", name, value))
		}
	}
	row("Environment", s.Environment)
	row("Estate", s.Estate)
	row("Repository", s.Repository)
	row("Statement", s.Statement)
	if s.Verb == statement.Approve || s.Verb == statement.ApproveDelete {
		row("From", cmp.Or(s.From, "nothing: it is the first"))
	}
	if s.Verb == statement.Override {
		row("To", cmp.Or(s.To, "the first release that needs it, and no other"))
	} else {
		row("To", s.To)
	}
	row("Class", s.Class)
	row("Gates", strings.Join(s.Gates, ", "))
	row("Reason", s.Reason)
	row("Ticket", s.Ticket)
	if !s.Expires.IsZero() {
		row("Expires", s.Expires.Format(time.RFC3339))
	}
	return list
}
