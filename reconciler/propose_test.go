package reconciler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/purser-gitops/purser/sources"
)

// TestMessagesCompareEqualAfterBeingStored: a refusal is recorded once only if its texts come back as they were.
func TestMessagesCompareEqualAfterBeingStored(t *testing.T) {
	said := messages(errors.New("x" + strings.Repeat("é", messageBytes)))
	stored, err := json.Marshal(said)
	if err != nil {
		t.Fatal(err)
	}
	var back []string
	if err := json.Unmarshal(stored, &back); err != nil || !slices.Equal(said, back) {
		t.Errorf("a long message changes when it is stored (%v)", err)
	}
}

// TestNobodyIsBlamedForThisMachine: what passes, or is wrong with the local disk, refuses no commit.
func TestNobodyIsBlamedForThisMachine(t *testing.T) {
	for _, cause := range []error{context.Canceled, context.DeadlineExceeded, sources.ErrDamaged, sources.ErrNoCommit} {
		if !passing(fmt.Errorf("render: %w", cause)) {
			t.Errorf("%v would refuse the commit", cause)
		}
	}
	if passing(&sources.RefusedError{Path: "a", Reason: "it is a submodule"}) {
		t.Error("a commit that can never be read would be tried for ever")
	}
}
