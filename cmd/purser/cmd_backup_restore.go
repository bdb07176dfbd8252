package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/purser-gitops/purser/backup"
	"github.com/purser-gitops/purser/backup/postgres"
	backupsite "github.com/purser-gitops/purser/backup/site"
	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/reconciler/upkeep"
	"github.com/purser-gitops/purser/sources/declaration"
)

const restoreHelp = `Restore a backup into a database of a given server and a folder. Stores and keys are those of the agent's configuration;
--identity names other keys, such as those in escrow. It runs in this process, and reads the backup by what the log recorded of it.

Nothing that is there is ever overwritten or deleted. Database and filestore are restored beside the target and checked there; only then
they get its names, and what was there keeps another. Unless the target is empty, that has to be confirmed: by typing on the
terminal, or with --confirm, a text that names target and backup and is shown when it is missing. Odoo, and whoever else is
connected to the database, has to be stopped before. An interrupted restore leaves the target as it was. What one left that was
killed, named purser-XXXXXXXX, the next one into the same target says and removes.

If a copy is damaged, or its store does not answer for 3 minutes, the next store that has the backup is taken, unless --store
names one: from the beginning, and only once nothing of the first attempt is left at the target.

  purser backup restore prod-eu 20261122T101500Z-prod-eu-abcdefgh --config purser.yaml \
    --host db.example.com --user odoo --database shop --password-file password --ca-file ca.pem --filestore /var/lib/odoo/filestore/shop
` + knownHelp + `

Exit codes: 0 restored; 1 it failed, and the target is as it was; 2 the command line is wrong; 3 the backup is not what it
should be, and was not restored; 4 something is at the target, and its replacement was not confirmed.`

// unconfirmed is the exit code when nobody confirmed that something may be replaced.
const unconfirmed = 4

// restoring is one restore.
type restoring struct {
	known    knowledge
	config   string
	store    string
	identity string
	scratch  string
	confirm  string
	place    postgres.Place
	files    string // filestore
	tolerate declaration.Tolerate
	out      output
}

func newBackupRestoreCommand() *cobra.Command {
	var r restoring
	cmd := &cobra.Command{
		Use:   "restore ENVIRONMENT ID",
		Short: "Restore a backup into a database and a folder",
		Long:  restoreHelp,
		Args:  cobra.ExactArgs(2),
		RunE:  func(cmd *cobra.Command, args []string) error { return r.run(cmd, args[0], backup.ID(args[1])) },
	}
	f := cmd.Flags()
	f.StringVarP(&r.config, "config", "c", "purser.yaml", "the agent's configuration, with stores and keys")
	f.StringVar(&r.known.agent.server, "server", "", "address of the agent (default: where the configuration says that it listens)")
	r.known.auditFlags(cmd)
	r.out.flag(cmd)
	f.StringVar(&r.store, "store", "", "store to read from (default: the policy's, and each other one that has the backup until a copy is restored)")
	f.StringVar(&r.identity, "identity", "", "file with age identities that open the backup (default: the configuration's identityFile)")
	f.StringVar(&r.scratch, "scratch", "", "folder for what does not fit into memory (default: the configuration's scratchDir)")
	f.StringVar(&r.confirm, "confirm", "", "text that lets the backup take the place of what is at the target")
	f.StringVar(&r.place.Host, "host", "", "target: name or address of the server, or absolute path of the folder with its socket")
	f.IntVar(&r.place.Port, "port", 5432, "target: port of the server")
	f.StringVar(&r.place.User, "user", "", "target: user, who may create databases and owns the one that is replaced")
	f.StringVar(&r.place.Database, "database", "", "target: name of the database, which need not exist")
	f.StringVar(&r.place.PasswordFile, "password-file", "", "target: file with the user's password")
	f.StringVar(&r.place.TLS, "tls", "verify-full", "target: verify-full, verify-ca, require or disable")
	f.StringVar(&r.place.CAFile, "ca-file", "", "target: file with the certificates of the server's authorities")
	f.StringVar(&r.place.Maintenance, "maintenance", "postgres", "target: database to connect to meanwhile")
	f.StringVar(&r.files, "filestore", "", "target: folder for the filestore, which need not exist")
	f.Int64Var(&r.tolerate.MissingAttachments, "missing-attachments", 0, "contents of attachments that may lack (default: what the policy tolerates)")
	f.BoolVar(&r.tolerate.EmptyDatabase, "empty-database", false, "the database may be without business (default: what the policy tolerates)")
	return cmd
}

func (r *restoring) run(cmd *cobra.Command, environment string, id backup.ID) error {
	ctx := cmd.Context()
	target, err := r.target()
	if err != nil {
		return exit{usageExit, err}
	}
	config, err := declaration.LoadAgent(r.config)
	if err != nil {
		return err
	}
	if r.identity != "" {
		if config.Backup.IdentityFile, err = filepath.Abs(r.identity); err != nil {
			return err
		}
	}
	if r.known.agent.server == "" || r.known.audit != "" {
		r.known.agent.config = r.config
	}
	s, err := r.known.of(ctx, environment)
	if err != nil {
		return r.hintAudit(err)
	}
	m := newMeter(cmd.ErrOrStderr())
	opened, err := backupsite.Open(config.Backup, config.DataDir, time.Now, slog.New(slog.NewTextHandler(m, nil)))
	if err != nil {
		return err
	}
	defer opened.Close()
	copies, err := r.copies(s, id)
	if err != nil {
		return err
	}
	options, err := r.proof(cmd, opened, s)
	if err != nil {
		return err
	}
	identities, err := opened.Identities()
	if err != nil {
		return err
	}
	options.Progress = m.of("restore")
	tell := func(text string) { fmt.Fprintln(cmd.ErrOrStderr(), plain(text)) }
	o := backup.RestoreOptions{ProofOptions: options, Confirmation: r.confirm, Tell: tell}
	restored, err := r.oneOf(ctx, cmd.ErrOrStderr(), copies, target, o, m, func(c upkeep.Copy) (backup.Stored, error) {
		in, err := opened.Store(c.Store)
		return backup.Stored{
			Store: in, Environment: environment, ID: id, Manifest: c.Manifest, Locks: s.Backups.Locks[c.Store], Identities: identities,
		}, err
	})
	print := func(failed error) error {
		return r.out.write(cmd.OutOrStdout(), restored, func(w io.Writer) error { return printRestored(w, target, restored, failed) })
	}
	var bad exit
	switch {
	case errors.As(err, &bad) && bad.code == notGood:
		return errors.Join(print(err), err)
	case err != nil:
		return err
	}
	return print(nil)
}

// restoredFrom is what became of a restore, and of which copy.
type restoredFrom struct {
	*backup.Restored
	Store string `json:"store"` // that it was read from
}

// oneOf restores one of the copies: the next one, if a copy cannot be restored and has left nothing at the target.
func (r *restoring) oneOf(ctx context.Context, say io.Writer, copies []upkeep.Copy, t backup.Target, o backup.RestoreOptions, m *meter,
	open func(upkeep.Copy) (backup.Stored, error),
) (restored restoredFrom, err error) {
	var failed []error
	unfit := true // all of them
	for i, c := range copies {
		b, err := open(c)
		another := err != nil
		if err == nil {
			restored.Store = c.Store
			restored.Restored, err = r.confirmed(ctx, say, b, t, &o, m)
			another = errors.Is(err, backup.ErrCopy)
		}
		if err == nil {
			return restored, nil
		}
		unfit = unfit && errors.Is(err, backup.ErrUnfit)
		if len(copies) > 1 {
			failed = append(failed, fmt.Errorf("store %q: %w", c.Store, err))
		} else {
			failed = append(failed, err)
		}
		if errors.Is(err, backup.ErrOccupied) {
			return restored, exit{unconfirmed, errors.Join(failed...)}
		}
		if !another || i == len(copies)-1 {
			break
		}
		fmt.Fprintf(say, "The copy in store %q cannot be restored: %s\nNothing of it is left at the target. It is tried with the copy in store %q.\n",
			c.Store, plain(err.Error()), copies[i+1].Store)
	}
	if err = errors.Join(failed...); unfit {
		return restored, exit{notGood, err}
	}
	return restored, err
}

// hintAudit says how to do without an agent.
func (r *restoring) hintAudit(err error) error {
	if r.known.audit != "" {
		return err
	}
	return fmt.Errorf("%w (--audit %s reads the log instead)", err, remoteAudit)
}

func (r *restoring) target() (backup.Target, error) {
	if r.place.Host == "" || r.place.User == "" || r.place.Database == "" || r.files == "" {
		return backup.Target{}, errors.New("--host, --user, --database and --filestore say where it is restored to: all are needed")
	}
	var err error
	for _, file := range []*string{&r.files, &r.place.PasswordFile, &r.place.CAFile, &r.scratch} {
		if *file == "" {
			continue
		}
		if *file, err = filepath.Abs(*file); err != nil {
			return backup.Target{}, err
		}
	}
	return backup.Target{Database: r.place, Filestore: r.files}, r.place.Validate()
}

// copies finds the backup: in the store that is named; or in all, where those come first that were not found bad, and among them
// that of the policy.
func (r *restoring) copies(known reconciler.BackupStatus, id backup.ID) ([]upkeep.Copy, error) {
	var found []upkeep.Copy
	var gone string
	for _, c := range known.Backups.Copies {
		if c.ID != id || r.store != "" && c.Store != r.store {
			continue
		}
		if said := deleting(&known.Backups, c); said != "" { // its manifest goes first
			gone = said
			continue
		}
		found = append(found, c)
	}
	if len(found) == 0 && gone != "" {
		return nil, fmt.Errorf("backup %s of %s cannot be restored: it is %s", id, known.Environment, gone)
	}
	if len(found) == 0 {
		in := ""
		if r.store != "" {
			in = fmt.Sprintf(" in store %q", r.store)
		}
		return nil, fmt.Errorf("the log knows no backup %q of %s%s", string(id), known.Environment, in)
	}
	slices.SortStableFunc(found, func(a, b upkeep.Copy) int { return rank(b, known.Store) - rank(a, known.Store) })
	return found, nil
}

// rank orders copies by how likely they are good and near.
func rank(c upkeep.Copy, policy string) int {
	n := 0
	if c.FailedAt == "" {
		n += 2
	}
	if c.Store == policy {
		n++
	}
	return n
}

func (r *restoring) proof(cmd *cobra.Command, s *backupsite.Site, known reconciler.BackupStatus) (backup.ProofOptions, error) {
	o := backup.ProofOptions{
		Scratch: cmp.Or(r.scratch, s.Scratch()), Programs: s.Programs(), Absent: r.tolerate.MissingAttachments, Empty: r.tolerate.EmptyDatabase,
	}
	if t := known.Tolerate; t != nil {
		if !cmd.Flags().Changed("missing-attachments") {
			o.Absent = t.MissingAttachments
		}
		if !cmd.Flags().Changed("empty-database") {
			o.Empty = t.EmptyDatabase
		}
	}
	if err := os.MkdirAll(o.Scratch, 0o711); err != nil {
		return o, fmt.Errorf("create folder for what does not fit into memory: %w", err)
	}
	return o, nil
}

// confirmed restores, and asks whoever sits at the terminal if something is at the target.
func (r *restoring) confirmed(ctx context.Context, to io.Writer, b backup.Stored, t backup.Target, o *backup.RestoreOptions, m *meter) (*backup.Restored, error) {
	restored, err := backup.Restore(ctx, b, t, *o)
	m.end()
	if !errors.Is(err, backup.ErrOccupied) || o.Confirmation != "" || !term.IsTerminal(int(os.Stdin.Fd())) {
		return restored, err
	}
	want := t.Confirmation(b.ID)
	fmt.Fprintf(to, "%s\nWhat is there gets another name and is kept. To go on, type:\n%s\n", plain(err.Error()), plain(want))
	typed, failed := readLine(os.Stdin, len(want)+1)
	if failed != nil || typed != want {
		return restored, errors.Join(err, failed)
	}
	o.Confirmation = typed
	restored, err = backup.Restore(ctx, b, t, *o)
	m.end()
	return restored, err
}

func printRestored(w io.Writer, t backup.Target, r restoredFrom, failed error) error {
	row := rows(w)
	if failed != nil {
		row("Not restored", "%s of %s, from store %s", r.ID, r.Environment, r.Store)
	} else {
		row("Restored", "%s of %s, from store %s, as of %s", r.ID, r.Environment, r.Store, moment(r.Snapshot))
		row("Database", "%s", t.Database.Connection)
		row("Filestore", "%s", t.Filestore)
	}
	if r.AsideDatabase != "" {
		row("Kept aside", "database %s", r.AsideDatabase)
	}
	if r.AsideFilestore != "" {
		row("Kept aside", "folder %s", r.AsideFilestore)
	}
	for _, name := range r.Removed {
		row("Removed", "database %s, left by a restore that was killed", name)
	}
	row("Took", "%s: %s", r.Took.Round(time.Millisecond), segments(r.Segments))
	printFindings(row, r.Findings)
	return nil
}
