package reconciler

import (
	"testing"
	"time"

	"github.com/purser-gitops/purser/reconciler/apply"
	"github.com/purser-gitops/purser/sources/declaration"
)

// A pause holds an object as long as it is there or missing as it was when the attempt failed.
func TestPauseEndsForWhatIsGone(t *testing.T) {
	keys := func(names ...string) map[string]bool {
		set := map[string]bool{}
		for _, name := range names {
			set[configMap(name).Key()] = true
		}
		return set
	}
	p := pause{keys: keys("there", "gone", "missing"), missing: keys("missing")}
	held := p.except(keys("gone", "missing", "another")).keys
	if len(held) != 2 || !held[configMap("there").Key()] || !held[configMap("missing").Key()] {
		t.Errorf("held are %v", held)
	}
	if len(p.keys) != 3 {
		t.Error("the pause itself was altered")
	}
	if held := (pause{}).except(keys("gone")).keys; held != nil {
		t.Errorf("after a failure of everything only %v are held", held)
	}
}

// The watch shows no object without our label, so one that is stuck without it is looked at without being told.
func TestPauseOfAnUnseenObjectIsShort(t *testing.T) {
	env := &declaration.Environment{}
	env.Spec.Reconcile.Interval = 10 * time.Minute
	stuck := []apply.Entry{{Ref: configMap("a")}}
	seen, unseen := task{env: env}, task{env: env}
	seen.look.missing = map[string]bool{configMap("b").Key(): true}
	unseen.look.missing = map[string]bool{configMap("a").Key(): true}
	for name, c := range map[string]struct {
		task task
		want time.Duration
	}{"seen": {seen, 10 * time.Minute}, "unseen": {unseen, retryLast}} {
		p := pause{}
		for range 20 {
			p = p.after("r1", Outcome{Kind: Stalled}, nil, c.task.look.missing, c.task.longestPause(stuck), time.Time{})
		}
		if p.length != c.want {
			t.Errorf("%s: the pause grows to %s, want %s", name, p.length, c.want)
		}
	}
}
