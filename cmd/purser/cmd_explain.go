package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/render"
)

const explainHelp = `Say what each gate answers about a release, why, what can be done, and until when.

  purser explain prod-eu                     what the running agent proposes, now
  purser explain prod-eu --at 2026-11-30T08:00:00Z
  purser explain prod-eu --ref HEAD          a pull request, in a clone, without an agent

With --ref the declarations at --base judge the release that the commit renders against
the one that the base renders. Gates that ask for what only the agent knows (signatures,
approvals, what ran elsewhere, health) answer "unknown" and do not count.

-o github prints workflow commands, which annotate the lines of a pull request: errors of
declarations and renders at their place, gates that deny as errors, gates that wait as
warnings.

Exit codes: 0 allow, or nothing is proposed; 1 it cannot be told: the agent does not answer,
or the commit does not parse or render; 2 the command line is wrong; 3 wait; 4 deny.`

// Exit codes of what gates answer. That of [policy.Wait] is [onItsWay].
const deniedExit = 4

// unknown is the answer of a gate that cannot be asked without the agent.
const unknown = "unknown"

func newExplainCommand() *cobra.Command {
	var o offline
	var out annotations
	var at instant
	var agent address
	cmd := &cobra.Command{
		Use:   "explain ENVIRONMENT",
		Short: "Say what the gates answer about a release, and why",
		Long:  explainHelp,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.ref == "" && cmd.Flags().Changed("base") {
				return exit{usageExit, errors.New("--base is for --ref")}
			}
			if o.ref != "" && agent.said(cmd) {
				return exit{usageExit, errors.New("with --ref no agent is asked: leave --server and --config out")}
			}
			var j *judgement
			var err error
			if o.ref != "" {
				j, err = o.explain(cmd.Context(), args[0], at.or(time.Now()))
			} else {
				j, err = explainOnline(cmd, agent, args[0], at)
			}
			if err != nil {
				if out.format == formatGitHub {
					err = errors.Join(annotateError(cmd.OutOrStdout(), err), err)
				}
				return err
			}
			if out.format == formatGitHub {
				err = annotate(cmd.OutOrStdout(), j)
			} else {
				err = out.write(cmd.OutOrStdout(), j, func(w io.Writer) error { return j.print(w) })
			}
			if err != nil {
				return err
			}
			return exitOf(j.code())
		},
	}
	o.estate.flags(cmd)
	out.flag(cmd)
	cmd.Flags().StringVar(&o.ref, "ref", "", "commit to judge in the clone, without an agent")
	cmd.Flags().StringVar(&o.base, "base", "origin/main", "commit whose declarations judge it, and that it is compared with")
	cmd.Flags().Var(&at, "at", "the time that is asked about, RFC 3339 (default: now)")
	agent.flags(cmd)
	cmd.ValidArgsFunction = o.estate.complete(1)
	return cmd
}

// judgement is what the gates say of a release, with or without an agent.
type judgement struct {
	Environment string       `json:"environment"`
	At          time.Time    `json:"at"`
	Governance  string       `json:"governance"`        // commit whose rules are asked
	From        string       `json:"from,omitempty"`    // digest of the release that it follows
	Release     string       `json:"release,omitempty"` // digest; "": nothing is proposed
	Revision    string       `json:"revision,omitempty"`
	Version     string       `json:"version,omitempty"`
	Class       string       `json:"class,omitempty"`
	ClassWhy    string       `json:"classWhy,omitempty"`
	Answer      string       `json:"answer"`
	Gates       []gateAnswer `json:"gates"`
	Until       *time.Time   `json:"until,omitempty"` // when the answer may change by itself
	Notes       []string     `json:"notes,omitempty"`

	Changes     []render.ObjectChange `json:"changes,omitempty"`     // of the release
	MoreChanges int                   `json:"moreChanges,omitempty"` // objects beyond those in changes

	Landed     []policy.Landed    `json:"landed,omitempty"`     // from the agent
	Statements []policy.Statement `json:"statements,omitempty"` // from the agent
	Overrides  []policy.Override  `json:"overrides,omitempty"`  // from the agent
}

// gateAnswer is the answer of one gate.
type gateAnswer struct {
	Gate     string     `json:"gate"`
	Answer   string     `json:"answer"` // allow, wait, deny or unknown
	Reason   string     `json:"reason"`
	Hint     string     `json:"hint,omitempty"`
	Until    *time.Time `json:"until,omitempty"`
	Override string     `json:"override,omitempty"`

	file string // where to annotate; "" is nowhere
}

func answerOf(r policy.Result) gateAnswer {
	return gateAnswer{Gate: r.Gate, Answer: r.Answer.String(), Reason: r.Reason, Hint: r.Hint, Until: r.Until, Override: r.Override}
}

// code is the exit code for an answer.
func (j *judgement) code() int {
	switch j.Answer {
	case policy.Allow.String():
		return 0
	case policy.Wait.String():
		return onItsWay
	}
	return deniedExit
}

// explainOnline asks the agent.
func explainOnline(cmd *cobra.Command, agent address, env string, at instant) (*judgement, error) {
	path := "environments/" + url.PathEscape(env) + "/explain"
	if !at.IsZero() {
		path += "?at=" + url.QueryEscape(at.String())
	}
	var e reconciler.Explanation
	if err := agent.ask(cmd.Context(), path, &e); err != nil {
		return nil, err
	}
	j := &judgement{
		Environment: e.Environment, At: e.At, Governance: e.Governance, From: e.From, Class: e.Class, ClassWhy: e.ClassWhy,
		Answer: policy.Allow.String(), Gates: []gateAnswer{}, Until: e.Until, Landed: e.Landed, Statements: e.Statements, Overrides: e.Overrides,
		Changes: e.Changes, MoreChanges: e.MoreChanges,
	}
	if e.Protection != nil && e.Protection.Hint() != "" {
		j.Notes = append(j.Notes, e.Protection.Hint())
	}
	if e.Proposed == nil || e.Verdict == nil {
		j.Notes = append(j.Notes, "nothing is proposed that is not approved")
		return j, nil
	}
	j.Release, j.Revision, j.Answer = e.Proposed.Release, e.Proposed.Revision.Source+" "+e.Proposed.Revision.Revision, e.Verdict.Answer.String()
	for _, r := range e.Verdict.Gates {
		j.Gates = append(j.Gates, answerOf(r))
	}
	return j, nil
}

func (j *judgement) print(w io.Writer) error {
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s\t%s\n", name, plain(value))
		}
	}
	row("Environment", j.Environment)
	row("At", j.At.Format(time.RFC3339))
	row("Governance", j.Governance)
	if j.Release != "" {
		row("From", cmp.Or(j.From, "nothing: it is the first"))
		row("Release", strings.TrimSpace(j.Release+" of "+j.Revision))
	}
	row("Version", j.Version)
	row("Class", strings.TrimSuffix(j.Class+": "+j.ClassWhy, ": "))
	for _, l := range j.Landed {
		row("Landed", landedLine(l))
	}
	for i, c := range j.Changes {
		if i == mostChangeLines {
			row("Changes", fmt.Sprintf("and %d more; purser diff shows all", len(j.Changes)+j.MoreChanges-i))
			break
		}
		row("Changes", fmt.Sprintf("%s %s", c.Ref, c.Action))
	}
	for _, note := range j.Notes {
		row("Note", note)
	}
	row("Answer", j.Answer)
	if j.Until != nil {
		row("Until", j.Until.Format(time.RFC3339))
	}
	if len(j.Gates) == 0 {
		return nil
	}
	fmt.Fprintln(w, "\nGATE\tANSWER\tUNTIL\tREASON")
	for _, g := range j.Gates {
		until := "-"
		if g.Until != nil {
			until = g.Until.Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", g.Gate, g.Answer, until, plain(g.Reason))
		if g.Hint != "" && g.Answer != policy.Allow.String() {
			fmt.Fprintf(w, "\t\t\t→ %s\n", plain(g.Hint))
		}
	}
	return nil
}
