package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/purser-gitops/purser/reconciler/evidence"
)

const evidenceHelp = `Read and check the signed log of what was done. All of it works on a clone of the
audit repository, without network:

  git clone --mirror AUDIT-REPOSITORY audit.git
  purser evidence verify --repo audit.git --keys signing.pub

Every command checks the whole log first, and shows only records that are in order.
` + evidenceExits

const evidenceExits = `
Exit codes: 0 complete, 3 tampered, 4 incomplete, 5 a decision is not what its inputs give, 6 unreadable; 1 the log is in order
but the record asked for is not in it, 2 the command line is wrong.`

func newEvidenceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "evidence", Short: "Read and check the audit log", Long: evidenceHelp,
		Args: cobra.NoArgs, // else an unknown command below it is no error
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newEvidenceLogCommand(), newEvidenceShowCommand(), newEvidenceVerifyCommand(), newEvidenceCheckpointCommand())
	return cmd
}

func newEvidenceLogCommand() *cobra.Command {
	var c clone
	var environment, kind string
	var out output
	cmd := &cobra.Command{
		Use:   "log",
		Short: "List the records",
		Long:  "List the records of a log, oldest first.\n" + evidenceExits,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			records := []record{}
			report, err := c.verify(cmd, func(r evidence.Record) {
				if (environment == "" || r.Environment == environment) && (kind == "" || r.Type == kind) {
					records = append(records, record(r))
				}
			})
			if err != nil {
				return err
			}
			if err := out.write(cmd.OutOrStdout(), records, func(w io.Writer) error { return printRecords(w, records) }); err != nil {
				return err
			}
			return report.explain()
		},
	}
	c.flags(cmd)
	out.flag(cmd)
	cmd.Flags().StringVar(&environment, "environment", "", "only records of this environment")
	cmd.Flags().StringVar(&kind, "type", "", "only records of this type")
	return cmd
}

// record is an [evidence.Record] as --output shows it.
type record struct {
	Index uint64 `json:"index"`
	evidence.Header
	Type      string             `json:"type"`
	Subjects  []evidence.Subject `json:"subjects"`
	Predicate json.RawMessage    `json:"predicate"`
}

func printRecords(w io.Writer, records []record) error {
	fmt.Fprintln(w, "INDEX\tTIME\tTYPE\tENVIRONMENT\tDEPLOYMENT\tRELEASE\tSUMMARY")
	for _, r := range records {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Index, r.Time.Format(time.RFC3339), r.Type,
			dash(r.Environment), dash(numberOf(r.Deployment)), dash(subjectOf(r)), dash(plain(evidence.Record(r).Summary())))
	}
	return nil
}

func newEvidenceShowCommand() *cobra.Command {
	var c clone
	var blob string
	cmd := &cobra.Command{
		Use:   "show INDEX|ID",
		Short: "Print one record with everything it says",
		Long: `Print, as JSON, everything that one record says. What is bulky stands in blobs beside the
log, which may be erased without harm to it: --blob prints one, such as the "diff" of a plan or
a drift record.
` + evidenceExits,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var found *record
			report, err := c.verify(cmd, func(r evidence.Record) {
				if strconv.FormatUint(r.Index, 10) == args[0] || r.ID == args[0] {
					shown := record(r)
					found = &shown
				}
			})
			if err != nil {
				return err
			}
			if found == nil {
				return errors.Join(fmt.Errorf("no record with the index or ID %q", args[0]), report.explain())
			}
			var shown any = found
			if blob != "" {
				if shown, err = c.blob(found, blob); err != nil {
					return errors.Join(err, report.explain())
				}
			}
			encoder := json.NewEncoder(cmd.OutOrStdout())
			encoder.SetIndent("", "  ")
			if err := encoder.Encode(shown); err != nil {
				return err
			}
			return report.explain()
		},
	}
	c.flags(cmd)
	cmd.Flags().StringVar(&blob, "blob", "", "print this blob of the record instead")
	return cmd
}

// blob reads a blob of a record; all of them are JSON.
func (c *clone) blob(r *record, name string) (json.RawMessage, error) {
	var names []string
	for _, b := range r.Blobs {
		if b.Name == name {
			return evidence.ReadBlob(c.repo, b)
		}
		names = append(names, b.Name)
	}
	return nil, fmt.Errorf("record %d has no blob %q; it has %q", r.Index, name, names)
}

func newEvidenceVerifyCommand() *cobra.Command {
	var c clone
	var out output
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check signatures, tree and sequence of the whole log",
		Long: `Check that no record was altered, removed, added or reordered: the signature of every
record and commit, the Merkle tree against the signed checkpoint, the sequence of
every writer. Every decision is evaluated again from its inputs, and one that needed
approvals must name their records. It needs a clone and the public keys that you pinned, and no network.
` + evidenceExits,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			report, err := c.verify(cmd, func(evidence.Record) {})
			if err != nil {
				return err
			}
			if err := out.write(cmd.OutOrStdout(), report.Report, func(w io.Writer) error { return printReport(w, report.Report) }); err != nil {
				return err
			}
			return report.exit()
		},
	}
	c.flags(cmd)
	out.flag(cmd)
	cmd.Flags().StringVar(&c.since, "since", "", "file with a checkpoint that you kept: the log must continue it")
	return cmd
}

func newEvidenceCheckpointCommand() *cobra.Command {
	var c clone
	var writer string
	cmd := &cobra.Command{
		Use:   "checkpoint",
		Short: "Print the newest checkpoint, to keep it elsewhere",
		Long: `Check the whole log and print its newest checkpoint: a few lines that stand for all records
so far. Keep them where the audit repository's owner cannot change them. "purser evidence
verify --since FILE" proves that the log still contains it, and an agent whose configuration
names the file (audit.checkpointFile) does not start with a log that lacks it.

  purser evidence checkpoint --repo audit.git --keys signing.pub > checkpoint
` + evidenceExits,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			report, err := c.verify(cmd, func(evidence.Record) {})
			if err != nil {
				return err
			}
			if err := report.explain(); err != nil {
				return err
			}
			newest, err := newestCheckpoint(report.Branches, writer)
			if err != nil {
				return err
			}
			_, err = io.WriteString(cmd.OutOrStdout(), newest)
			return err
		},
	}
	c.flags(cmd)
	cmd.Flags().StringVar(&c.since, "since", "", "file with a checkpoint that you kept: the log must continue it")
	cmd.Flags().StringVar(&writer, "writer", "", "name of the log's writer, where the repository has logs of several")
	return cmd
}

// newestCheckpoint is that of a writer's last branch; branches come in order.
func newestCheckpoint(branches []evidence.BranchReport, writer string) (string, error) {
	newest := ""
	for _, b := range branches {
		switch {
		case writer == "" && b.Writer != branches[0].Writer:
			return "", exit{usageExit, fmt.Errorf("there are logs of several writers, %s and %s: name one with --writer", branches[0].Writer, b.Writer)}
		case writer == "" || b.Writer == writer:
			newest = b.Checkpoint
		}
	}
	if newest == "" {
		return "", fmt.Errorf("there is no log of writer %q", writer)
	}
	return newest, nil
}

// readCheckpoint reads a kept checkpoint, which is a few lines.
func readCheckpoint(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, 64<<10))
}

func printReport(w io.Writer, r evidence.Report) error {
	for _, b := range r.Branches {
		fmt.Fprintf(w, "%s\t%d records in %d commits by %s\n", b.Branch, b.Records, b.Commits, b.Writer)
		for _, e := range b.Epochs {
			if e.Gap {
				fmt.Fprintf(w, "\tfrom record %d on epoch %d, after a lost data directory: records before it may be missing\n", e.First, e.Epoch)
			}
		}
	}
	fmt.Fprintf(w, "blobs\t%d present, %d erased\n", r.Blobs.Present, r.Blobs.Erased)
	fmt.Fprintf(w, "decisions\t%d evaluated again from their inputs\n", r.Decisions)
	for _, note := range r.Notes {
		fmt.Fprintf(w, "note\t%s\n", note)
	}
	for _, p := range r.Problems {
		fmt.Fprintf(w, "%s\n", p)
	}
	if r.Omitted > 0 {
		fmt.Fprintf(w, "and %s more\n", problems(r.Omitted))
	}
	if len(r.Problems) == 0 {
		fmt.Fprintf(w, "complete\t%d records, nothing altered, nothing missing\n", r.Records)
	}
	return nil
}

// clone is a clone of an audit repository and the keys to check it with.
type clone struct{ repo, keys, since string }

func (c *clone) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.repo, "repo", ".", "folder of a clone of the audit repository")
	cmd.Flags().StringVar(&c.keys, "keys", "", "file with the public keys of the writers you trust, one a line")
}

// checked is a verification with the exit code it stands for.
type checked struct{ evidence.Report }

// exit is nil for a complete log.
func (c checked) exit() error {
	if code := c.ExitCode(); code != evidence.ExitComplete {
		return exit{code, fmt.Errorf("the log is not in order: %s", problems(len(c.Problems)+c.Omitted))}
	}
	return nil
}

// explain is exit with the first problem, for commands that do not list them.
func (c checked) explain() error {
	err := c.exit()
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w; the first is\n%s\n\"purser evidence verify\" lists all", err, c.Problems[0])
}

func problems(n int) string {
	if n == 1 {
		return "1 problem"
	}
	return fmt.Sprintf("%d problems", n)
}

// verify checks the clone and passes on every record that is in order.
func (c *clone) verify(cmd *cobra.Command, each func(evidence.Record)) (checked, error) {
	if c.keys == "" {
		return checked{}, exit{usageExit, errors.New("--keys is needed: a file with the public keys of the writers you trust")}
	}
	trusted, err := evidence.LoadTrusted(c.keys)
	if err != nil {
		return checked{}, exit{evidence.ExitUnreadable, err}
	}
	var since []byte
	if c.since != "" {
		if since, err = readCheckpoint(c.since); err != nil {
			return checked{}, exit{evidence.ExitUnreadable, err}
		}
	}
	report, err := evidence.Verify(cmd.Context(), c.repo, trusted, evidence.VerifyOptions{
		Pinned:   since,
		OnRecord: func(r evidence.Record, _ []byte) error { each(r); return nil },
	})
	if err != nil {
		return checked{}, exit{evidence.ExitUnreadable, err}
	}
	return checked{report}, nil
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func numberOf(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// subjectOf is the readable part of a record's first subject.
func subjectOf(r record) string {
	if len(r.Subjects) == 0 {
		return ""
	}
	hex := r.Subjects[0].Digest["sha256"]
	if hex == r.ID {
		return "" // about nothing that has a digest: the subject is the record itself
	}
	return hex[:min(len(hex), 12)]
}
