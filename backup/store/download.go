package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// resumePause is the pause before a download goes on that has not moved since it did so last; it doubles.
const resumePause = 100 * time.Millisecond

// Open returns the content of a version. Its bytes come as they are read and may be wrong until the end: only after
// [io.EOF] are size and SHA-256 those of the record, else the end is [ErrChanged]. A broken download goes on where it broke.
// A record without SHA-256, as lists have it, is checked against what the store says, if that is a sum of the content.
// The caller closes the reader; it ends with ctx.
func (s *S3) Open(ctx context.Context, o Object) (io.ReadCloser, error) {
	r, err := s.open(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("open object %s: %w", o.Key, err)
	}
	return r, nil
}

func (s *S3) open(ctx context.Context, o Object) (io.ReadCloser, error) {
	if err := checkObject(o); err != nil {
		return nil, err
	}
	if o.SHA256 == "" {
		info, _, err := s.headVersion(ctx, o.Key, o.Version)
		if err != nil {
			return nil, err
		}
		if info.SHA256 == "" {
			return nil, fmt.Errorf("%w: nothing says its SHA-256: it has several parts, and no record of it is given", ErrChanged)
		}
		o.SHA256 = info.SHA256
	}
	d := &download{s: s, ctx: asCall(ctx), object: o}
	if err := d.request(); err != nil {
		return nil, err
	}
	return &checked{r: d, object: o, hash: sha256.New()}, nil
}

// A download reads the content of one version, if need be in several requests.
type download struct {
	s      *S3
	ctx    context.Context
	object Object
	etag   *string // of the first answer
	body   io.ReadCloser
	offset int64
	idle   int // requests since it last moved
}

// request asks for what is still to come.
func (d *download) request() error {
	in := &s3.GetObjectInput{Bucket: &d.s.o.Bucket, Key: d.s.name(d.object.Key), VersionId: &d.object.Version, IfMatch: d.etag}
	if d.offset > 0 {
		in.Range = aws.String(fmt.Sprintf("bytes=%d-", d.offset))
	}
	out, err := d.s.client.GetObject(d.ctx, in)
	if err != nil {
		if err = explain(err); errors.Is(err, ErrExists) { // IfMatch does not hold
			err = ErrChanged
		}
		return err
	}
	if left := d.object.Size - d.offset; aws.ToInt64(out.ContentLength) != left {
		out.Body.Close()
		return fmt.Errorf("%w: %d bytes are left instead of %d", ErrChanged, aws.ToInt64(out.ContentLength), left)
	}
	d.body, d.etag = out.Body, out.ETag
	return nil
}

func (d *download) Read(p []byte) (int, error) {
	for {
		if d.offset == d.object.Size {
			return 0, io.EOF
		}
		if d.body == nil {
			if err := d.pause(); err != nil {
				return 0, err
			}
			if err := d.request(); err != nil {
				return 0, err
			}
		}
		n, err := d.body.Read(p[:min(int64(len(p)), d.object.Size-d.offset)])
		d.offset += int64(n)
		if n > 0 {
			d.idle = 0
		}
		if err != nil {
			d.body.Close()
			d.body = nil
		}
		if n > 0 || len(p) == 0 {
			return n, nil
		}
		if d.ctx.Err() != nil {
			return 0, context.Cause(d.ctx)
		}
		var silent *silentError
		if d.idle++; err != nil && (d.idle >= d.s.o.Attempts || errors.As(err, &silent) && silent.spent) {
			return 0, err
		}
	}
}

func (d *download) pause() error {
	if d.idle == 0 {
		return nil
	}
	timer := time.NewTimer(min(d.s.o.Backoff, resumePause<<min(d.idle, 16)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-d.ctx.Done():
		return context.Cause(d.ctx)
	}
}

func (d *download) Close() error {
	if d.body == nil {
		return nil
	}
	return d.body.Close()
}

// A checked reader ends with [io.EOF] only after content of the size and SHA-256 of the record.
type checked struct {
	r      io.ReadCloser
	object Object
	hash   hash.Hash
	size   int64
	err    error // that ended it
}

func (c *checked) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.r.Read(p)
	c.hash.Write(p[:n])
	c.size += int64(n)
	switch {
	case err == nil && c.size > c.object.Size:
		err = c.fail("it has more than %d bytes", c.object.Size)
	case err == io.EOF && c.size != c.object.Size:
		err = c.fail("it has %d bytes instead of %d", c.size, c.object.Size)
	case err == io.EOF && hex.EncodeToString(c.hash.Sum(nil)) != c.object.SHA256:
		err = c.fail("its SHA-256 is another one")
	case err != nil && err != io.EOF:
		err = fmt.Errorf("read object %s: %w", c.object.Key, err)
	}
	c.err = err
	return n, err
}

func (c *checked) fail(format string, args ...any) error {
	return fmt.Errorf("read object %s: %w: %s", c.object.Key, ErrChanged, fmt.Sprintf(format, args...))
}

func (c *checked) Close() error { return c.r.Close() }
