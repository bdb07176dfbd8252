package apply

import (
	"fmt"
	"regexp"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/purser-gitops/purser/render"
)

const withheld = "details withheld, they may repeat values of the Secret"

func isSecret(ref render.Ref) bool { return ref.Group == "" && ref.Kind == "Secret" }

var (
	fieldName   = regexp.MustCompile(`^[A-Za-z0-9_.\-\[\]/]{1,256}$`)
	schemaField = regexp.MustCompile(`Kind=Secret\): \.([A-Za-z0-9_.\-]{1,256}): (?:expected|field not declared)`)
)

// scrub returns an error about a Secret without what the API server said in prose: its messages repeat values. Reason,
// code, names of fields and the kind of cause stay, so that the error still decides scheduling. Conflicts between field
// managers keep their messages, which hold no values. An error without an answer of the API server is about the
// connection and stays.
func scrub(ref render.Ref, err error) error {
	if !isSecret(ref) || err == nil {
		return err
	}
	status := statusOf(err)
	if status == nil {
		return err
	}
	clean := metav1.Status{Status: status.Status, Reason: status.Reason, Code: status.Code}
	var fields []string
	if m := schemaField.FindStringSubmatch(status.Message); m != nil {
		fields = append(fields, m[1])
	}
	if d := status.Details; d != nil {
		details := &metav1.StatusDetails{Name: d.Name, Group: d.Group, Kind: d.Kind}
		for _, cause := range d.Causes {
			if !fieldName.MatchString(cause.Field) {
				cause.Field = ""
			}
			if cause.Type != metav1.CauseTypeFieldManagerConflict {
				cause.Message = ""
			}
			if cause.Field != "" {
				fields = append(fields, cause.Field)
			}
			details.Causes = append(details.Causes, cause)
		}
		clean.Details = details
	}
	reason := string(status.Reason)
	if reason == "" {
		reason = fmt.Sprintf("code %d", status.Code)
	}
	clean.Message = fmt.Sprintf("%s (%s)", reason, withheld)
	if len(fields) > 0 {
		clean.Message = fmt.Sprintf("%s at %s (%s)", reason, strings.Join(fields, ", "), withheld)
	}
	return &apierrors.StatusError{ErrStatus: clean}
}
