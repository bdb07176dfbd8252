package apply

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/purser-gitops/purser/render"
)

// call names a request for its error message.
type call struct {
	verb    string // verb of the Kubernetes API: get, patch, delete, list
	ref     render.Ref
	user    string
	cluster string
}

func (c call) String() string { return c.verb + " " + c.ref.String() }

func (c *Client) call(verb string, ref render.Ref) call {
	return call{verb: verb, ref: ref, user: c.user, cluster: c.cluster.name}
}

// explain turns a failed request into an error that decides scheduling: *StalledError where only a person helps, any other
// error to try again. It never repeats values of a Secret.
func explain(c call, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", c, err)
	}
	if unserved(err) {
		return noKind(c, err)
	}
	status := statusOf(err)
	if status == nil {
		return fmt.Errorf("%s: %w", c, err)
	}
	prose := status.Message // of the API server; only to recognise, a Secret's is not shown
	err = scrub(c.ref, err)
	switch {
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("%s: cluster %s refuses the agent's credentials, they may have expired: renew its kubeconfig: %w", c, c.cluster, err)
	case denied(prose):
		return denial(c, prose, err)
	case apierrors.IsForbidden(err):
		return forbidden(c, status, prose, err)
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err), unusable(status.Code), isSchemaError(prose):
		return invalid(c, status, prose, err)
	case apierrors.IsNotFound(err) && status.Details != nil && status.Details.Kind == "namespaces":
		return &StalledError{
			What: fmt.Sprintf("%s: namespace %s does not exist", c, c.ref.Namespace),
			Hint: "create it, or add a Namespace object to the release (the tenant needs the kind in clusterKinds)", Err: err}
	}
	return fmt.Errorf("%s: %w", c, err)
}

func noKind(c call, err error) error {
	what := fmt.Sprintf("%s: cluster %s does not serve kind %s in version %s", c, c.cluster, c.ref.Kind, groupVersion(c.ref))
	return &StalledError{What: what, Hint: "install its CustomResourceDefinition, add that to the release, or correct apiVersion and kind", Err: err}
}

func groupVersion(ref render.Ref) string {
	if ref.Group == "" {
		return ref.Version
	}
	return ref.Group + "/" + ref.Version
}

var (
	webhookDenial = regexp.MustCompile(`admission webhook "([^"]+)" denied the request`)
	policyDenial  = regexp.MustCompile(`ValidatingAdmissionPolicy '([^']+)'`)
)

func denied(prose string) bool {
	return webhookDenial.MatchString(prose) || policyDenial.MatchString(prose) || strings.Contains(prose, "violates PodSecurity")
}

func denial(c call, prose string, err error) error {
	by := "an admission rule"
	if m := webhookDenial.FindStringSubmatch(prose); m != nil {
		by = fmt.Sprintf("admission webhook %q", m[1])
	} else if m := policyDenial.FindStringSubmatch(prose); m != nil {
		by = fmt.Sprintf("ValidatingAdmissionPolicy %q", m[1])
	} else if strings.Contains(prose, "violates PodSecurity") {
		by = "the namespace's pod security standard"
	}
	return &StalledError{
		What: fmt.Sprintf("%s: denied by %s: %s", c, by, short(err)),
		Hint: "change the object so that the rule accepts it, or have the rule changed", Err: err}
}

func forbidden(c call, status *metav1.Status, prose string, err error) error {
	switch {
	case apierrors.HasStatusCause(err, metav1.CauseType("NamespaceTerminating")):
		return fmt.Errorf("%s: namespace %s is being deleted: %w", c, c.ref.Namespace, err)
	case strings.Contains(prose, "custom resource definition is terminating"):
		return fmt.Errorf("%s: its CustomResourceDefinition is being deleted: %w", c, err)
	case strings.Contains(prose, "exceeded quota"), strings.Contains(prose, "status unknown for quota"), strings.Contains(prose, "failed quota"):
		return fmt.Errorf("%s: %w", c, err) // room comes back
	case strings.Contains(prose, "cannot impersonate"):
		return &StalledError{
			What: fmt.Sprintf("%s: the agent may not impersonate %s", c, c.user),
			Hint: fmt.Sprintf("grant the agent's identity the verb impersonate on users, resourceNames [%s]", c.user), Err: err}
	case strings.Contains(prose, "not currently held"):
		return &StalledError{
			What: fmt.Sprintf("%s: %s may not grant permissions it does not hold itself: %v", c, c.user, err),
			Hint: "take them out of the role, or have whoever runs the cluster apply the object; never grant a tenant the verbs escalate or bind", Err: err}
	case strings.Contains(prose, "cannot "):
		return rbac(c, status, err)
	}
	return &StalledError{What: fmt.Sprintf("%s: refused: %v", c, err), Hint: "see the reason given by the API server", Err: err}
}

// rbacGroup is that of the objects that say who may do what.
const rbacGroup = "rbac.authorization.k8s.io"

func rbac(c call, status *metav1.Status, err error) error {
	resource, group := strings.ToLower(c.ref.Kind), c.ref.Group
	if d := status.Details; d != nil && d.Kind != "" {
		resource, group = d.Kind, d.Group
	}
	where, binding := "in the cluster", "ClusterRole and ClusterRoleBinding"
	if c.ref.Namespace != "" {
		where, binding = "in namespace "+c.ref.Namespace, "Role and RoleBinding"
	}
	verbs := c.verb
	if c.verb == "patch" {
		verbs = "get, create and patch"
	}
	stalled := &StalledError{
		What: fmt.Sprintf("impersonated user %s cannot %s %s %s", c.user, c.verb, c.ref, where),
		Hint: fmt.Sprintf("if the tenant is to have it: grant User %s exactly %s on %s (apiGroup %q) %s with a %s", c.user, verbs, resource, group, where, binding), Err: err}
	if group == rbacGroup { // who may write roles can hand on what the tenant may do, past the gates
		stalled.Hint = fmt.Sprintf("take it out of the release and have whoever runs the cluster apply it: tenants need no right to %s (apiGroup %q)", resource, group)
	}
	return stalled
}

// unusable: the answer blames the request itself.
func unusable(code int32) bool {
	switch code {
	case http.StatusRequestEntityTooLarge, http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusUnsupportedMediaType:
		return true
	}
	return false
}

// isSchemaError recognises objects that do not fit their kind's schema, which older API servers answer with 500.
func isSchemaError(prose string) bool {
	return strings.Contains(prose, "field not declared in schema") || strings.Contains(prose, "failed to create typed patch object") ||
		strings.Contains(prose, "unable to convert unstructured object")
}

var immutableProse = regexp.MustCompile(`(?i)immutable|may not change once set|may not be changed|may not be unset|cannot be changed|` +
	`updates to .* for fields other than|is forbidden after creation`)

func invalid(c call, status *metav1.Status, prose string, err error) error {
	if fields := immutableFields(c, status, prose); len(fields) > 0 {
		return &StalledError{
			What: fmt.Sprintf("%s: cannot change %s, immutable in a live %s", c, strings.Join(fields, ", "), c.ref.Kind),
			Hint: immutableRemedy(c.ref), Err: err}
	}
	return &StalledError{
		What: fmt.Sprintf("%s: not accepted by the API server: %s", c, short(err)),
		Hint: "correct the object in Git", Err: err}
}

// immutableFields are the fields a request may not change, nil when that is not what is wrong with it.
func immutableFields(c call, status *metav1.Status, prose string) []string {
	var fields []string
	if status.Details != nil {
		for _, cause := range status.Details.Causes {
			if cause.Field != "" && immutableProse.MatchString(cause.Message) && !slices.Contains(fields, cause.Field) {
				fields = append(fields, cause.Field)
			}
		}
	}
	if len(fields) == 0 && immutableProse.MatchString(prose) && !isSecret(c.ref) {
		fields = []string{"a field"}
	}
	return fields
}

func immutableRemedy(ref render.Ref) string {
	switch ref.Kind {
	case "Job":
		return "give the Job a new name for the new work (a kustomize nameSuffix, or the version in its name); the old one is pruned"
	case "PersistentVolumeClaim", "StatefulSet":
		return "put the old value back; to change it, add a new " + ref.Kind + " under a new name and move the data"
	case "ConfigMap", "Secret":
		return "give it a new name (a kustomize generator appends a hash), or put the old value back"
	}
	return "put the old value back, or give the object a new name; Purser never deletes an object in order to create it again"
}

// maxProse bounds, in bytes, what is quoted of the API server: its messages may repeat whole objects.
const maxProse = 800

func short(err error) string {
	text := err.Error()
	if len(text) <= maxProse {
		return text
	}
	return strings.ToValidUTF8(text[:maxProse/2], "") + " … " + strings.ToValidUTF8(text[len(text)-maxProse/2:], "")
}
