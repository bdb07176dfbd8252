package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
Exit codes: 0 complete, 3 tampered, 4 incomplete, 6 unreadable.`

func newEvidenceCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "evidence", Short: "Read and check the audit log", Long: evidenceHelp}
	cmd.AddCommand(newEvidenceLogCommand(), newEvidenceShowCommand(), newEvidenceVerifyCommand())
	return cmd
}

func newEvidenceLogCommand() *cobra.Command {
	var c clone
	var environment, kind string
	var out output
	cmd := &cobra.Command{
		Use:   "log",
		Short: "List the records",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			records := []evidence.Record{}
			report, err := c.verify(cmd, func(r evidence.Record) {
				if (environment == "" || r.Environment == environment) && (kind == "" || r.Type == kind) {
					records = append(records, r)
				}
			})
			if err != nil {
				return err
			}
			if err := out.write(cmd.OutOrStdout(), records, func(w io.Writer) error { return printRecords(w, records) }); err != nil {
				return err
			}
			return report.exit()
		},
	}
	c.flags(cmd)
	out.flag(cmd)
	cmd.Flags().StringVar(&environment, "environment", "", "only records of this environment")
	cmd.Flags().StringVar(&kind, "type", "", "only records of this type")
	return cmd
}

func printRecords(w io.Writer, records []evidence.Record) error {
	fmt.Fprintln(w, "INDEX\tTIME\tTYPE\tENVIRONMENT\tDEPLOYMENT\tRELEASE\tSUMMARY")
	for _, r := range records {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Index, r.Time.Format(time.RFC3339), r.Type,
			dash(r.Environment), dash(numberOf(r.Deployment)), dash(subjectOf(r)), r.Summary())
	}
	return nil
}

func newEvidenceShowCommand() *cobra.Command {
	var c clone
	cmd := &cobra.Command{
		Use:   "show INDEX|ID",
		Short: "Print one record with everything it says",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var found *evidence.Record
			report, err := c.verify(cmd, func(r evidence.Record) {
				if strconv.FormatUint(r.Index, 10) == args[0] || r.ID == args[0] {
					found = &r
				}
			})
			if err != nil {
				return err
			}
			if found == nil {
				return errors.Join(fmt.Errorf("no record with the index or ID %q", args[0]), report.exit())
			}
			encoder := json.NewEncoder(cmd.OutOrStdout())
			encoder.SetIndent("", "  ")
			if err := encoder.Encode(found); err != nil {
				return err
			}
			return report.exit()
		},
	}
	c.flags(cmd)
	return cmd
}

func newEvidenceVerifyCommand() *cobra.Command {
	var c clone
	var out output
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check signatures, tree and sequence of the whole log",
		Long: `Check that no record was altered, removed, added or reordered: the signature of every
record and commit, the Merkle tree against the signed checkpoint, the sequence of
every writer. It needs a clone and the public keys that you pinned, and no network.
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
	return cmd
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
	for _, note := range r.Notes {
		fmt.Fprintf(w, "note\t%s\n", note)
	}
	for _, p := range r.Problems {
		fmt.Fprintf(w, "%s\n", p)
	}
	if r.Omitted > 0 {
		fmt.Fprintf(w, "and %d more problems\n", r.Omitted)
	}
	if len(r.Problems) == 0 {
		fmt.Fprintf(w, "complete\t%d records, nothing altered, nothing missing\n", r.Records)
	}
	return nil
}

// clone is a clone of an audit repository and the keys to check it with.
type clone struct{ repo, keys string }

func (c *clone) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.repo, "repo", ".", "folder of a clone of the audit repository")
	cmd.Flags().StringVar(&c.keys, "keys", "", "file with the public keys of the writers you trust, one a line")
	_ = cmd.MarkFlagRequired("keys") // it is defined on the line above
}

// checked is a verification with the exit code it stands for.
type checked struct{ evidence.Report }

// exit is nil for a complete log.
func (c checked) exit() error {
	if code := c.ExitCode(); code != evidence.ExitComplete {
		return exit{code, fmt.Errorf("the log is not in order: %d problems", len(c.Problems)+c.Omitted)}
	}
	return nil
}

// verify checks the clone and passes on every record that is in order.
func (c *clone) verify(cmd *cobra.Command, each func(evidence.Record)) (checked, error) {
	trusted, err := evidence.LoadTrusted(c.keys)
	if err != nil {
		return checked{}, exit{evidence.ExitUnreadable, err}
	}
	report, err := evidence.Verify(cmd.Context(), c.repo, trusted, evidence.VerifyOptions{
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
func subjectOf(r evidence.Record) string {
	if len(r.Subjects) == 0 {
		return ""
	}
	hex := r.Subjects[0].Digest["sha256"]
	return hex[:min(len(hex), 12)]
}
