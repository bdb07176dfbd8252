package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources/declaration"
)

// formatGitHub are the workflow commands that GitHub, and what is like it, reads in a job's output.
const formatGitHub = "github"

// annotations is an [output] that knows [formatGitHub] as well.
type annotations struct{ output }

func (a *annotations) flag(cmd *cobra.Command) {
	known := append(slices.Clone(formats), formatGitHub)
	a.format = formats[0]
	cmd.Flags().VarP(a, "output", "o", strings.Join(known, ", "))
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(known, cobra.ShellCompDirectiveNoFileComp))
}

func (a *annotations) Set(format string) error {
	if format == formatGitHub {
		a.format = format
		return nil
	}
	if err := a.output.Set(format); err != nil {
		return fmt.Errorf("%w, %s", err, formatGitHub)
	}
	return nil
}

// annotate prints what keeps a release from going live.
func annotate(w io.Writer, j *judgement) error {
	for _, g := range j.Gates {
		kind := ""
		switch g.Answer {
		case policy.Deny.String():
			kind = "error"
		case policy.Wait.String():
			kind = "warning"
		default:
			continue
		}
		text := g.Reason
		if g.Hint != "" {
			text += " (" + g.Hint + ")"
		}
		place := declaration.Position{File: g.file}
		if g.file != "" {
			place.Line = 1
		}
		if err := command(w, kind, place, j.Environment+": gate "+g.Gate, text); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "%s: %s\n", j.Environment, j.Answer)
	return err
}

// annotateError prints each thing that is wrong at its place.
func annotateError(w io.Writer, err error) error {
	var declared declaration.Errors
	var refused *render.RefusedError
	switch {
	case errors.As(err, &declared):
		for _, e := range declared {
			text := declaration.Error{What: e.What, Why: e.Why, Remedy: e.Remedy}.Error()
			if err := command(w, "error", e.Position, "declaration", strings.TrimLeft(text, ": ")); err != nil {
				return err
			}
		}
		return nil
	case errors.As(err, &refused):
		return command(w, "error", declaration.Position{File: refused.File, Line: refused.Line, Column: refused.Column}, "render", err.Error())
	}
	return command(w, "error", declaration.Position{}, "purser explain", err.Error())
}

// command prints one workflow command.
func command(w io.Writer, kind string, at declaration.Position, title, text string) error {
	var properties []string
	add := func(name, value string) {
		if value != "" && value != "0" {
			properties = append(properties, name+"="+property.Replace(value))
		}
	}
	add("file", at.File)
	add("line", strconv.Itoa(at.Line))
	add("col", strconv.Itoa(at.Column))
	add("title", title)
	_, err := fmt.Fprintf(w, "::%s %s::%s\n", kind, strings.Join(properties, ","), message.Replace(text))
	return err
}

var (
	message  = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	property = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
)
