package backup

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/purser-gitops/purser/backup/store"
)

// refusing is a store that neither deletes nor extends anything, and says much.
type refusing struct{}

func (refusing) Delete(_ context.Context, o store.Object) error {
	return fmt.Errorf("%w: %s", store.ErrDenied, o.Key)
}

func (refusing) Extend(_ context.Context, o store.Object, _ time.Time) (store.Object, error) {
	return o, fmt.Errorf("%w: %s", store.ErrDenied, o.Key)
}

// However many objects fail, the first errors are told, and the rest is counted.
func TestFailuresAreCounted(t *testing.T) {
	t.Parallel()
	now := at(t, "2027-05-13T06:00:00Z")
	for _, objects := range []int{1, maxErrors, 100_000} {
		p := RetentionPlan{At: now}
		for n := range objects {
			o := store.Object{Key: fmt.Sprintf("prod-eu/%d", n)}
			p.Expire = append(p.Expire, Expiry{ID: idAt(now), Objects: []store.Object{o}})
			p.Extend = append(p.Extend, Extension{Object: o})
		}
		_, deleting := Expire(t.Context(), refusing{}, p, now)
		_, extending := ExtendLocks(t.Context(), refusing{}, p)
		for what, err := range map[string]error{"deleting": deleting, "extending": extending} {
			lines := strings.Split(err.Error(), "\n")
			if !errors.Is(err, store.ErrDenied) || lines[0] != store.ErrDenied.Error()+": prod-eu/0" || len(lines) > maxErrors+1 {
				t.Errorf("%s %d: %d lines: %.300s", what, objects, len(lines), err)
			}
			if last := lines[len(lines)-1]; objects > maxErrors && last != fmt.Sprintf("and %d more errors", objects-maxErrors) {
				t.Errorf("%s %d: the last line is %s", what, objects, last)
			}
		}
	}
}

func TestShort(t *testing.T) {
	t.Parallel()
	if got := Short("as it is"); got != "as it is" {
		t.Errorf("got %q", got)
	}
	for _, long := range []string{strings.Repeat("x", 1<<20), "x" + strings.Repeat("ü", 1000)} {
		if got := Short(long); len(got) > maxText+len("…") || !utf8.ValidString(got) || !strings.HasSuffix(got, "…") {
			t.Errorf("%d bytes: %.10q", len(got), got)
		}
	}
}
