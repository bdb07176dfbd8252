package reconciler

import (
	"fmt"
	"testing"

	"github.com/purser-gitops/purser/render"
)

// The cache holds what was used last, and never more bytes than its bound; one release larger than that is held alone.
func TestReleaseCache(t *testing.T) {
	t.Parallel()
	c := newReleaseCache()
	for i := range 5 {
		c.add(&render.Release{Digest: fmt.Sprint(i), Bytes: releaseBytes / 4})
		c.add(&render.Release{Digest: fmt.Sprint(i), Bytes: releaseBytes / 4}) // once more is not counted
		c.get("0")
	}
	for digest, want := range map[string]bool{"0": true, "1": false, "2": true, "3": true, "4": true} {
		if got := c.get(digest) != nil; got != want {
			t.Errorf("release %s is held: %t, want %t", digest, got, want)
		}
	}
	if c.bytes != releaseBytes {
		t.Errorf("%d bytes are counted, want %d", c.bytes, releaseBytes)
	}
	c.add(&render.Release{Digest: "large", Bytes: 2 * releaseBytes})
	if c.get("large") == nil || c.byDigest.Len() != 1 {
		t.Errorf("%d releases are held, want the large one", c.byDigest.Len())
	}
}
