package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"sigs.k8s.io/yaml"
)

// output writes one value in the form that was asked for. It is the value of the flag that asks.
type output struct{ format string }

// formats that every command with --output knows.
var formats = []string{"table", "json", "yaml"}

func (o *output) flag(cmd *cobra.Command) {
	o.format = formats[0]
	cmd.Flags().VarP(o, "output", "o", strings.Join(formats, ", "))
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
}

func (o *output) String() string { return o.format }
func (o *output) Type() string   { return "format" }

func (o *output) Set(format string) error {
	if !slices.Contains(formats, format) {
		return fmt.Errorf("choose one of %s", strings.Join(formats, ", "))
	}
	o.format = format
	return nil
}

// write renders value as JSON or YAML, or calls table with a writer that aligns tab-separated columns.
func (o *output) write(w io.Writer, value any, table func(io.Writer) error) error {
	switch o.format {
	case "json":
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(value)
	case "yaml":
		text, err := yaml.Marshal(value)
		if err != nil {
			return err
		}
		_, err = w.Write(text)
		return err
	}
	columns := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	if err := table(columns); err != nil {
		return err
	}
	return columns.Flush()
}

// plain keeps what authors and servers wrote on one line, and from steering the terminal.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
}

// colour reports whether w is a terminal that may be coloured (https://no-color.org).
func colour(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && os.Getenv("NO_COLOR") == "" && term.IsTerminal(int(file.Fd()))
}
