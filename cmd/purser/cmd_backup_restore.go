package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
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

Nothing is ever overwritten or deleted. Database and filestore are restored beside the target and checked there; only then
they get its names, and what was there keeps another. Unless the target is empty, that has to be confirmed: by typing on the
terminal, or with --confirm, a text that names target and backup and is shown when it is missing. Odoo, and whoever else is
connected to the database, has to be stopped before. An interrupted restore leaves the target as it was; one that was killed
may leave what is named purser-XXXXXXXX beside it.

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
	f.StringVar(&r.store, "store", "", "store to read from (default: the policy's, or another one that has the backup)")
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
	opened, err := backupsite.Open(config.Backup, config.DataDir, time.Now)
	if err != nil {
		return err
	}
	defer opened.Close()
	stored, err := r.stored(opened, s, id)
	if err != nil {
		return err
	}
	options, err := r.proof(cmd, opened, s)
	if err != nil {
		return err
	}
	m := newMeter(cmd.ErrOrStderr())
	options.Progress = m.of("restore")
	restored, err := r.confirmed(ctx, cmd.ErrOrStderr(), stored, target, backup.RestoreOptions{ProofOptions: options, Confirmation: r.confirm}, m)
	switch {
	case errors.Is(err, backup.ErrOccupied):
		return exit{unconfirmed, err}
	case errors.Is(err, backup.ErrUnfit):
		return errors.Join(r.out.write(cmd.OutOrStdout(), restored, func(w io.Writer) error { return printRestored(w, stored, target, restored, err) }), exit{notGood, err})
	case err != nil:
		return err
	}
	return r.out.write(cmd.OutOrStdout(), restored, func(w io.Writer) error { return printRestored(w, stored, target, restored, nil) })
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

// stored finds the backup: in the store that is named, in the policy's, or in another one; one that was not found bad comes first.
func (r *restoring) stored(s *backupsite.Site, known reconciler.BackupStatus, id backup.ID) (backup.Stored, error) {
	var found *upkeep.Copy
	for _, c := range known.Backups.Copies {
		if c.ID != id || r.store != "" && c.Store != r.store {
			continue
		}
		if found == nil || rank(c, known.Store) > rank(*found, known.Store) {
			found = &c
		}
	}
	if found == nil {
		in := ""
		if r.store != "" {
			in = fmt.Sprintf(" in store %q", r.store)
		}
		return backup.Stored{}, fmt.Errorf("the log knows no backup %q of %s%s", string(id), known.Environment, in)
	}
	in, err := s.Store(found.Store)
	if err != nil {
		return backup.Stored{}, err
	}
	identities, err := s.Identities()
	if err != nil {
		return backup.Stored{}, err
	}
	return backup.Stored{
		Store: in, Environment: known.Environment, ID: id, Manifest: found.Manifest, Locks: known.Backups.Locks[found.Store], Identities: identities,
	}, nil
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
func (r *restoring) confirmed(ctx context.Context, to io.Writer, b backup.Stored, t backup.Target, o backup.RestoreOptions, m *meter) (*backup.Restored, error) {
	restored, err := backup.Restore(ctx, b, t, o)
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
	restored, err = backup.Restore(ctx, b, t, o)
	m.end()
	return restored, err
}

func printRestored(w io.Writer, b backup.Stored, t backup.Target, r *backup.Restored, failed error) error {
	row := rows(w)
	if failed != nil {
		row("Not restored", "%s of %s", b.ID, b.Environment)
	} else {
		row("Restored", "%s of %s, as of %s", b.ID, b.Environment, moment(r.Snapshot))
		row("Database", "%s", t.Database.Connection)
		row("Filestore", "%s", t.Filestore)
	}
	if r.AsideDatabase != "" {
		row("Kept aside", "database %s", r.AsideDatabase)
	}
	if r.AsideFilestore != "" {
		row("Kept aside", "folder %s", r.AsideFilestore)
	}
	row("Took", "%s: %s", r.Took.Round(time.Millisecond), segments(r.Segments))
	printFindings(row, r.Findings)
	return nil
}
