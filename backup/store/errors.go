package store

import (
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/purser-gitops/purser/sources/credential"
)

var errNoBucket = errors.New("the bucket does not exist")

// code is the error code of S3's answer, empty if there was none.
func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// status is the status of S3's answer, 0 if there was none.
func status(err error) int {
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) && response.Response != nil && response.Response.Response != nil {
		return response.HTTPStatusCode()
	}
	return 0
}

// explain says in our words what went wrong: what S3 answered, or why there was no answer.
func explain(err error) error {
	if err == nil {
		return nil
	}
	var api smithy.APIError
	answered := errors.As(err, &api)
	said := ""
	if answered {
		said = credential.Scrub(api.ErrorCode() + ": " + api.ErrorMessage())
	}
	switch status := status(err); {
	case answered && api.ErrorCode() == "NoSuchBucket":
		return errNoBucket
	case status == http.StatusNotFound:
		return fmt.Errorf("%w (%s)", ErrMissing, said)
	case status == http.StatusPreconditionFailed:
		return ErrExists
	case status == http.StatusForbidden:
		return fmt.Errorf("%w (%s)", ErrDenied, said)
	case answered && status > 0:
		return fmt.Errorf("the store answers %d: %s", status, said)
	}
	var silent *silentError
	if errors.As(err, &silent) { // also in the middle of an answer
		return silent
	}
	var send *smithyhttp.RequestSendError
	if errors.As(err, &send) {
		return send.Unwrap()
	}
	return err
}

// retryable says what is tried again besides what the SDK tries again: every request without a whole answer, as all of
// ours can be repeated; and what S3 asks to repeat.
func retryable(err error) aws.Ternary {
	var dns *net.DNSError
	var cancelled *smithy.CanceledError
	var silent *silentError
	switch status := status(err); {
	case errors.As(err, &silent):
		return aws.BoolTernary(!silent.spent)
	case errors.Is(err, errCredentials), errors.As(err, &cancelled), authorityError(err):
		return aws.FalseTernary
	case errors.As(err, &dns) && dns.IsNotFound:
		return aws.FalseTernary
	case status == http.StatusConflict:
		return aws.BoolTernary(code(err) == "ConditionalRequestConflict" || code(err) == "OperationAborted")
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests, status >= 500:
		return aws.TrueTernary
	case status >= 300:
		return aws.UnknownTernary
	}
	return aws.TrueTernary
}
