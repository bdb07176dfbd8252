package reconciler

import (
	"bytes"
	"compress/flate"
	"context"
	"fmt"
	"io"
	"sync"

	"k8s.io/utils/lru"

	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/declaration"
)

// Keep refs of an environment: the bytes behind its pointers, on the audit remote.
const (
	keepPrefix   = "refs/purser/keep/"
	keepApproved = "approved"
	keepLive     = "live"
	keepPrevious = "previous"

	keptFile = "release.json"
)

// releaseCache has the releases that were used last, as many as fit into releaseBytes. Others are read back from the audit
// log's keep refs, or unpacked.
type releaseCache struct {
	mu       sync.Mutex
	bytes    int
	byDigest *lru.Cache // *render.Release
}

// releaseBytes bounds the releases in memory, as canonical JSON; decoded they need some six times as much. A thousand
// environments that wait, with ten small objects each, fit in.
const releaseBytes = 8 << 20

func newReleaseCache() *releaseCache {
	c := &releaseCache{}
	c.byDigest = lru.NewWithEvictionFunc(0, func(_ lru.Key, release any) { c.bytes -= release.(*render.Release).Bytes })
	return c
}

// get gives a release, or nil when it is not here.
func (c *releaseCache) get(digest string) *render.Release {
	release, _ := c.byDigest.Get(digest)
	found, _ := release.(*render.Release)
	return found
}

func (c *releaseCache) add(release *render.Release) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.get(release.Digest) != nil {
		return
	}
	c.byDigest.Add(release.Digest, release)
	for c.bytes += release.Bytes; c.bytes > releaseBytes && c.byDigest.Len() > 1; {
		c.byDigest.RemoveOldest()
	}
}

// keep is the keep ref that makes a pointer restorable.
func keep(environment, pointer string, release *render.Release) ([]evidence.Keep, error) {
	encoded, err := release.Encode()
	if err != nil {
		return nil, fmt.Errorf("encode release %s: %w", release.Digest, err)
	}
	return []evidence.Keep{{Ref: keepPrefix + environment + "/" + pointer, Files: map[string][]byte{keptFile: encoded}}}, nil
}

// release gives the bytes behind a pointer: from memory, from the keep refs, or rendered again from its
// revision. Whatever the way, the digest must be the pointer's.
func (a *Agent) release(ctx context.Context, env *declaration.Environment, p Pointer) (*render.Release, error) {
	if release := a.releases.get(p.Release); release != nil {
		return release, nil
	}
	release, err := a.observation(env.Meta.Name).aside.release(p.Release)
	if err != nil {
		release, err = a.kept(env.Meta.Name, p.Release)
	}
	if err != nil {
		release, err = a.renderAgain(ctx, env, p)
	}
	if err != nil {
		return nil, err
	}
	a.releases.add(release)
	return release, nil
}

// aside is a release in little memory, some kilobytes: a thousand that wait for an approval do not have to be rendered
// again each time they are judged.
type aside struct {
	digest string
	bytes  int // before they were packed
	packed []byte
}

// Compressors are large, and made once for each of those who work at the same time.
var (
	packers   = sync.Pool{New: func() any { w, _ := flate.NewWriter(nil, flate.BestSpeed); return w }} // the level is valid
	unpackers = sync.Pool{New: func() any { return flate.NewReader(nil) }}
)

func pack(data []byte) ([]byte, error) {
	w := packers.Get().(*flate.Writer)
	defer packers.Put(w)
	var packed bytes.Buffer
	w.Reset(&packed)
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return bytes.Clone(packed.Bytes()), nil
}

func unpack(packed []byte, bytesBefore int) ([]byte, error) {
	r := unpackers.Get().(io.ReadCloser)
	defer unpackers.Put(r)
	if err := r.(flate.Resetter).Reset(bytes.NewReader(packed), nil); err != nil {
		return nil, err
	}
	data := make([]byte, bytesBefore)
	_, err := io.ReadFull(r, data)
	return data, err
}

// putAside packs the proposed release of an environment.
func (a *Agent) putAside(name string, release *render.Release) error {
	if a.observation(name).aside.digest == release.Digest {
		return nil
	}
	encoded, err := release.Encode()
	if err != nil {
		return fmt.Errorf("encode release %s: %w", release.Digest, err)
	}
	packed, err := pack(encoded)
	if err != nil {
		return fmt.Errorf("pack release %s: %w", release.Digest, err)
	}
	a.note(name, func(o *observation) { o.aside = aside{release.Digest, len(encoded), packed} })
	return nil
}

// release gives the release if it has this digest.
func (p aside) release(digest string) (*render.Release, error) {
	if p.digest != digest {
		return nil, fmt.Errorf("release %s was not put aside", digest)
	}
	encoded, err := unpack(p.packed, p.bytes)
	if err != nil {
		return nil, err
	}
	return render.DecodeRelease(encoded)
}

// kept looks for a release in the environment's keep refs.
func (a *Agent) kept(environment, digest string) (*render.Release, error) {
	for _, pointer := range []string{keepApproved, keepLive, keepPrevious} {
		files, err := a.journal.log.Kept(keepPrefix + environment + "/" + pointer)
		if err != nil {
			continue
		}
		release, err := render.DecodeRelease(files[keptFile])
		if err == nil && release.Digest == digest {
			return release, nil
		}
	}
	return nil, fmt.Errorf("release %s of %q is not among the kept ones", digest, environment)
}

// renderAgain renders a pointer's revision, for a proposal that was not approved before a restart.
func (a *Agent) renderAgain(ctx context.Context, env *declaration.Environment, p Pointer) (*render.Release, error) {
	revision, err := sources.ParseRevision(p.Revision.Revision)
	if err != nil {
		return nil, err
	}
	src := a.sources[p.Revision.Source]
	if src == nil {
		return nil, fmt.Errorf("source %q of release %s is no longer configured", p.Revision.Source, p.Release)
	}
	release, err := a.renderCommit(ctx, env, src, revision)
	if err != nil {
		return nil, err
	}
	if release.Digest != p.Release {
		return nil, fmt.Errorf("%s renders to %s now, not to %s", revision, release.Digest, p.Release)
	}
	return release, nil
}

// approvedRelease is the release behind the approved pointer; nil when there is none.
func (a *Agent) approvedRelease(ctx context.Context, env *declaration.Environment, state EnvironmentState) (*render.Release, error) {
	if state.Approved == nil {
		return nil, nil
	}
	return a.release(ctx, env, *state.Approved)
}
