package apply

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/purser-gitops/purser/render"
)

// Live reads the live state of objects, in the order asked for; nil where an object does not exist. With an error the
// list is incomplete and means nothing.
func (c *Client) Live(ctx context.Context, refs []render.Ref) ([]*unstructured.Unstructured, error) {
	list := make([]*unstructured.Unstructured, len(refs))
	errs := c.each(ctx, len(refs), func(ctx context.Context, i int) error {
		var err error
		list[i], err = c.find(ctx, refs[i])
		return err
	})
	var problems []error
	for _, err := range errs {
		if err != nil {
			problems = append(problems, err)
		}
	}
	if err := joinProblems(fmt.Sprintf("read %d objects", len(refs)), problems); err != nil {
		return nil, err
	}
	return list, nil
}
