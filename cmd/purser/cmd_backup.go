package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/purser-gitops/purser/backup"
	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/upkeep"
)

const backupHelp = `Make, list, verify and restore backups of environments: a database and its filestore at one moment.

Backups are made by the agent, as the environment's BackupPolicy says. "now" and "verify" order
one more from it, on its machine and as its user: over DATADIR/control.sock, which --config
finds. A client that is interrupted ends what it ordered; nothing half is ever listed.
"list" and "show" ask the agent, or read the audit log alone (--audit). "restore" runs in
its own process, and needs no agent.

Exit codes are said by each of them.`

const orderExits = `
Exit codes: 0 done, and all is as it should be; 1 it failed, or was not carried through (the agent does not
answer, knows no such environment or backup, or stopped; a store or a database is out of reach); 2 the command
line is wrong; 3 it was carried through, and the backup is not what it should be, or an objective was missed.`

// notGood is the exit code when a backup, or a drill, is not what it should be.
const notGood = 3

func newBackupCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "backup", Short: "Make, list, verify and restore backups", Long: backupHelp,
		Args: cobra.NoArgs, // else an unknown command below it is no error
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newBackupNowCommand(), newBackupListCommand(), newBackupShowCommand(), newBackupVerifyCommand(), newBackupRestoreCommand())
	return cmd
}

func newBackupNowCommand() *cobra.Command {
	var c control
	var out output
	var reason, verify string
	cmd := &cobra.Command{
		Use:   "now ENVIRONMENT",
		Short: "Make a backup, and verify it",
		Long: `Have the agent make a backup of an environment now, and read it to its end (--verify L1). With
--verify none it counts as verified only once the policy's schedule had it read.
` + orderExits,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			level := backup.Level(verify)
			if !slices.Contains([]backup.Level{"none", backup.L0, backup.L1, backup.L2}, level) {
				return exit{usageExit, fmt.Errorf("--verify: %q is none of none, L0, L1 and L2", verify)}
			}
			if err := c.connect(args[0]); err != nil {
				return err
			}
			made, err := makeBackup(cmd, &c, args[0], reason, level)
			if made == nil {
				return err
			}
			return errors.Join(out.write(cmd.OutOrStdout(), made, func(w io.Writer) error { return printMade(w, made) }), err)
		},
	}
	c.flags(cmd)
	out.flag(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the log")
	cmd.Flags().StringVar(&verify, "verify", string(backup.L1), "level to verify it at: L0, L1, L2, or none")
	return cmd
}

// madeBackup is a backup that was ordered, and what it was found to be.
type madeBackup struct {
	Backup       recorded[evidence.Backup]        `json:"backup"`
	Verification *recorded[evidence.Verification] `json:"verification,omitempty"`
}

// makeBackup orders a backup and a verification of it. Something was made, if the first result is not nil, also when there is an error.
func makeBackup(cmd *cobra.Command, c *control, environment, reason string, level backup.Level) (*madeBackup, error) {
	m := newMeter(cmd.ErrOrStderr())
	made, err := ordered[evidence.Backup](cmd.Context(), c, environment, reconciler.OrderRequest{Task: upkeep.TakeBackup, Reason: reason}, m)
	if err != nil {
		return nil, err
	}
	if made.Record.Manifest == nil {
		return nil, fmt.Errorf("there is no backup (record %d): %s", made.Index, made.Record.Error)
	}
	both := &madeBackup{Backup: made}
	if level == "none" {
		return both, nil
	}
	v, err := ordered[evidence.Verification](cmd.Context(), c, environment, reconciler.OrderRequest{
		Task: upkeep.Verify, Store: made.Record.Store, ID: made.Record.ID, Level: level, Reason: reason,
	}, m)
	if err != nil {
		return both, fmt.Errorf("the backup is made, and not verified: %w", err)
	}
	both.Verification = &v
	return both, verdictOf(v.Record)
}

// verdictOf is nil for a verification that passed.
func verdictOf(v evidence.Verification) error {
	switch {
	case v.Passed:
		return nil
	case len(v.Findings.Findings) > 0: // which the output says
		return exit{notGood, fmt.Errorf("backup %s is not what it should be", v.ID)}
	default:
		return fmt.Errorf("backup %s is not verified: %s", v.ID, v.Unfinished)
	}
}

func newBackupVerifyCommand() *cobra.Command {
	var c control
	var out output
	var level, store, reason string
	cmd := &cobra.Command{
		Use:   "verify ENVIRONMENT [ID]",
		Short: "Verify a backup",
		Long: `Have the agent verify a backup of an environment: the newest in a store, or the one with the ID.
L0 looks whether every object is there, unchanged and locked. L1 downloads, decrypts and reads
all of it. L2 restores it and compares.
` + orderExits,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			o := reconciler.OrderRequest{Task: upkeep.Verify, Store: store, Level: backup.Level(level), Reason: reason}
			if len(args) == 2 {
				o.ID = backup.ID(args[1])
			}
			if !slices.Contains([]backup.Level{backup.L0, backup.L1, backup.L2}, o.Level) {
				return exit{usageExit, fmt.Errorf("--level: %q is none of L0, L1 and L2", level)}
			}
			if err := c.connect(args[0]); err != nil {
				return err
			}
			v, err := ordered[evidence.Verification](cmd.Context(), &c, args[0], o, newMeter(cmd.ErrOrStderr()))
			if err != nil {
				return err
			}
			return errors.Join(out.write(cmd.OutOrStdout(), v, func(w io.Writer) error { return printVerification(w, v) }), verdictOf(v.Record))
		},
	}
	c.flags(cmd)
	out.flag(cmd)
	cmd.Flags().StringVar(&level, "level", string(backup.L1), "L0, L1 or L2")
	cmd.Flags().StringVar(&store, "store", "", "store that it is in (default: the one that the policy writes to)")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the log")
	return cmd
}

func newBackupListCommand() *cobra.Command {
	var k knowledge
	var out output
	cmd := &cobra.Command{
		Use:   "list [ENVIRONMENT]",
		Short: "List backups, what goes on with them and what comes next",
		Long: `List the backups of an environment, or of all, the oldest first: each in each store, with the highest level
that it passed since something was last found, and what was found.
` + knownHelp + "\n\nExit codes: 0 listed; 1 it is not known (no agent, no such environment, an altered log); 2 the command line is wrong.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var list []reconciler.BackupStatus
			if len(args) == 0 {
				var err error
				if list, err = k.all(cmd.Context()); err != nil {
					return err
				}
			} else {
				one, err := k.of(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				list = append(list, one)
			}
			return out.write(cmd.OutOrStdout(), list, func(w io.Writer) error { return printBackups(w, list) })
		},
	}
	k.flags(cmd)
	out.flag(cmd)
	return cmd
}

func newBackupShowCommand() *cobra.Command {
	var k knowledge
	var out output
	cmd := &cobra.Command{
		Use:   "show ENVIRONMENT ID",
		Short: "Show one backup: where it is, what it was found to be, why it is kept",
		Long: `Show one backup in each store: its manifest, levels and findings, locks, the records that say so, and why it is
kept and for how long. With --audit the latter is as of the newest recorded plan.
` + knownHelp + "\n\nExit codes: 0 shown; 1 it is not known; 2 the command line is wrong.",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := k.of(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			list := copiesOf(s, backup.ID(args[1]))
			if len(list) == 0 {
				return fmt.Errorf("there is no backup %q of %s", args[1], args[0])
			}
			return out.write(cmd.OutOrStdout(), list, func(w io.Writer) error { return printCopies(w, s, list) })
		},
	}
	k.flags(cmd)
	out.flag(cmd)
	return cmd
}

// shownCopy is a backup in one store.
type shownCopy struct {
	upkeep.Copy
	Retention *backup.Decision `json:"retention,omitempty"`  // nil: not known
	Locked    time.Time        `json:"lockedUntil,omitzero"` // its manifest
}

func copiesOf(s reconciler.BackupStatus, id backup.ID) []shownCopy {
	var list []shownCopy
	for _, c := range s.Backups.Copies {
		if c.ID != id {
			continue
		}
		show := shownCopy{Copy: c, Locked: c.Manifest.LockedUntil}
		if until, extended := s.Backups.Locks[c.Store][c.Manifest.Key]; extended {
			show.Locked = until
		}
		for _, d := range s.Retention[c.Store] {
			if d.ID == id {
				show.Retention = &d
			}
		}
		list = append(list, show)
	}
	return list
}

func printMade(w io.Writer, m *madeBackup) error {
	b := m.Backup.Record
	row := rows(w)
	row("Backup", "%s", b.ID)
	row("Store", "%s, %s", b.Store, b.Manifest.Key)
	row("Snapshot", "%s", moment(b.Snapshot))
	row("Read", "%s, of it %s of new attachments; %s stored", amount(b.Plain), amount(b.Copied), amount(b.Sealed))
	row("Took", "%s: %s", between(b.Began, b.Ended), segments(b.Segments))
	if b.Lacks > 0 {
		row("Lacks", "%d attachments that the filestore did not have", b.Lacks)
	}
	row("Record", "%d", m.Backup.Index)
	if m.Verification == nil {
		return nil
	}
	return printVerification(w, *m.Verification)
}

func printVerification(w io.Writer, r recorded[evidence.Verification]) error {
	v := r.Record
	row := rows(w)
	said := "passed"
	switch {
	case len(v.Findings.Findings) > 0:
		said = fmt.Sprintf("findings: %d", len(v.Findings.Findings)+v.Further)
	case !v.Passed:
		said = "not carried through: " + v.Unfinished
	}
	row("Verification", "%s of %s in %s: %s (record %d)", v.Asked, v.ID, v.Store, said, r.Index)
	row("Looked at", "%d objects, %s in %s", v.Objects, amount(v.Bytes), between(v.Began, v.Ended))
	printFindings(row, v.Findings)
	return nil
}

func printFindings(row func(name, format string, values ...any), f backup.Findings) {
	for _, found := range f.Findings {
		row("Found", "%s %s: %s", found.Level, found.Object, found.What)
		row("", "%s", found.Remedy)
	}
	if f.Further > 0 {
		row("Found", "and %d more", f.Further)
	}
	for _, note := range f.Notes {
		row("Note", "%s: %s", note.Object, note.What)
	}
}

func printBackups(w io.Writer, list []reconciler.BackupStatus) error {
	fmt.Fprintln(w, "ENVIRONMENT\tID\tSTORE\tSNAPSHOT\tLEVEL\tVERIFIED\tFOUND")
	for _, s := range list {
		for _, c := range s.Backups.Copies {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", plain(s.Environment), plain(string(c.ID)), plain(c.Store), moment(c.Snapshot),
				dash(plain(string(c.Level))), dash(moment(c.Verified)), dash(plain(cmp.Or(deleting(&s.Backups, c), c.Problem))))
		}
	}
	for _, s := range list {
		printGoingOn(w, s)
	}
	return nil
}

// printGoingOn says what is in the way of backups, what goes on and what comes next. It has no columns.
func printGoingOn(w io.Writer, s reconciler.BackupStatus) {
	say := func(format string, values ...any) {
		fmt.Fprintf(w, "%s: %s\n", plain(s.Environment), plain(fmt.Sprintf(format, values...)))
	}
	if s.Problem != "" {
		say("%s", s.Problem)
	}
	if f := s.Backups.Failed; f != nil {
		say("the last attempt failed at %s: %s", moment(f.Ended), f.Error)
	}
	for _, in := range slices.Sorted(maps.Keys(s.Backups.Blocked)) {
		say("something is kept in %s that could be deleted: %s", in, s.Backups.Blocked[in])
	}
	for _, run := range slices.Sorted(maps.Keys(s.Failing)) {
		say("%s: %s", run, s.Failing[run])
	}
	for _, l := range s.Lanes {
		if l.Running != "" && l.Progress != nil {
			say("under way since %s: %s", moment(l.Since), meterLine(*l.Progress))
		}
		if l.Orders > 0 {
			say("%d orders wait", l.Orders)
		}
		if n := l.Next; n != nil {
			say("next at %s: %s %s", moment(n.At), strings.TrimSpace(string(n.Task)+" "+string(n.Level)), n.Store)
		}
	}
}

func printCopies(w io.Writer, s reconciler.BackupStatus, list []shownCopy) error {
	row := rows(w)
	row("Backup", "%s of %s", list[0].ID, s.Environment)
	row("Snapshot", "%s", moment(list[0].Snapshot))
	if list[0].Release != "" {
		row("Made for", "release %s", list[0].Release)
	}
	if made := s.Backups.Made; made != nil && made.ID == list[0].ID { // of earlier ones the log has it
		row("Why", "%s", made.Reason)
		row("Read", "%s, of it %s of new attachments; %s stored", amount(made.Plain), amount(made.Copied), amount(made.Sealed))
	}
	for _, c := range list {
		row("Store", "%s, since %s (record %d)", c.Store, moment(c.Made), c.Record)
		row("", "manifest %s, version %s", c.Manifest.Key, dash(c.Manifest.Version))
		row("", "manifest has SHA-256 %s", c.Manifest.SHA256)
		if !c.Locked.IsZero() {
			row("", "manifest is locked until %s", moment(c.Locked))
		}
		row("", "%s", verified(c.Copy))
		if said := deleting(&s.Backups, c.Copy); said != "" {
			row("", "%s", said)
		}
		if c.Retention == nil {
			continue
		}
		kept := "kept"
		if !c.Retention.Keep {
			kept = "not kept any more"
		}
		if !c.Retention.Until.IsZero() {
			kept += ", at least until " + moment(c.Retention.Until)
		}
		row("", "%s: %s", kept, strings.Join(c.Retention.Reasons, "; "))
	}
	return nil
}

// deleting says that a copy is being deleted, "" if it is not.
func deleting(b *upkeep.Backups, c upkeep.Copy) string {
	record := b.Deleting(c)
	if record == 0 {
		return ""
	}
	return fmt.Sprintf("being deleted (record %d)", record)
}

// verified says what a copy was found to be.
func verified(c upkeep.Copy) string {
	switch {
	case c.FailedAt != "":
		return fmt.Sprintf("failed %s (record %d): %s", c.FailedAt, c.Looked, c.Problem)
	case c.Level == "":
		return "not verified"
	case c.Verified.IsZero():
		return fmt.Sprintf("passed %s, not read to its end yet (record %d)", c.Level, c.Looked)
	}
	return fmt.Sprintf("passed %s, last read to its end at %s (record %d)", c.Level, moment(c.Verified), c.Looked)
}

// rows prints a name and what there is to say.
func rows(w io.Writer) func(name, format string, values ...any) {
	return func(name, format string, values ...any) {
		fmt.Fprintf(w, "%s\t%s\n", name, plain(fmt.Sprintf(format, values...)))
	}
}

// moment is a time for people; "" for none.
func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format(time.RFC3339)
}

func segments(list []backup.Segment) string {
	texts := make([]string, len(list))
	for i, s := range list {
		texts[i] = s.Name + " " + s.Took.Round(time.Millisecond).String()
	}
	return strings.Join(texts, ", ")
}
