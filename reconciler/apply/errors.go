package apply

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/purser-gitops/purser/sources/declaration"
)

// StalledError needs a person: trying again gives the same answer. Hint says what to do.
type StalledError struct {
	What string
	Hint string
	Err  error
}

func (e *StalledError) Error() string {
	if e.Hint == "" {
		return e.What
	}
	return e.What + " (" + e.Hint + ")"
}

func (e *StalledError) Unwrap() error { return e.Err }

// LimitError is a plan that deletes more than the environment allows; the plan waits for a person.
type LimitError struct {
	Deletes int // objects the plan would delete
	Owned   int // objects in the inventory
	Limits  declaration.Prune
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("plan deletes %d of %d objects (%.0f %%), more than prune allows (maxObjects %d, maxShare %.2f): "+
		"put the objects back, or raise spec.prune of the environment for this release",
		e.Deletes, e.Owned, 100*share(e.Deletes, e.Owned), e.Limits.MaxObjects, e.Limits.MaxShare)
}

// asStalled says whether an error needs a person, and which StalledError says so.
func asStalled(err error) (*StalledError, bool) {
	var s *StalledError
	ok := errors.As(err, &s)
	return s, ok
}

// joinProblems makes one error of many that decides scheduling: as long as one of them may go away by itself the whole
// is tried again; when none does it is stalled; limits count last.
func joinProblems(doing string, problems []error) error {
	var transient, stalled, limits []error
	for _, err := range problems {
		var limit *LimitError
		if _, ok := asStalled(err); ok {
			stalled = append(stalled, err)
		} else if errors.As(err, &limit) {
			limits = append(limits, err)
		} else {
			transient = append(transient, err)
		}
	}
	switch {
	case len(transient) > 0:
		if more := len(problems) - 1; more > 0 {
			return fmt.Errorf("%s: %w (and %d more problems)", doing, firstCause(transient), more)
		}
		return fmt.Errorf("%s: %w", doing, transient[0])
	case len(stalled) == 1:
		return stalled[0]
	case len(stalled) > 1:
		return joinStalled(stalled)
	case len(limits) > 0:
		return limits[0]
	}
	return nil
}

// firstCause prefers an error that is not the mere echo of another.
func firstCause(errs []error) error {
	for _, err := range errs {
		if !errors.Is(err, context.Canceled) && !errors.Is(err, errNotAttempted) {
			return err
		}
	}
	return errs[0]
}

// maxTold is how many problems one message tells in full.
const maxTold = 5

func joinStalled(errs []error) *StalledError {
	whats, hints := []string{}, []string{}
	for i, err := range errs {
		if i == maxTold {
			whats = append(whats, fmt.Sprintf("and %d more", len(errs)-maxTold))
			break
		}
		s, _ := asStalled(err)
		whats = append(whats, s.What)
		if s.Hint != "" && !slices.Contains(hints, s.Hint) {
			hints = append(hints, s.Hint)
		}
	}
	return &StalledError{
		What: fmt.Sprintf("%d objects refused: %s", len(errs), strings.Join(whats, "; ")),
		Hint: strings.Join(hints, "; "),
		Err:  errors.Join(errs...),
	}
}

// statusOf is the API server's answer inside an error, nil when there is none.
func statusOf(err error) *metav1.Status {
	var api apierrors.APIStatus
	if !errors.As(err, &api) {
		return nil
	}
	s := api.Status()
	return &s
}

// unserved: the kind does not exist. A definition that was deleted may still be known from before, and its endpoint then
// answers 404 without speaking of an object.
func unserved(err error) bool {
	return meta.IsNoMatchError(err) || apierrors.IsNotFound(err) && apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
}

// clusterWide: the error says nothing about the object but about the API server, so asking for the next object is futile.
func clusterWide(err error) bool {
	if s := statusOf(err); s != nil {
		return s.Code == http.StatusTooManyRequests || s.Code == http.StatusServiceUnavailable ||
			s.Code == http.StatusGatewayTimeout || s.Code == http.StatusUnauthorized
	}
	var connection *url.Error
	return errors.As(err, &connection)
}
