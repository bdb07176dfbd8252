package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources"
)

const rollbackHelp = `Propose the way back: a commit on a new branch that restores the files which an
environment's earlier release was rendered from, so that it renders to that release
again. Nothing else is touched: not the working directory, not the declarations.

  purser rollback prod-eu                    what was live before
  purser rollback prod-eu --to v18.0.13      what it was at a commit, without the agent
  purser rollback prod-eu --push --forge gitea --forge-token-file token

What was live before is the release before the live one; or the live one itself, when
another one is approved and did not become live. What a rollback left is none of them:
to go there again is an ordinary change.

The new commit is rendered before it is made: its release must have the digest of the
earlier one. That is how the agent knows a rollback: it is not held up by freezes,
promotion or what is unwell now, and needs one release manager.

Exit codes: 0 done, or nothing to change; 1 refused or failed: nothing was committed,
unless the message says so; 2 the command line is wrong.`

func newRollbackCommand() *cobra.Command {
	var p proposer
	var to string
	cmd := &cobra.Command{
		Use:   "rollback ENVIRONMENT",
		Short: "Propose the release that was live before",
		Long:  rollbackHelp,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			q := question{hint: "say with --to which commit to go back to, without the agent"}
			if to == "" || p.agent.said(cmd) {
				q.env = args[0]
			}
			return p.run(cmd, args[0], q, func(ctx context.Context, s *site, known pointers) (proposal, string, error) {
				return p.rollback(ctx, s, known, args[0], to, q.env != "")
			})
		},
	}
	cmd.ValidArgsFunction = p.estate.complete(1)
	p.flags(cmd)
	cmd.Flags().StringVar(&to, "to", "", "commit or revision to go back to (default: what the agent says was live before)")
	return cmd
}

// rollback is what rollback did.
type rollback struct {
	Environment string        `json:"environment"`
	Release     string        `json:"release"` // that comes back
	Version     versions      `json:"version"`
	Images      []imageChange `json:"images"`
	Restored    []string      `json:"restored"` // files
	Removed     []string      `json:"removed,omitempty"`
	proposed

	commit string // that it was rendered from
}

// rollback works out the commit.
func (p *proposer) rollback(ctx context.Context, s *site, known pointers, name, to string, asked bool) (proposal, string, error) {
	done := &rollback{Environment: name, Images: []imageChange{}, Restored: []string{}, proposed: s.proposed()}
	if !asked {
		done.Warnings = append(done.Warnings, "the agent was not asked: it takes this as a rollback only if it is the release that is live there or was live before")
	}
	var err error
	expected := ""
	if to == "" {
		back := known.before()
		if back != nil && back.Left {
			return nil, "", &sources.HintError{Err: fmt.Errorf("there is no way back in %q: a rollback left %s, which was live before", name, back.Release),
				Hint: "to go there again is an ordinary change: lift the veto (purser lift) and revert the commits with git"}
		}
		if back == nil {
			return nil, "", &sources.HintError{Err: fmt.Errorf("the agent knows no earlier live release of %q", name), Hint: "say with --to which commit to go back to"}
		}
		expected = back.Release
		if to, err = p.commitOf(back); err != nil {
			return nil, "", err
		}
	}
	if _, id, ok := strings.Cut(to, "@sha1:"); ok {
		to = id
	}
	files, commit, err := p.files(to)
	if err != nil {
		return nil, "", err
	}
	release, err := s.snapshot.with(files).build(ctx, s.env)
	if err != nil {
		return nil, "", fmt.Errorf("render the earlier release: %w", err)
	}
	if expected != "" && release.Digest != expected {
		return nil, "", &sources.HintError{Err: fmt.Errorf("the earlier release %s cannot come back: its commit %s gives %s today", expected, commit, release.Digest),
			Hint: "the environment's declaration (cluster, namespace, health) or the version of purser changed since: undo that, or revert the commits with git as an ordinary change"}
	}
	if asked && !known.was(release.Digest) {
		return nil, "", &sources.HintError{Err: fmt.Errorf("the agent does not know that release %s was live in %q: it would be no rollback for it", release.Digest, name),
			Hint: "leave --server and --config out to propose it all the same, as an ordinary change"}
	}
	now, err := s.snapshot.build(ctx, s.env)
	if err != nil {
		done.Warnings = append(done.Warnings, "what is there now does not render: "+err.Error())
	}
	done.commit = commit
	done.compare(now, release)
	done.Branch = cmp.Or(p.branch, branchFor("rollback", name, done.Version.New, release.Digest))
	tree, err := s.restore(ctx, done, release)
	return done, tree, err
}

// before is what was live before that which was approved last, nil where nothing was. After a rollback that is no way back.
func (k pointers) before() *reconciler.Pointer {
	back := k.Previous
	if k.Live != nil && k.Approved != nil && k.Approved.Release != k.Live.Release {
		back = k.Live
	}
	return back
}

// was reports that the agent takes a release for the way back: it is live or was live before, and no rollback left it.
func (k pointers) was(release string) bool {
	return slices.ContainsFunc([]*reconciler.Pointer{k.Live, k.Previous}, func(p *reconciler.Pointer) bool {
		return p != nil && p.Release == release && !p.Left
	})
}

// compare tells what would change. What is there now need not render.
func (d *rollback) compare(now, release *render.Release) {
	d.Release, d.Version.New = release.Digest, versionOf(release)
	if now == nil {
		return
	}
	d.Version.Old = versionOf(now)
	d.Images = imageChanges(now.Images, release.Images)
	if now.Digest != release.Digest && now.Declaration != nil && now.Declaration.Migration == "breaking" {
		d.Warnings = append(d.Warnings, fmt.Sprintf("%s declares a breaking migration: what it did to the database stays", d.Version.Old))
	}
}

// restore works out what makes the environment what it was, and proves it.
func (s *site) restore(ctx context.Context, done *rollback, release *render.Release) (tree string, err error) {
	then, err := s.list(ctx, done.commit)
	if err != nil {
		return "", err
	}
	now, err := s.list(ctx, s.head)
	if err != nil {
		return "", err
	}
	edits := restored(then, now, release.Inputs.Watched())
	if len(edits) == 0 {
		return "", nil
	}
	for _, e := range edits {
		if e.mode == "" {
			done.Removed = append(done.Removed, e.path)
		} else {
			done.Restored = append(done.Restored, e.path)
		}
	}
	tree, result, err := s.prove(ctx, edits, &done.proposed)
	if tree == "" || err != nil {
		return "", err
	}
	if result.Digest != release.Digest {
		return "", fmt.Errorf("the new commit gives release %s, not %s: nothing was committed", result.Digest, release.Digest)
	}
	return tree, nil
}

// list gives mode and object of every file of a commit.
func (c *gitClone) list(ctx context.Context, commit string) (map[string]fileEdit, error) {
	text, err := c.git(ctx, gitCall{}, "ls-tree", "-r", "-z", "--full-tree", commit)
	if err != nil {
		return nil, err
	}
	files := map[string]fileEdit{}
	for line := range strings.SplitSeq(strings.TrimSuffix(text, "\x00"), "\x00") {
		about, path, ok := strings.Cut(line, "\t")
		words := strings.Fields(about)
		if !ok || len(words) != 3 {
			continue
		}
		files[path] = fileEdit{path: path, mode: words[0], blob: words[2]}
	}
	return files, nil
}

// restored is what makes the watched paths what they were: a file, what is below a folder, the absence of both, and links
// on the way.
func restored(then, now map[string]fileEdit, watched []string) []fileEdit {
	exact, below := map[string]bool{}, map[string]bool{}
	for _, path := range watched {
		below[path] = true
		for i := range path {
			if path[i] == '/' && then[path[:i]].mode == "120000" {
				exact[path[:i]] = true
			}
		}
	}
	is := func(path string) bool {
		if exact[path] || below[path] || below[""] {
			return true
		}
		for i := range path {
			if path[i] == '/' && below[path[:i]] {
				return true
			}
		}
		return false
	}
	var edits []fileEdit
	for path, was := range then {
		if is(path) && (now[path].mode != was.mode || now[path].blob != was.blob) {
			edits = append(edits, was)
		}
	}
	for path := range now {
		if _, kept := then[path]; !kept && is(path) {
			edits = append(edits, fileEdit{path: path})
		}
	}
	slices.SortFunc(edits, func(a, b fileEdit) int { return strings.Compare(a.path, b.path) })
	return edits
}

// text is the message of the commit.
func (d *rollback) text() string {
	to := cmp.Or(plain(d.Version.New), "an earlier release")
	return fmt.Sprintf("Roll back %s to %s\n\nRestores release %s, as it was at %s.\n", d.Environment, to, d.Release, d.commit)
}

func (d *rollback) print(w io.Writer) {
	fmt.Fprintf(w, "%s\t%s → %s\n", d.Environment, plain(cmp.Or(d.Version.Old, "-")), plain(cmp.Or(d.Version.New, "-")))
	printImages(w, d.Images)
	for _, file := range d.Restored {
		fmt.Fprintf(w, "restored\t%s\n", plain(file))
	}
	for _, file := range d.Removed {
		fmt.Fprintf(w, "removed\t%s\n", plain(file))
	}
}
