package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// probeLock is for how long the object would be locked that a probe begins to write.
const probeLock = time.Hour

// Probe proves that objects with a lock can be written now: the bucket has versions and Object Lock, the clocks agree, and
// the store begins a locked upload and takes a part of it. That upload is aborted, so that a probe leaves nothing behind.
func (s *S3) Probe(ctx context.Context) error {
	ctx, cancel := within(ctx, callLimit)
	defer cancel()
	if err := s.probe(ctx); err != nil {
		return fmt.Errorf("probe store: %w", err)
	}
	return nil
}

func (s *S3) probe(ctx context.Context) (err error) {
	if err := s.checkBucket(ctx, true, true); err != nil {
		return err
	}
	if err := s.readClock(ctx, 0); err != nil {
		return err
	}
	u := &upload{
		s: s, key: "probe-" + rand.Text(), nonce: rand.Text(), content: sha256.New(),
		lock: Lock{Governance, ceil(s.now().Add(probeLock))},
	}
	id, err := u.begin(ctx)
	if err != nil {
		return err
	}
	u.grow()
	if err := u.part(ctx, id, 1, bytes.Repeat([]byte("purser"), 1000)); err != nil {
		u.abort(ctx, id)
		return fmt.Errorf("send a part: %w", err)
	}
	if err := s.abort(ctx, *s.name(u.key), id); err != nil {
		return fmt.Errorf("abort the upload: %w", err)
	}
	return nil
}

// Abandoned removes what uploads under the prefix have left that began before the given time ago, by the store's clock,
// and returns how many there were. A living upload that old is ended with them, so the age is that of no living one.
func (s *S3) Abandoned(ctx context.Context, prefix string, age time.Duration) (int, error) {
	removed, err := 0, checkPrefix(prefix)
	if err == nil {
		err = s.readClock(ctx, clockLife)
	}
	if err == nil {
		before := s.now().Add(-age)
		removed, err = s.abandoned(ctx, prefix, func(_ string, began time.Time) bool { return !began.IsZero() && began.Before(before) })
	}
	if err != nil {
		return removed, fmt.Errorf("remove abandoned uploads: %w", err)
	}
	return removed, nil
}

// abandoned removes the uploads that the function chooses.
func (s *S3) abandoned(ctx context.Context, prefix string, chosen func(key string, began time.Time) bool) (int, error) {
	removed := 0
	in := &s3.ListMultipartUploadsInput{Bucket: &s.o.Bucket, Prefix: s.name(prefix), MaxUploads: s.page}
	for {
		out, err := s.listUploads(ctx, in)
		if err != nil {
			return removed, err
		}
		for _, upload := range out.Uploads {
			name := aws.ToString(upload.Key)
			key, ok := strings.CutPrefix(name, s.o.Prefix)
			if !ok || !strings.HasPrefix(key, prefix) || !chosen(key, aws.ToTime(upload.Initiated)) {
				continue
			}
			if err := s.abort(ctx, name, aws.ToString(upload.UploadId)); err != nil {
				return removed, err
			}
			removed++
		}
		if !aws.ToBool(out.IsTruncated) {
			return removed, nil
		}
		key, id := aws.ToString(out.NextKeyMarker), aws.ToString(out.NextUploadIdMarker)
		if key == "" || key == aws.ToString(in.KeyMarker) && id == aws.ToString(in.UploadIdMarker) {
			return removed, errors.New("the store's list goes on and does not say where")
		}
		in.KeyMarker, in.UploadIdMarker = out.NextKeyMarker, out.NextUploadIdMarker
	}
}

func (s *S3) listUploads(ctx context.Context, in *s3.ListMultipartUploadsInput) (*s3.ListMultipartUploadsOutput, error) {
	ctx, cancel := within(ctx, callLimit)
	defer cancel()
	out, err := s.client.ListMultipartUploads(ctx, in)
	return out, explain(err)
}

// abort ends one upload and removes its parts; one that is not there has ended.
func (s *S3) abort(ctx context.Context, name, id string) error {
	ctx, cancel := within(ctx, callLimit)
	defer cancel()
	_, err := s.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &s.o.Bucket, Key: &name, UploadId: &id})
	if err = explain(err); errors.Is(err, ErrMissing) {
		return nil
	}
	return err
}
