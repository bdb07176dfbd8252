package store

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"
	"golang.org/x/sync/errgroup"
)

const (
	// firstPart is the size of the first parts, in bytes. What is shorter is one part and one request.
	firstPart = 16 << 20
	// equalParts is how many parts have the same size; the next ones have twice that.
	equalParts = 2000
	// maxParts is S3's limit. With it a stream may have 968 GiB.
	maxParts = 10_000
	// partMemory is what the parts that are read or sent may take together, in bytes, unless one part alone takes more:
	// those after the first 218 GiB take 128 MiB, those after 468 GiB 256 MiB.
	partMemory = 64 << 20
	// mostParts is how many parts are read or sent at a time.
	mostParts = 3
	// slowest is the rate at which a store puts the parts of an object together, in bytes per second.
	slowest = 20 << 20
	// nonceName is the metadata by which a writer knows its own object again.
	nonceName = "purser-upload"
)

// partSize is the size of a part, counted from 1, if the first one has that size.
func partSize(first, number int) int { return first << ((number - 1) / equalParts) }

// partsAtOnce is how many parts of a size are held in memory.
func partsAtOnce(size int) int { return max(1, min(mostParts, partMemory/size)) }

// Create writes an object of unknown length, locked from its first moment on. It fails with [ErrExists] if there is one
// under the key, also if that appears meanwhile, and with [ErrSkew] if the clocks are too far apart for a lock. After any
// error nothing is left that can be listed or opened, unless what is there is the whole object and only the store's answers
// were lost; then Create fails with ErrExists the next time. It reads r until its end, and cannot interrupt it when ctx
// ends.
func (s *S3) Create(ctx context.Context, key string, r io.Reader, lock Lock) (Object, error) {
	o, err := s.create(ctx, key, r, lock)
	if err != nil {
		return Object{}, fmt.Errorf("create object %s: %w", key, err)
	}
	return o, nil
}

func (s *S3) create(ctx context.Context, key string, r io.Reader, lock Lock) (Object, error) {
	if err := checkKey(key); err != nil {
		return Object{}, err
	}
	lock, err := s.admit(ctx, lock)
	if err != nil {
		return Object{}, err
	}
	u := &upload{s: s, key: key, lock: lock, nonce: rand.Text(), content: sha256.New()}
	pooled, _ := s.buffers.Get().(*[]byte)
	if pooled == nil {
		pooled = new([]byte)
	}
	data, ended, err := u.read(r, *pooled, s.firstPart)
	if err != nil {
		return Object{}, err
	}
	if ended {
		o, err := u.single(ctx, data)
		if err == nil { // else a request that was given up may still read it
			s.buffers.Put(&data)
		}
		return o, err
	}
	return u.multiple(ctx, r, data)
}

// An upload is one object on its way.
type upload struct {
	s       *S3
	key     string
	lock    Lock
	nonce   string
	content hash.Hash // of all that was read
	size    int64

	mu       sync.Mutex
	parts    []types.CompletedPart // by number; empty for those on their way
	sums     [][sha256.Size]byte
	repeated bool // starting was tried more than once: there may be an upload that nobody knows
}

// read fills the buffer, which grows up to size as bytes come, and reports whether the stream has ended.
func (u *upload) read(r io.Reader, data []byte, size int) ([]byte, bool, error) {
	data = data[:0]
	for idle := 0; len(data) < size; {
		if len(data) == cap(data) {
			grown := make([]byte, len(data), min(size, max(64<<10, 2*cap(data))))
			copy(grown, data)
			data = grown
		}
		n, err := r.Read(data[len(data):min(size, cap(data))])
		u.content.Write(data[len(data) : len(data)+n])
		data, u.size = data[:len(data)+n], u.size+int64(n)
		if err == io.EOF {
			return data, true, nil
		}
		if idle++; n > 0 {
			idle = 0
		}
		if idle == 100 {
			err = io.ErrNoProgress
		}
		if err != nil {
			return nil, false, fmt.Errorf("read its content: %w", err)
		}
	}
	return data, false, nil
}

// single writes an object of one part in one request.
func (u *upload) single(ctx context.Context, data []byte) (Object, error) {
	sum := sha256.Sum256(data)
	in := &s3.PutObjectInput{
		Bucket: &u.s.o.Bucket, Key: u.s.name(u.key), Body: bytes.NewReader(data), ContentLength: aws.Int64(int64(len(data))),
		ChecksumSHA256: base64Of(sum[:]), IfNoneMatch: aws.String("*"), Metadata: map[string]string{nonceName: u.nonce},
	}
	in.ObjectLockMode, in.ObjectLockRetainUntilDate = u.lock.s3()
	out, err := u.s.client.PutObject(ctx, in, signedWith(sum))
	version := ""
	if err == nil {
		version = aws.ToString(out.VersionId)
	}
	if version, err = u.settle(ctx, version, explain(err), 0); err != nil {
		return Object{}, err
	}
	return u.confirm(ctx, version)
}

// multiple writes an object of several parts, of which the first has been read. What does not become an object is removed.
func (u *upload) multiple(ctx context.Context, r io.Reader, first []byte) (o Object, err error) {
	if _, err := u.find(ctx); !errors.Is(err, ErrMissing) { // before all is sent for nothing
		if err == nil {
			err = ErrExists
		}
		return Object{}, err
	}
	id, err := u.begin(ctx)
	if err != nil {
		return Object{}, err
	}
	defer func() {
		if err != nil {
			u.abort(ctx, id)
		}
	}()
	if err := u.send(ctx, id, r, first); err != nil {
		return Object{}, err
	}
	version, err := u.complete(ctx, id)
	if err != nil {
		return Object{}, err
	}
	return u.confirm(ctx, version)
}

func (u *upload) begin(ctx context.Context) (string, error) {
	ctx, cancel := within(ctx, callLimit)
	defer cancel()
	in := &s3.CreateMultipartUploadInput{
		Bucket: &u.s.o.Bucket, Key: u.s.name(u.key), ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
		ChecksumType: types.ChecksumTypeComposite, Metadata: map[string]string{nonceName: u.nonce},
	}
	in.ObjectLockMode, in.ObjectLockRetainUntilDate = u.lock.s3()
	out, err := u.s.client.CreateMultipartUpload(ctx, in)
	if err != nil {
		return "", fmt.Errorf("begin the upload: %w", explain(err))
	}
	if aws.ToString(out.UploadId) == "" {
		return "", errors.New("begin the upload: the store gives it no name")
	}
	attempts, _ := retry.GetAttemptResults(out.ResultMetadata)
	u.repeated = len(attempts.Results) > 1
	return *out.UploadId, nil
}

// send reads and sends parts, some at a time, and waits for all.
func (u *upload) send(ctx context.Context, id string, r io.Reader, data []byte) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	g, ctx := errgroup.WithContext(ctx)
	free := make(chan []byte, mostParts) // buffers, nil until they are used first
	for range mostParts - 1 {
		free <- nil
	}
	err := func() error {
		buffers, ended := mostParts, false
		for number := 1; ; number++ {
			u.grow()
			part := data
			g.Go(func() error {
				if err := u.part(ctx, id, number, part); err != nil {
					return fmt.Errorf("send part %d: %w", number, err)
				}
				free <- part
				return nil
			})
			if ended {
				return nil
			}
			if number == maxParts {
				return fmt.Errorf("its content is longer than %d bytes", u.size)
			}
			size := partSize(u.s.firstPart, number+1)
			for ; buffers > partsAtOnce(size); buffers-- {
				if _, err := take(ctx, free); err != nil {
					return err
				}
			}
			buffer, err := take(ctx, free)
			if err != nil {
				return err
			}
			if cap(buffer) < size {
				buffer = make([]byte, 0, size)
			}
			if data, ended, err = u.read(r, buffer, size); err != nil {
				return err
			}
			if len(data) == 0 {
				return nil
			}
		}
	}()
	if err != nil {
		cancel(err)
	}
	if sendErr := g.Wait(); err == nil {
		err = sendErr
	}
	if err != nil {
		return err
	}
	for range len(free) { // all that are not kept are garbage of some size
		if buffer := <-free; cap(buffer) == u.s.firstPart {
			u.s.buffers.Put(&buffer)
		}
	}
	return nil
}

// grow makes room for one more part.
func (u *upload) grow() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.parts, u.sums = append(u.parts, types.CompletedPart{}), append(u.sums, [sha256.Size]byte{})
}

func take(ctx context.Context, free <-chan []byte) ([]byte, error) {
	select {
	case buffer := <-free:
		return buffer, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// part sends one part, as often as it takes.
func (u *upload) part(ctx context.Context, id string, number int, data []byte) error {
	sum := sha256.Sum256(data)
	out, err := u.s.client.UploadPart(ctx, &s3.UploadPartInput{
		Bucket: &u.s.o.Bucket, Key: u.s.name(u.key), UploadId: &id, PartNumber: aws.Int32(int32(number)),
		Body: bytes.NewReader(data), ContentLength: aws.Int64(int64(len(data))), ChecksumSHA256: base64Of(sum[:]),
	}, signedWith(sum))
	if err != nil {
		return explain(err)
	}
	if got := aws.ToString(out.ChecksumSHA256); got != "" && got != *base64Of(sum[:]) {
		return fmt.Errorf("%w: the store has another checksum of it", ErrChanged)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sums[number-1] = sum
	u.parts[number-1] = types.CompletedPart{
		PartNumber: aws.Int32(int32(number)), ETag: out.ETag, ChecksumSHA256: base64Of(sum[:]),
	}
	return nil
}

// complete makes one object of the parts, if there is none, and returns its version.
func (u *upload) complete(ctx context.Context, id string) (string, error) {
	patience := u.s.o.Stall + time.Duration(u.size/slowest)*time.Second
	out, err := u.s.client.CompleteMultipartUpload(patient(ctx, patience), &s3.CompleteMultipartUploadInput{
		Bucket: &u.s.o.Bucket, Key: u.s.name(u.key), UploadId: &id, IfNoneMatch: aws.String("*"),
		ChecksumType: types.ChecksumTypeComposite, MultipartUpload: &types.CompletedMultipartUpload{Parts: u.parts},
	})
	version := ""
	if err == nil {
		version = aws.ToString(out.VersionId)
	}
	if code(err) == "NoSuchUpload" { // not the object: what an earlier attempt made of it is to be seen
		err = fmt.Errorf("the store knows the upload no more: %s", code(err))
	}
	return u.settle(ctx, version, explain(err), patience)
}

// settle finds the version that was written if the store's answer does not say it: because an earlier attempt has done the
// work, or because the store is still at it, which may take as long as patience.
func (u *upload) settle(ctx context.Context, version string, err error, patience time.Duration) (string, error) {
	if err == nil && version != "" {
		return version, nil
	}
	wait, cancel := within(ctx, max(patience, time.Second))
	defer cancel()
	if errors.Is(err, ErrUnanswered) { // once more, and not for long
		var stop context.CancelFunc
		ctx, stop = within(ctx, u.s.o.Stall)
		defer stop()
	}
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		found, findErr := u.find(ctx)
		switch {
		case findErr == nil:
			return found, nil
		case !errors.Is(findErr, ErrMissing) && !errors.Is(findErr, ErrExists):
			return "", cmp.Or(err, findErr)
		case errors.Is(findErr, ErrExists) && (err == nil || errors.Is(err, ErrExists)):
			return "", ErrExists
		case err != nil:
			return "", err
		}
		select { // the store says that it has done it
		case <-wait.Done():
			return "", fmt.Errorf("%w: the store said that it was written", ErrMissing)
		case <-time.After(pause):
		}
	}
}

// find returns the version that this upload has written. It fails with [ErrMissing] if there is no object under the key and
// with [ErrExists] if there is one that others have written.
func (u *upload) find(ctx context.Context) (string, error) {
	result := ErrMissing
	for v, err := range u.s.versions(ctx, u.key) {
		if err != nil {
			return "", err
		}
		if v.key > u.key {
			break
		}
		if v.key != u.key || v.marker {
			continue
		}
		_, nonce, err := u.s.headVersion(ctx, u.key, v.version)
		switch {
		case errors.Is(err, ErrMissing): // deleted meanwhile
		case err != nil:
			return "", err
		case nonce == u.nonce:
			return v.version, nil
		case v.latest:
			result = ErrExists
		}
	}
	return "", result
}

// confirm reads back what was written, and returns the record of it.
func (u *upload) confirm(ctx context.Context, version string) (Object, error) {
	o := Object{
		Key: u.key, Version: version, Size: u.size, SHA256: hex.EncodeToString(u.content.Sum(nil)), LockedUntil: u.lock.Until,
	}
	if len(u.sums) > 0 {
		all := sha256.New()
		for _, sum := range u.sums {
			all.Write(sum[:])
		}
		o.Parts = fmt.Sprintf("%s-%d", *base64Of(all.Sum(nil)), len(u.sums))
	}
	info, nonce, err := u.s.headVersion(ctx, u.key, version)
	if err != nil {
		return Object{}, fmt.Errorf("read it back: %w", err)
	}
	if nonce != u.nonce {
		return Object{}, fmt.Errorf("read it back: %w: version %s is of another writer", ErrChanged, version)
	}
	if u.lock.Mode != Unlocked && info.Lock.Mode != u.lock.Mode {
		return Object{}, fmt.Errorf("read it back: %w: its lock is %q instead of %q", ErrChanged, info.Lock.Mode, u.lock.Mode)
	}
	if err := info.differs(o); err != nil {
		return Object{}, fmt.Errorf("read it back: %w", err)
	}
	if u.repeated {
		u.sweep(ctx)
	}
	return o, nil
}

// abort removes an upload. If that fails it is left to Abandoned.
func (u *upload) abort(ctx context.Context, id string) {
	ctx, cancel := within(context.WithoutCancel(ctx), undoLimit)
	defer cancel()
	_ = u.s.abort(ctx, *u.s.name(u.key), id)
	if u.repeated {
		u.sweep(ctx)
	}
}

// sweep removes uploads under the key whose beginning nobody heard of. Anybody else's could not become an object any more.
func (u *upload) sweep(ctx context.Context) {
	_, _ = u.s.abandoned(ctx, u.key, func(key string, _ time.Time) bool { return key == u.key })
}

// s3 is the lock as the SDK has it.
func (l Lock) s3() (types.ObjectLockMode, *time.Time) {
	if l.Mode == Unlocked {
		return "", nil
	}
	return types.ObjectLockMode(strings.ToUpper(string(l.Mode))), &l.Until
}

func base64Of(sum []byte) *string { return aws.String(base64.StdEncoding.EncodeToString(sum)) }

// signedWith lets a request be signed over a checksum that is known, so that it is not computed again.
func signedWith(sum [sha256.Size]byte) func(*s3.Options) {
	return func(o *s3.Options) {
		o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
			return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("purserPayloadHash", func(
				ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler,
			) (middleware.InitializeOutput, middleware.Metadata, error) {
				return next.HandleInitialize(v4.SetPayloadHash(ctx, hex.EncodeToString(sum[:])), in)
			}), middleware.Before)
		})
	}
}
