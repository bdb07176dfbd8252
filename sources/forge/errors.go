package forge

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"
)

var (
	// ErrUnknown says that the forge gave no usable answer: unreachable, a timeout, 5xx, a rate limit, a page that is
	// not its JSON, a redirect, more data than the limits allow. It may help to ask again.
	ErrUnknown = errors.New("the forge gives no usable answer")
	// ErrUnreachable says that nobody answered. It is an [ErrUnknown].
	ErrUnreachable = fmt.Errorf("%w: it cannot be reached", ErrUnknown)
	// ErrDenied says that the forge does not accept the token, or not for this.
	ErrDenied = errors.New("the forge denies access")
	// ErrNotFound says that the forge knows no such project, commit or pull request, or hides it from the token.
	ErrNotFound = errors.New("the forge does not find it")
	// ErrAmbiguous says that the forge's answers do not name one pull request.
	ErrAmbiguous = errors.New("the forge's answers are ambiguous")
	// ErrRefused says that the forge understood a request and refused it.
	ErrRefused = errors.New("the forge refuses")
)

// A RateLimitError says that the forge wants fewer requests. It is an [ErrUnknown].
type RateLimitError struct {
	RetryAfter time.Duration // when to ask again
}

func (e *RateLimitError) Error() string {
	return fmt.Sprintf("%v: rate limit, ask again in %s", ErrUnknown, e.RetryAfter)
}

// Unwrap makes it an ErrUnknown.
func (e *RateLimitError) Unwrap() error { return ErrUnknown }

// A HintError is an error with what the operator can do about it.
type HintError struct {
	Err  error
	Hint string
}

func (e *HintError) Error() string { return e.Err.Error() + " (" + e.Hint + ")" }

// Unwrap gives the error the hint belongs to.
func (e *HintError) Unwrap() error { return e.Err }

func hint(err error, text string) error { return &HintError{Err: err, Hint: text} }

// explain says what failed. Errors of the transport keep their kind; any other, such as an answer of another shape than
// the client library expects, is unknown.
func explain(what string, err error) error {
	if err == nil {
		return nil
	}
	var address *url.Error // the transport's own errors name the request already
	if errors.As(err, &address) {
		err = address.Err
	}
	for _, kind := range []error{ErrUnknown, ErrDenied, ErrNotFound, ErrAmbiguous, ErrRefused, context.Canceled} {
		if errors.Is(err, kind) {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return fmt.Errorf("%s: %w: %w", what, ErrUnknown, err)
}
