package main

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/purser-gitops/purser/backup"
	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/upkeep"
	"github.com/purser-gitops/purser/sources/declaration"
)

const drillHelp = `Rehearse restores: a backup is restored into a scratch server without network, checked, measured and removed.

"now" orders a drill from the agent, on its machine and as its user; "list" and "show" ask the agent for
the drills that it recorded, or read the audit log alone (--audit).`

func newDrillCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "drill", Short: "Rehearse restores, and list what that showed", Long: drillHelp,
		Args: cobra.NoArgs, // else an unknown command below it is no error
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newDrillNowCommand(), newDrillListCommand(), newDrillShowCommand())
	return cmd
}

func newDrillNowCommand() *cobra.Command {
	var c control
	var out output
	var point, id, reason string
	cmd := &cobra.Command{
		Use:   "now ENVIRONMENT",
		Short: "Rehearse a restore",
		Long: `Have the agent rehearse the restore of an environment: of its latest verified backup, of one at random, or of
the one with --id. RTO and RPO are measured, and compared with the policy's objectives.
` + orderExits,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains([]string{declaration.PointLatest, declaration.PointRandom}, point) {
				return exit{usageExit, fmt.Errorf("--point: %q is neither latest nor random", point)}
			}
			o := reconciler.OrderRequest{Task: upkeep.Drill, Point: point, Reason: reason}
			if id != "" {
				o.Point, o.ID = "", backup.ID(id)
			}
			if err := c.connect(args[0]); err != nil {
				return err
			}
			d, err := ordered[evidence.RestoreTest](cmd.Context(), &c, args[0], o, newMeter(cmd.ErrOrStderr()))
			if err != nil {
				return err
			}
			if err := out.write(cmd.OutOrStdout(), d, func(w io.Writer) error { return printDrill(w, d) }); err != nil {
				return err
			}
			return drillVerdict(d.Record)
		},
	}
	c.flags(cmd)
	out.flag(cmd)
	cmd.Flags().StringVar(&point, "point", declaration.PointLatest, "which backup: latest or random")
	cmd.Flags().StringVar(&id, "id", "", "the backup with this ID")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the log")
	cmd.MarkFlagsMutuallyExclusive("point", "id")
	return cmd
}

// drillVerdict is nil for a drill that passed.
func drillVerdict(d evidence.RestoreTest) error {
	switch {
	case d.Passed:
		return nil
	case d.Unfinished != "":
		return fmt.Errorf("the drill was not carried through: %s", d.Unfinished)
	}
	return exit{notGood, fmt.Errorf("the drill did not pass: %s", d.Why())}
}

func newDrillListCommand() *cobra.Command {
	var k knowledge
	var out output
	cmd := &cobra.Command{
		Use:   "list [ENVIRONMENT]",
		Short: "List drills",
		Long: `List the recorded drills of an environment, or of all that have backups, the oldest first.
` + knownHelp + "\n\nExit codes: 0 listed; 1 it is not known; 2 the command line is wrong.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				all, err := k.all(cmd.Context())
				if err != nil {
					return err
				}
				for _, s := range all {
					args = append(args, s.Environment)
				}
			}
			list := []recorded[evidence.RestoreTest]{}
			for _, name := range args {
				drills, err := k.drills(cmd.Context(), name)
				if err != nil {
					return err
				}
				for _, r := range drills {
					d, err := decoded[evidence.RestoreTest](r)
					if err != nil {
						return err
					}
					list = append(list, d)
				}
			}
			return out.write(cmd.OutOrStdout(), list, func(w io.Writer) error { return printDrills(w, list) })
		},
	}
	k.flags(cmd)
	out.flag(cmd)
	return cmd
}

func newDrillShowCommand() *cobra.Command {
	var k knowledge
	var out output
	cmd := &cobra.Command{
		Use:   "show ENVIRONMENT RECORD",
		Short: "Show what one drill has shown",
		Long: `Show one drill; RECORD is the index of its record, as "drill list" gives it.
` + knownHelp + "\n\nExit codes: 0 shown; 1 it is not known; 2 the command line is wrong.",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			number, err := drillNumber(args[1])
			if err != nil {
				return err
			}
			drills, err := k.drills(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			i := slices.IndexFunc(drills, func(r reconciler.OrderRecord) bool { return r.Index == number })
			if i < 0 {
				return fmt.Errorf("record %d is no drill of %s", number, args[0])
			}
			d, err := decoded[evidence.RestoreTest](drills[i])
			if err != nil {
				return err
			}
			return out.write(cmd.OutOrStdout(), d, func(w io.Writer) error { return printDrill(w, d) })
		},
	}
	k.flags(cmd)
	out.flag(cmd)
	return cmd
}

func printDrills(w io.Writer, list []recorded[evidence.RestoreTest]) error {
	fmt.Fprintln(w, "ENVIRONMENT\tRECORD\tENDED\tPASSED\tBACKUP\tPOINT\tRTO\tRPO\tWHY NOT")
	for _, d := range list {
		r := d.Record
		fmt.Fprintf(w, "%s\t%d\t%s\t%t\t%s\t%s\t%s\t%s\t%s\n", plain(r.Environment), d.Index, moment(r.Ended), r.Passed, dash(plain(string(r.ID))), dash(plain(r.Point)),
			dash(span(r.RTO)), dash(lost(r)), dash(plain(r.Why())))
	}
	return nil
}

func printDrill(w io.Writer, d recorded[evidence.RestoreTest]) error {
	r := d.Record
	row := rows(w)
	said := "passed"
	if !r.Passed {
		said = "did not pass: " + r.Why()
	}
	row("Drill", "of %s, %s (record %d)", r.Environment, said, d.Index)
	row("Why", "%s", dash(r.Reason))
	row("Backup", "%s in %s, %s of %d", dash(string(r.ID)), r.Store, r.Point, r.Candidates)
	row("Failure", "declared at %s", moment(r.Declared))
	row("RTO", "%s, objective %s", dash(span(r.RTO)), dash(span(r.WantRTO)))
	row("RPO", "%s, objective %s", dash(lost(r)), dash(span(r.WantRPO)))
	row("Took", "%s: %s", between(r.Began, r.Ended), segments(r.Segments))
	for _, i := range r.Isolation {
		reached := "not out of reach"
		if i.Unreachable {
			reached = "out of reach"
		}
		row("Isolation", "%s port %d is %s: %s", i.Host, i.Port, reached, i.Said)
	}
	if r.Teardown.Proven {
		row("Teardown", "proven, in %s", r.Teardown.Took.Round(time.Millisecond))
	} else {
		row("Teardown", "not proven: %s", r.Teardown.Problem)
	}
	printFindings(row, r.Findings)
	return nil
}

// lost is the measured RPO; "" if none was.
func lost(r evidence.RestoreTest) string {
	switch {
	case r.Snapshot.IsZero():
		return ""
	case r.RPO <= 0: // below 0 in records of earlier versions: the snapshot is later than the failure
		return "nothing lost"
	}
	return span(r.RPO)
}

// span is a duration for people; "" for none.
func span(d time.Duration) string {
	switch {
	case d == 0:
		return ""
	case d < 0:
		return clockBack
	}
	return d.Round(time.Millisecond).String()
}

// clockBack stands for a time that cannot have passed.
const clockBack = "unknown (the clock was set back)"

// between is how long something took.
func between(began, ended time.Time) string {
	if ended.Before(began) {
		return clockBack
	}
	return ended.Sub(began).Round(time.Millisecond).String()
}
