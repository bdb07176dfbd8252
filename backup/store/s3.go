package store

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"

	"github.com/purser-gitops/purser/sources/credential"
)

const (
	// callLimit bounds a call that moves no content, with all its repetitions.
	callLimit = 10 * time.Minute
	// undoLimit bounds what is still done for a call that failed or was cancelled.
	undoLimit = 30 * time.Second
	// dialGrace is for how long connecting goes on after the request was given up that it was begun for.
	dialGrace = 5 * time.Second
	// clockLife is for how long the store's clock is believed to go as it did.
	clockLife = time.Minute
	// maxAuthorities bounds the CA file, in bytes.
	maxAuthorities = 1 << 20
)

// S3Options say where a bucket is and how patient its client is.
type S3Options struct {
	Endpoint    string // base URL, https; empty means AWS
	Region      string // empty means us-east-1
	Bucket      string // with versions, and with Object Lock if anything is locked
	Prefix      string // of all keys; empty, or elements of keys with "/" at the end
	Credentials string // file in AWS's format; read again when it changes
	Profile     string // section of that file; empty means default
	CA          string // file with authorities in PEM that are trusted too; empty means the system's alone

	Stall    time.Duration    // after which a request in which nothing moves is sent anew; 0 means 30 seconds
	Silence  time.Duration    // after so much of it, with all attempts, a call fails with [ErrUnanswered]; 0 means 6 times Stall
	Attempts int              // how often a request is sent until it succeeds; 0 means 10
	Backoff  time.Duration    // longest pause between attempts; 0 means 20 seconds
	MaxSkew  time.Duration    // by which clocks may differ when something is locked; 0 means 1 minute
	Now      func() time.Time // nil means time.Now
	Name     string           // of the store, for people; empty if it has none
	Log      *slog.Logger     // of what a store is silent about; nil for none
}

// S3 is a bucket, or a part of it. It is safe for concurrent use.
//
// Who writes and reads needs, of the bucket, s3:ListBucket, s3:ListBucketVersions, s3:ListBucketMultipartUploads,
// s3:GetBucketVersioning and s3:GetBucketObjectLockConfiguration; of its objects s3:PutObject, s3:PutObjectRetention,
// s3:AbortMultipartUpload, s3:GetObject, s3:GetObjectVersion and s3:GetObjectRetention. Only who deletes gets
// s3:DeleteObjectVersion, and nobody s3:BypassGovernanceRetention.
type S3 struct {
	client    *s3.Client
	transport *transport
	o         S3Options
	buffers   sync.Pool // of parts, *[]byte
	firstPart int       // see the constant
	page      *int32    // entries per page of a list; nil leaves it to the server

	mu    sync.Mutex
	fit   bool // the bucket keeps versions
	locks bool // the bucket has Object Lock
}

// NewS3 returns a store in a bucket. It reads the CA file and connects to nothing.
func NewS3(o S3Options) (*S3, error) {
	o.Region, o.Profile = cmp.Or(o.Region, "us-east-1"), cmp.Or(o.Profile, "default")
	o.Stall, o.Attempts = cmp.Or(o.Stall, 30*time.Second), cmp.Or(o.Attempts, 10)
	o.Backoff, o.MaxSkew = cmp.Or(o.Backoff, 20*time.Second), cmp.Or(o.MaxSkew, time.Minute)
	o.Silence = cmp.Or(o.Silence, 6*o.Stall)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	base := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: o.Stall + dialGrace, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:   o.Stall + dialGrace,
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConnsPerHost:   16,
		ExpectContinueTimeout: time.Second,
		DisableCompression:    true, // contents are what they are
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if o.CA != "" {
		pem, err := credential.ReadFile(o.CA, maxAuthorities)
		if err != nil {
			return nil, fmt.Errorf("open store: %w", err)
		}
		if base.TLSClientConfig.RootCAs, err = credential.Authorities(pem); err != nil {
			return nil, fmt.Errorf("open store: %s: %w", o.CA, err)
		}
	}
	quiet := hush{store: o.label(), silence: o.Silence, log: o.Log}
	s := &S3{o: o, firstPart: firstPart, transport: &transport{base: base, stall: o.Stall, hush: quiet, now: o.Now}}
	settings := s3.Options{
		Region:                     o.Region,
		Credentials:                &credentialsFile{name: o.Credentials, profile: o.Profile},
		HTTPClient:                 s.transport,
		Retryer:                    retryer(o),
		APIOptions:                 []func(*middleware.Stack) error{eachCall},
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired, // ours are sums of what was read
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
	}
	if o.Endpoint != "" {
		settings.BaseEndpoint, settings.UsePathStyle = &o.Endpoint, true
	}
	s.client = s3.New(settings)
	return s, nil
}

// label names the store for people.
func (o S3Options) label() string {
	place := strings.TrimPrefix(strings.TrimSuffix(o.Endpoint, "/")+"/"+o.Bucket, "/")
	if o.Name == "" {
		return place
	}
	return fmt.Sprintf("%q at %s", o.Name, place)
}

func (o S3Options) check() error {
	if o.Bucket == "" || o.Credentials == "" {
		return errors.New("a bucket and a credentials file are needed")
	}
	if o.Prefix != "" && !strings.HasSuffix(o.Prefix, "/") {
		return fmt.Errorf("prefix %q has to end with /", o.Prefix)
	}
	if err := checkPrefix(o.Prefix); err != nil {
		return fmt.Errorf("prefix: %w", err)
	}
	if o.Endpoint == "" {
		return nil
	}
	u, err := url.Parse(o.Endpoint)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" {
		return fmt.Errorf("endpoint: want https://HOST[:PORT]") // and nothing of it is repeated: it may hold a password
	}
	if ip := net.ParseIP(u.Hostname()); u.Scheme != "https" && (u.Scheme != "http" || ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("endpoint %s: want https; http is for loopback addresses", u.Redacted())
	}
	return nil
}

// retryer tries again what may succeed then, without a budget: a backup that ends at the tenth attempt is a backup.
func retryer(o S3Options) aws.Retryer {
	return retry.NewStandard(func(r *retry.StandardOptions) {
		r.MaxAttempts, r.MaxBackoff, r.RateLimiter = o.Attempts, o.Backoff, ratelimit.None
		r.Retryables = append([]retry.IsErrorRetryable{retry.IsErrorRetryableFunc(retryable)}, r.Retryables...)
	})
}

// Close closes idle connections.
func (s *S3) Close() error {
	s.transport.base.CloseIdleConnections()
	return nil
}

// name is the key of an object in the bucket.
func (s *S3) name(key string) *string { return aws.String(s.o.Prefix + key) }

// Now returns the time at the store, which is ours as far as seconds tell. It fails with [ErrSkew] if the clocks differ
// by more than S3Options.MaxSkew.
func (s *S3) Now(ctx context.Context) (time.Time, error) {
	if err := s.readClock(ctx, 0); err != nil {
		return time.Time{}, fmt.Errorf("read the store's clock: %w", err)
	}
	return s.now(), nil
}

func (s *S3) now() time.Time {
	ahead, _ := s.transport.clock.read()
	return s.o.Now().Add(ahead)
}

// readClock compares the clocks, unless that was done within a time.
func (s *S3) readClock(ctx context.Context, within time.Duration) error {
	ahead, seen := s.transport.clock.read()
	if age := s.o.Now().Sub(seen); seen.IsZero() || age < 0 || age >= within {
		if err := s.head(ctx); err != nil {
			return err
		}
		if ahead, seen = s.transport.clock.read(); seen.IsZero() {
			return errors.New("its answers have no date")
		}
	}
	if ahead.Abs() > s.o.MaxSkew {
		return Skew(s.now(), s.o.Now())
	}
	return nil
}

func (s *S3) head(ctx context.Context) error {
	ctx, cancel := within(ctx, callLimit)
	defer cancel()
	_, err := s.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &s.o.Bucket})
	if err = explain(err); errors.Is(err, ErrMissing) {
		return errNoBucket
	}
	return err
}

// admit returns the lock as it will be kept, if the bucket is one for objects with it.
func (s *S3) admit(ctx context.Context, lock Lock) (Lock, error) {
	if err := s.checkBucket(ctx, lock.Mode != Unlocked, false); err != nil {
		return lock, err
	}
	if lock.Mode != Unlocked {
		if err := s.readClock(ctx, clockLife); err != nil {
			return lock, err
		}
	}
	return lock.whole(s.now())
}

// checkBucket checks that the bucket has versions and, if so asked, Object Lock; afresh or once.
func (s *S3) checkBucket(ctx context.Context, lock, afresh bool) error {
	s.mu.Lock()
	known := !afresh && s.fit && (s.locks || !lock)
	s.mu.Unlock()
	if known {
		return nil
	}
	ctx, cancel := within(ctx, callLimit)
	defer cancel()
	versions, err := s.client.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: &s.o.Bucket})
	if err != nil {
		return fmt.Errorf("read whether the bucket keeps versions: %w", explain(err))
	}
	if versions.Status != types.BucketVersioningStatusEnabled {
		return fmt.Errorf("%w: %s keeps no versions: enable versioning", ErrUnfit, s.o.Bucket)
	}
	if lock {
		out, err := s.client.GetObjectLockConfiguration(ctx, &s3.GetObjectLockConfigurationInput{Bucket: &s.o.Bucket})
		if err != nil && code(err) != "ObjectLockConfigurationNotFoundError" {
			return fmt.Errorf("read whether the bucket has Object Lock: %w", explain(err))
		}
		if err != nil || out.ObjectLockConfiguration == nil ||
			out.ObjectLockConfiguration.ObjectLockEnabled != types.ObjectLockEnabledEnabled {
			return fmt.Errorf("%w: %s has no Object Lock: create a bucket with it", ErrUnfit, s.o.Bucket)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fit, s.locks = true, s.locks || lock
	return nil
}

// Stat reads what the store says of the version now. Unless that is what the record says, it fails with [ErrMissing] or
// [ErrChanged], in the latter case together with what it read.
func (s *S3) Stat(ctx context.Context, o Object) (Info, error) {
	info, err := s.stat(ctx, o)
	if err != nil {
		return info, fmt.Errorf("look at object %s: %w", o.Key, err)
	}
	return info, nil
}

func (s *S3) stat(ctx context.Context, o Object) (Info, error) {
	if err := checkObject(o); err != nil {
		return Info{}, err
	}
	look := s.headVersion
	if !o.LockedUntil.IsZero() {
		look = s.headLocked
	}
	info, _, err := look(ctx, o.Key, o.Version)
	if err != nil {
		return Info{}, err
	}
	for v, err := range s.versions(ctx, o.Key) {
		if err != nil {
			return Info{}, err
		}
		if v.key == o.Key && v.latest {
			info.DeleteMarker = v.marker
			if !v.marker && v.version != o.Version {
				info.Newer = v.version
			}
			return info, info.differs(o)
		}
		if v.key > o.Key {
			break
		}
	}
	return Info{}, fmt.Errorf("%w: it is in no list", ErrMissing)
}

// headVersion reads what the store says of a version, and the nonce that its writer gave it.
func (s *S3) headVersion(ctx context.Context, key, version string) (Info, string, error) {
	ctx, cancel := within(ctx, callLimit)
	defer cancel()
	out, err := s.client.HeadObject(ctx, &s3.HeadObjectInput{
		Bucket: &s.o.Bucket, Key: s.name(key), VersionId: &version, ChecksumMode: types.ChecksumModeEnabled,
	})
	if err != nil {
		return Info{}, "", explain(err)
	}
	info := Info{Size: aws.ToInt64(out.ContentLength)}
	info.setSum(aws.ToString(out.ChecksumSHA256))
	if out.ObjectLockMode != "" {
		info.Lock = Lock{Mode(strings.ToLower(string(out.ObjectLockMode))), aws.ToTime(out.ObjectLockRetainUntilDate).UTC()}
	}
	return info, out.Metadata[nonceName], nil
}

// headLocked is headVersion, and asks for the lock by itself where there seems to be none: some servers tell only the lock of
// the current version (versitygw 1.8), and AWS no lock at all to those who lack the right to read it. A lock that cannot be
// read is an error, not none.
func (s *S3) headLocked(ctx context.Context, key, version string) (Info, string, error) {
	info, nonce, err := s.headVersion(ctx, key, version)
	if err != nil || info.Lock.Mode != Unlocked {
		return info, nonce, err
	}
	ctx, cancel := within(ctx, callLimit)
	defer cancel()
	out, err := s.client.GetObjectRetention(ctx, &s3.GetObjectRetentionInput{Bucket: &s.o.Bucket, Key: s.name(key), VersionId: &version})
	switch code(err) {
	case "NoSuchObjectLockConfiguration", "ObjectLockConfigurationNotFoundError":
		return info, nonce, nil
	}
	if err != nil {
		return Info{}, "", fmt.Errorf("read its lock, which is not known: %w", explain(err))
	}
	if r := out.Retention; r != nil && r.Mode != "" {
		info.Lock = Lock{Mode(strings.ToLower(string(r.Mode))), aws.ToTime(r.RetainUntilDate).UTC()}
	}
	return info, nonce, nil
}

// A version is an entry of a list.
type version struct {
	key, version   string
	size           int64
	latest, marker bool
}

// versions lists the versions of all objects whose keys begin with prefix, in the order of keys. It ends with an error if it
// is not complete.
func (s *S3) versions(ctx context.Context, prefix string) iter.Seq2[version, error] {
	return func(yield func(version, error) bool) {
		in := &s3.ListObjectVersionsInput{Bucket: &s.o.Bucket, Prefix: s.name(prefix), MaxKeys: s.page}
		for {
			out, err := s.listVersions(ctx, in)
			if err != nil {
				yield(version{}, err)
				return
			}
			for _, v := range page(out) {
				if v.version != "" && v.version == aws.ToString(in.VersionIdMarker) {
					continue // some servers repeat the last entry of the page before
				}
				key, ok := strings.CutPrefix(v.key, s.o.Prefix)
				if v.key = key; !ok || !strings.HasPrefix(key, prefix) {
					yield(version{}, fmt.Errorf("the store lists %.100q, for which it was not asked", key))
					return
				}
				if !yield(v, nil) {
					return
				}
			}
			if !aws.ToBool(out.IsTruncated) {
				return
			}
			key, id := aws.ToString(out.NextKeyMarker), aws.ToString(out.NextVersionIdMarker)
			if key == "" || key == aws.ToString(in.KeyMarker) && id == aws.ToString(in.VersionIdMarker) {
				yield(version{}, errors.New("the store's list goes on and does not say where"))
				return
			}
			in.KeyMarker, in.VersionIdMarker = out.NextKeyMarker, out.NextVersionIdMarker
		}
	}
}

func (s *S3) listVersions(ctx context.Context, in *s3.ListObjectVersionsInput) (*s3.ListObjectVersionsOutput, error) {
	ctx, cancel := within(ctx, callLimit)
	defer cancel()
	out, err := s.client.ListObjectVersions(ctx, in)
	return out, explain(err)
}

// page merges versions and delete markers in the order of their keys; those of one key have no order.
func page(out *s3.ListObjectVersionsOutput) []version {
	var list []version
	for _, v := range out.Versions {
		list = append(list, version{aws.ToString(v.Key), aws.ToString(v.VersionId), aws.ToInt64(v.Size), aws.ToBool(v.IsLatest), false})
	}
	for _, m := range out.DeleteMarkers {
		list = append(list, version{aws.ToString(m.Key), aws.ToString(m.VersionId), 0, aws.ToBool(m.IsLatest), true})
	}
	slices.SortStableFunc(list, func(a, b version) int { return strings.Compare(a.key, b.key) })
	return list
}

// List returns the current versions of all objects whose keys begin with prefix: key, version and size, in the order of
// their keys. After an error it ends; without one it was complete.
func (s *S3) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		if err := checkPrefix(prefix); err != nil {
			yield(Object{}, fmt.Errorf("list objects: %w", err))
			return
		}
		for v, err := range s.versions(ctx, prefix) {
			if err != nil {
				yield(Object{}, fmt.Errorf("list objects %s: %w", prefix, err))
				return
			}
			// What has another sort of key was not written by Create.
			if !v.latest || v.marker || checkKey(v.key) != nil {
				continue
			}
			if !yield(Object{Key: v.key, Version: v.version, Size: v.size}, nil) {
				return
			}
		}
	}
}

// Extend lets the lock of a version end at a time, or later if it does so already, and returns the object with the lock
// that was read back. An object without a lock gets none.
func (s *S3) Extend(ctx context.Context, o Object, until time.Time) (Object, error) {
	o, err := s.extend(ctx, o, ceil(until))
	if err != nil {
		return o, fmt.Errorf("extend the lock of object %s: %w", o.Key, err)
	}
	return o, nil
}

func (s *S3) extend(ctx context.Context, o Object, until time.Time) (Object, error) {
	if err := checkObject(o); err != nil {
		return o, err
	}
	if err := s.readClock(ctx, clockLife); err != nil {
		return o, err
	}
	info, _, err := s.headLocked(ctx, o.Key, o.Version)
	if err != nil {
		return o, err
	}
	if info.Lock.Mode == Unlocked {
		return o, fmt.Errorf("%w: it has no lock", ErrChanged)
	}
	if info.Lock.Until.Before(until) {
		if err := s.retain(ctx, o, Lock{info.Lock.Mode, until}); err != nil {
			return o, err
		}
		if info, _, err = s.headLocked(ctx, o.Key, o.Version); err != nil {
			return o, err
		}
	}
	if info.Lock.Until.Before(until) {
		return o, fmt.Errorf("%w: its lock ends %s", ErrChanged, info.Lock.Until.Format(time.RFC3339))
	}
	o.LockedUntil = info.Lock.Until
	return o, nil
}

func (s *S3) retain(ctx context.Context, o Object, lock Lock) error {
	ctx, cancel := within(ctx, callLimit)
	defer cancel()
	_, err := s.client.PutObjectRetention(ctx, &s3.PutObjectRetentionInput{
		Bucket: &s.o.Bucket, Key: s.name(o.Key), VersionId: &o.Version, ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
		Retention: &types.ObjectLockRetention{
			Mode: types.ObjectLockRetentionMode(strings.ToUpper(string(lock.Mode))), RetainUntilDate: &lock.Until,
		},
	})
	return explain(err)
}

// Delete deletes one version for good; one that is not there is deleted already. It fails with [ErrLocked] while a lock
// protects it and with [ErrDenied] if the credentials are not those of the expirer.
func (s *S3) Delete(ctx context.Context, o Object) error {
	if err := s.remove(ctx, o); err != nil {
		return fmt.Errorf("delete object %s: %w", o.Key, err)
	}
	return nil
}

func (s *S3) remove(ctx context.Context, o Object) error {
	if err := checkObject(o); err != nil {
		return err
	}
	call, cancel := within(ctx, callLimit)
	defer cancel()
	before := s.now()
	_, err := s.client.DeleteObject(call, &s3.DeleteObjectInput{Bucket: &s.o.Bucket, Key: s.name(o.Key), VersionId: &o.Version})
	err = explain(err)
	if errors.Is(err, ErrMissing) {
		return nil
	}
	if errors.Is(err, ErrDenied) { // S3 says the same of a lock and of a missing permission
		if info, _, statErr := s.headLocked(ctx, o.Key, o.Version); statErr == nil && info.Lock.Until.After(before) {
			return fmt.Errorf("%w until %s", ErrLocked, info.Lock.Until.Format(time.RFC3339))
		}
	}
	return err
}

// authorityError reports whether the server's certificate is the trouble, which stays.
func authorityError(err error) bool {
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	return errors.As(err, &unknown) || errors.As(err, &host) || errors.As(err, &invalid)
}
