package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources/declaration"
)

// Desired is what an environment should consist of.
type Desired struct {
	Environment string                       // owner of the objects
	Namespace   string                       // for objects of namespaced kinds that name none
	Objects     []*unstructured.Unstructured // with decrypted Secrets; they are not altered
	Digests     map[string]string            // Ref.Key() of each object, as it stands in Objects → its digest
	Inventory   Inventory
	Limits      declaration.Prune
	// KeepProtected leaves protected objects that are no longer desired in place instead of stalling: for rollback and
	// repair, which must go on.
	KeepProtected bool
	// Drifted are the keys of the objects that are known to differ from what was applied last: what others hold of their
	// fields now was ours, and is taken back.
	Drifted map[string]bool
	// Owner says which environment's inventory holds an object, "" when none does: only that environment may apply it,
	// whatever its label says. nil: nobody knows of others.
	Owner func(render.Ref) string
	// Formerly is the name that the environment had before, "" when it had none: what still bears it is its own, where Owner says
	// so. A label alone, that anybody can write, hands nothing over.
	Formerly string
	// Only are the keys of the objects to look at, with their namespaces as placed; nil means all. With Only nothing else is
	// deleted, and the plan has entries for these objects alone.
	Only map[string]bool
	// Trust: objects that the cluster's watcher vouches for (watched now, last found equal to this very digest, and nothing
	// seen since) are unchanged without a request.
	Trust bool
}

// Entry is what a plan does with one object.
type Entry struct {
	Ref    render.Ref           `json:"ref"`
	Action string               `json:"action"`
	Digest string               `json:"digest,omitempty"`
	Diff   []render.FieldChange `json:"diff,omitempty"`
	Reason string               `json:"reason,omitempty"`
	// By are those who hold the drifted fields of a Configured or stuck entry, newest first. Nobody holds what was removed.
	By []FieldWriter `json:"by,omitempty"`
}

// Plan is what Apply would do: one entry per object, in the order of application, deletions last. A plan with problems
// shows what could be found out and cannot be applied.
type Plan struct {
	Environment string
	Entries     []Entry
	// Stuck are the objects that cannot be brought to their desired state before somebody changes them: another manager or
	// environment holds them, they are being deleted, the API server refuses them. The reason says why, and the diff what
	// differs, by our own reckoning.
	Stuck []Entry

	problems []error
	client   *Client
	steps    []*step // one per entry
}

// step is one entry with what Apply needs to carry it out.
type step struct {
	target   // without an object where there is nothing to apply
	entry    Entry
	live     *unstructured.Unstructured // as planned against, nil when absent or unchanged
	deletes  bool                       // it is no longer desired
	deferred bool                       // no dry run yet: its kind or namespace comes with this plan
	released bool                       // see Change.Released
}

func newStep(t target) *step {
	return &step{target: t, entry: Entry{Ref: t.ref, Digest: t.digest}}
}

// String is a summary; objects are never printed, they hold Secrets in the clear.
func (p *Plan) String() string {
	s := p.Summary()
	return fmt.Sprintf("plan of %s: %d created, %d configured, %d unchanged, %d deleted, %d skipped, %d problems", p.Environment,
		s[Created], s[Configured], s[Unchanged], s[Deleted], s[Skipped], len(p.problems))
}

// Summary counts the entries by action.
func (p *Plan) Summary() map[string]int {
	counts := map[string]int{}
	for _, e := range p.Entries {
		counts[e.Action]++
	}
	return counts
}

// Changed are the entries that applying the plan would write: at an unchanged release, the drift.
func (p *Plan) Changed() []Entry {
	var list []Entry
	for _, e := range p.Entries {
		if e.Action == Created || e.Action == Configured || e.Action == Deleted {
			list = append(list, e)
		}
	}
	return list
}

// Strange are the objects that applying the plan would write, and that bear the environment's mark with a digest that is
// neither the one planned nor one that the inventory knows of: another release was applied to them.
func (p *Plan) Strange(owned Inventory) []render.Ref {
	known := make(map[string]Item, len(owned))
	for _, item := range owned {
		known[item.Ref.Key()] = item
	}
	var list []render.Ref
	for _, s := range p.steps {
		if s.live == nil || s.entry.Action == Skipped || s.live.GetLabels()[labelEnvironment] != p.Environment {
			continue
		}
		borne := s.live.GetAnnotations()[annotationDigest]
		if item := known[s.entry.Ref.Key()]; borne != "" && borne != s.entry.Digest && borne != item.Digest && !slices.Contains(item.Tried, borne) {
			list = append(list, s.entry.Ref)
		}
	}
	return list
}

// Err is the problems as one error that decides scheduling, nil when there are none.
func (p *Plan) Err() error {
	return joinProblems("plan "+p.Environment, p.problems)
}

// Plan finds out what Apply would do. It reads and dry-runs, and never changes anything. With an error it also returns
// what it found, which cannot be applied: the error is a *StalledError when every problem needs a person, a *LimitError
// when only the limits of deletion are in the way, and anything else is to be tried again.
func (c *Client) Plan(ctx context.Context, d Desired) (*Plan, error) {
	p := &Plan{Environment: d.Environment, client: c}
	targets, problems := c.prepare(d)
	p.problems = problems
	gone := noLongerDesired(d, targets)

	steps := make([]*step, len(targets)+len(gone))
	errs := c.each(ctx, len(steps), func(ctx context.Context, i int) error {
		var err error
		if i < len(targets) {
			steps[i], err = c.planObject(ctx, targets[i])
		} else {
			steps[i], err = c.planDeletion(ctx, gone[i-len(targets)], d)
		}
		return err
	})
	for i, s := range steps {
		if errs[i] != nil {
			p.problems = append(p.problems, errs[i])
		}
		switch {
		case s == nil:
		case i < len(targets) && stuck(errs[i]):
			s.entry.Action, s.entry.Reason = Skipped, errs[i].Error()
			p.Stuck = append(p.Stuck, s.entry)
		case i >= len(targets) || errs[i] == nil:
			p.steps = append(p.steps, s)
		}
	}
	p.order()
	if err := exceeds(p, d); err != nil {
		p.problems = append(p.problems, err)
	}
	return p, p.Err()
}

// order sorts the steps in the order of application and makes the entries.
func (p *Plan) order() {
	slices.SortStableFunc(p.steps, func(a, b *step) int {
		switch {
		case a.deletes && b.deletes:
			return compareRefs(b.ref, a.ref)
		case a.deletes:
			return 1
		case b.deletes:
			return -1
		}
		return compareRefs(a.ref, b.ref)
	})
	p.Entries = make([]Entry, len(p.steps))
	for i, s := range p.steps {
		p.Entries[i] = s.entry
	}
}

// each runs fn for 0 … n-1 concurrently within the tenant's bound and returns one error per call. After an error about the
// API server as a whole no further call starts; those under way end by themselves, so that their outcome is known.
func (c *Client) each(ctx context.Context, n int, fn func(context.Context, int) error) []error {
	errs := make([]error, n)
	var down atomic.Bool
	var g errgroup.Group
	g.SetLimit(c.cluster.o.concurrency)
	for i := range n {
		g.Go(func() error {
			switch {
			case ctx.Err() != nil:
				errs[i] = fmt.Errorf("not attempted: %w", ctx.Err())
			case down.Load():
				errs[i] = errNotAttempted
			default:
				errs[i] = fn(ctx, i)
				if clusterWide(errs[i]) {
					down.Store(true)
				}
			}
			return nil
		})
	}
	_ = g.Wait() // every error is in errs
	return errs
}

// errNotAttempted stands for a request that was not made because those before it found the API server failing.
var errNotAttempted = errors.New("not attempted: the API server fails")
