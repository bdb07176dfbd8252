package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/reconciler/apply"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/policy"
)

const statusHelp = `Show what a running agent knows: of every environment, or everything of one.

Exit codes: 0 everything proposed is live and healthy; 1 the agent did not answer, or
something is not in order (stalled, denied, failed, a refused commit, a source or the
audit repository out of reach); 2 the command line is wrong; 3 something is still on
its way.`

func newStatusCommand() *cobra.Command {
	var at address
	var out output
	cmd := &cobra.Command{
		Use:   "status [ENVIRONMENT]",
		Short: "Show what a running agent knows",
		Long:  statusHelp,
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				var e reconciler.EnvironmentStatus
				if err := at.ask(cmd.Context(), "environments/"+url.PathEscape(args[0]), &e); err != nil {
					return err
				}
				if err := out.write(cmd.OutOrStdout(), e, func(w io.Writer) error { return printEnvironment(w, e) }); err != nil {
					return err
				}
				return exitOf(environmentCode(e))
			}
			var s reconciler.Status
			if err := at.ask(cmd.Context(), "status", &s); err != nil {
				return err
			}
			if err := out.write(cmd.OutOrStdout(), s, func(w io.Writer) error { return printStatus(w, s) }); err != nil {
				return err
			}
			return exitOf(statusCode(s))
		},
	}
	out.flag(cmd)
	at.flags(cmd)
	return cmd
}

// onItsWay is the exit code for what is neither done nor in trouble.
const onItsWay = 3

// statusCode is the exit code for what an agent says of itself.
func statusCode(s reconciler.Status) int {
	if s.Refused != nil || s.Evidence.Problem != "" {
		return 1
	}
	for _, source := range s.Sources {
		if source.Problem != "" {
			return 1
		}
	}
	code := 0
	if s.Governance == nil {
		code = onItsWay
	}
	for _, e := range s.Environments {
		switch environmentCode(e) {
		case 1:
			return 1
		case onItsWay:
			code = onItsWay
		}
	}
	return code
}

// environmentCode is the exit code for one environment.
func environmentCode(e reconciler.EnvironmentStatus) int {
	switch e.Outcome {
	case reconciler.Stalled.String(), reconciler.Denied.String(), reconciler.Failed.String():
		return 1
	case reconciler.Waiting.String():
		return onItsWay
	}
	if e.Proposed != nil && (e.Live == nil || e.Live.Release != e.Proposed.Release) {
		return onItsWay
	}
	return 0
}

// exitOf ends a command that has said everything.
func exitOf(code int) error {
	if code == 0 {
		return nil
	}
	return exit{code: code}
}

func printStatus(w io.Writer, s reconciler.Status) error {
	fmt.Fprintln(w, "ENVIRONMENT\tOUTCOME\tHEALTH\tLIVE\tAPPROVED\tPROPOSED\tDEPLOYMENT\tREASON")
	for _, e := range s.Environments {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n", e.Name, e.Outcome, e.Health,
			short(e.Live), short(e.Approved), short(e.Proposed), e.Deployment.Number, plain(reasonOf(e)))
	}
	for _, source := range s.Sources {
		if source.Problem != "" {
			fmt.Fprintf(w, "source %s: %s\n", source.Name, plain(source.Problem))
		}
		for _, branch := range source.Branches {
			if hint := branch.Hint(); hint != "" {
				fmt.Fprintf(w, "source %s: %s\n", source.Name, plain(hint))
			}
		}
	}
	for _, c := range s.Clusters {
		for _, what := range slices.Sorted(maps.Keys(c.Unwatched)) {
			fmt.Fprintf(w, "cluster %s: no watch over %s: %s\n", c.Name, what, plain(c.Unwatched[what]))
		}
	}
	if s.Refused != nil {
		fmt.Fprintf(w, "governance %s is refused:\n", s.Refused.Revision.Revision)
		for _, message := range s.Refused.Errors {
			fmt.Fprintf(w, "  %s\n", plain(message))
		}
	}
	if why := unclear(s.GovernanceVerdict); s.GovernanceProposed != nil && len(why) > 0 {
		fmt.Fprintf(w, "governance %s is not in force:\n", s.GovernanceProposed.Revision)
		for _, reason := range why {
			fmt.Fprintf(w, "  %s\n", plain(reason))
		}
	}
	if s.Evidence.Problem != "" {
		fmt.Fprintf(w, "evidence: %s (%d records wait)\n", plain(s.Evidence.Problem), s.Evidence.Spooled)
	}
	return nil
}

// short is the readable part of a pointer's release.
func short(p *reconciler.Pointer) string {
	if p == nil {
		return "-"
	}
	_, hex, _ := strings.Cut(p.Release, ":")
	return hex[:min(len(hex), 12)]
}

func reasonOf(e reconciler.EnvironmentStatus) string {
	if e.Orphaned {
		return "no longer declared; its objects stay"
	}
	reason := cmp.Or(e.Reason, e.HealthWhy)
	if e.Hold == nil || strings.HasPrefix(reason, "paused by ") {
		return reason
	}
	return strings.TrimSuffix("paused "+held(e.Hold)+"; "+reason, "; ") // whatever the last decision says, nothing comes before that ends
}

// held says who holds an environment, since when and why.
func held(h *policy.Hold) string {
	return fmt.Sprintf("by %s since %s: %s", h.Person, h.Since.Local().Format(time.RFC3339), h.Reason)
}

func printEnvironment(w io.Writer, e reconciler.EnvironmentStatus) error {
	row := func(name, format string, values ...any) {
		fmt.Fprintf(w, "%s\t%s\n", name, plain(fmt.Sprintf(format, values...)))
	}
	row("Environment", "%s", e.Name)
	row("Where", "cluster %s, namespace %s, tenant %s", e.Cluster, e.Namespace, e.Tenant)
	if e.Hold != nil {
		row("Paused", "%s", held(e.Hold))
	}
	if e.Since.IsZero() { // nobody looked at it since the agent's start
		row("Outcome", "%s", e.Outcome)
	} else {
		row("Outcome", "%s since %s", e.Outcome, e.Since.Local().Format(time.RFC3339))
	}
	if e.Reason != "" {
		row("Reason", "%s", e.Reason)
	}
	if e.Hint != "" {
		row("What to do", "%s", e.Hint)
	}
	for _, p := range []struct {
		name    string
		pointer *reconciler.Pointer
	}{{"Live", e.Live}, {"Approved", e.Approved}, {"Proposed", e.Proposed}} {
		if p.pointer != nil {
			row(p.name, "%s from %s %s at %s", p.pointer.Release, p.pointer.Revision.Source, p.pointer.Revision.Revision, p.pointer.At.Local().Format(time.RFC3339))
		}
	}
	row("Deployment", "%d %s", e.Deployment.Number, e.Deployment.Phase)
	row("Health", "%s %s", e.Health, e.HealthWhy)
	if e.Verdict != nil {
		for _, g := range e.Verdict.Gates {
			row("Gate "+g.Gate, "%s: %s", g.Answer, g.Reason)
			if g.Answer != policy.Allow && g.Hint != "" {
				row("", "%s", g.Hint)
			}
		}
	}
	if e.Refused != nil {
		for _, message := range e.Refused.Errors {
			row("Refused", "%s", message)
		}
	}
	for _, d := range e.Drift {
		row("Drift", "%s", driftLine(d))
	}
	for _, ref := range e.Inventory {
		row("Owns", "%s", ref)
	}
	return nil
}

// driftLine says what differs and who wrote it, as far as that is known.
func driftLine(d evidence.Drifted) string {
	line := d.Ref.String()
	if d.Action == apply.Created {
		line += ": it was deleted"
	} else {
		line += ": " + strings.Join(d.Fields, ", ")
	}
	if len(d.By) > 0 {
		line += fmt.Sprintf(", by %s at %s", d.By[0].Manager, d.By[0].Time.Local().Format(time.RFC3339))
	}
	if d.Contested {
		line += ", contested"
	}
	return line
}
