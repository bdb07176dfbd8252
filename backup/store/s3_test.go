package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"github.com/purser-gitops/purser/backup/store"
	"github.com/purser-gitops/purser/backup/store/storetest"
	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
)

const testPrefix = "estate/"

func s3Options(l *lab.Endpoints, bucket, user string) store.S3Options {
	return store.S3Options{
		Endpoint: l.S3URL, Region: lab.S3Region, Bucket: bucket, Prefix: testPrefix, CA: l.CAFile,
		Credentials: l.S3CredentialsFile(user), Backoff: 200 * time.Millisecond,
	}
}

func openS3(t testing.TB, o store.S3Options) *store.S3 {
	t.Helper()
	s, err := store.NewS3(o)
	if err != nil {
		t.Fatal(err)
	}
	s.SetSizes(testPart, 7)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// client is the SDK's own client, for what the package does not do.
func client(t testing.TB, l *lab.Endpoints, user string) *s3.Client {
	t.Helper()
	c, closeIdle, err := lab.S3Client(l, user)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(closeIdle)
	return c
}

func TestS3(t *testing.T) {
	t.Parallel()
	l := labtest.Shared(t, lab.S3)
	storetest.Run(t, func(t testing.TB) storetest.Backend {
		bucket := labtest.Bucket(t, l)
		writer, expirer, admin := client(t, l, lab.S3Writer), client(t, l, lab.S3Expirer), client(t, l, lab.S3Admin)
		check := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		return storetest.Backend{
			Writer: openS3(t, s3Options(l, bucket, lab.S3Writer)), Expirer: openS3(t, s3Options(l, bucket, lab.S3Expirer)), Part: testPart,
			Overwrite: func(t testing.TB, key, content string) {
				_, err := writer.PutObject(t.Context(), &s3.PutObjectInput{
					Bucket: &bucket, Key: aws.String(testPrefix + key), Body: strings.NewReader(content),
				})
				check(err)
			},
			Hide: func(t testing.TB, o store.Object) {
				_, err := expirer.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &bucket, Key: aws.String(testPrefix + o.Key)})
				check(err)
			},
			Shorten: func(t testing.TB, o store.Object, until time.Time) {
				_, err := admin.PutObjectRetention(t.Context(), &s3.PutObjectRetentionInput{
					Bucket: &bucket, Key: aws.String(testPrefix + o.Key), VersionId: &o.Version, BypassGovernanceRetention: aws.Bool(true),
					Retention: &types.ObjectLockRetention{Mode: types.ObjectLockRetentionModeGovernance, RetainUntilDate: &until},
				})
				check(err)
			},
			Begin: func(t testing.TB, key string) {
				_, err := writer.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &bucket, Key: aws.String(testPrefix + key)})
				check(err)
			},
		}
	})
}

// The credentials that write backups delete nothing, shorten nothing and take no protection away, whatever they try.
func TestWriterOnlyAdds(t *testing.T) {
	t.Parallel()
	l := labtest.Shared(t, lab.S3)
	bucket := labtest.Bucket(t, l)
	s, raw := openS3(t, s3Options(l, bucket, lab.S3Writer)), client(t, l, lab.S3Writer)
	until := time.Now().Add(time.Hour)
	contents := map[store.Mode][]byte{store.Governance: storetest.Content(1000, 1), store.Compliance: storetest.Content(testPart+10, 2), store.Unlocked: []byte("free")}
	objects := map[store.Mode]store.Object{}
	for mode, content := range contents {
		lock := store.Lock{Mode: mode}
		if mode != store.Unlocked {
			lock.Until = until
		}
		o, err := s.Create(t.Context(), "object-"+string(mode), strings.NewReader(string(content)), lock)
		if err != nil {
			t.Fatal(err)
		}
		objects[mode] = o
	}
	for mode, o := range objects {
		want := store.ErrLocked
		if mode == store.Unlocked {
			want = store.ErrDenied
		}
		if err := s.Delete(t.Context(), o); !errors.Is(err, want) {
			t.Errorf("delete %q: %v, want %v", mode, err, want)
		}
		for what, try := range attempts(t.Context(), raw, &bucket, aws.String(testPrefix+o.Key), &o.Version, until) {
			if err := try(); err == nil {
				t.Errorf("%s (%q) was allowed", what, mode)
			}
		}
	}
	for mode, o := range objects {
		if _, err := s.Stat(t.Context(), o); err != nil {
			t.Errorf("%q: %v", mode, err)
		}
		if got, err := storetest.Read(t.Context(), s, o); err != nil || string(got) != string(contents[mode]) {
			t.Errorf("%q: %v", mode, err)
		}
	}
	if err := s.Probe(t.Context()); err != nil {
		t.Error(err)
	}
}

// attempts are ways to get rid of a version or of its lock.
func attempts(ctx context.Context, c *s3.Client, bucket, key, version *string, until time.Time) map[string]func() error {
	yes, sooner := aws.Bool(true), until.Add(-30*time.Minute)
	remove := func(version *string, bypass *bool) error {
		_, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: key, VersionId: version, BypassGovernanceRetention: bypass})
		return err
	}
	retain := func(mode types.ObjectLockRetentionMode, until *time.Time, bypass *bool) error {
		_, err := c.PutObjectRetention(ctx, &s3.PutObjectRetentionInput{
			Bucket: bucket, Key: key, VersionId: version, BypassGovernanceRetention: bypass,
			Retention: &types.ObjectLockRetention{Mode: mode, RetainUntilDate: until},
		})
		if err == nil { // an object without a lock may get one
			head, headErr := c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: bucket, Key: key, VersionId: version})
			if headErr == nil && strings.HasSuffix(*key, "object-") && head.ObjectLockMode != "" {
				return errors.New("it was locked, not unlocked")
			}
		}
		return err
	}
	return map[string]func() error{
		"delete the version":                    func() error { return remove(version, nil) },
		"delete the version, bypassing":         func() error { return remove(version, yes) },
		"hide the object":                       func() error { return remove(nil, nil) },
		"hide the object, bypassing":            func() error { return remove(nil, yes) },
		"shorten governance":                    func() error { return retain(types.ObjectLockRetentionModeGovernance, &sooner, nil) },
		"shorten governance, bypassing":         func() error { return retain(types.ObjectLockRetentionModeGovernance, &sooner, yes) },
		"shorten compliance":                    func() error { return retain(types.ObjectLockRetentionModeCompliance, &sooner, nil) },
		"shorten compliance, bypassing":         func() error { return retain(types.ObjectLockRetentionModeCompliance, &sooner, yes) },
		"remove the lock":                       func() error { return retain("", nil, nil) },
		"remove the lock, bypassing governance": func() error { return retain("", nil, yes) },
		"delete several": func() error {
			out, err := c.DeleteObjects(ctx, &s3.DeleteObjectsInput{
				Bucket: bucket, BypassGovernanceRetention: yes, Delete: &types.Delete{Objects: []types.ObjectIdentifier{{Key: key, VersionId: version}}},
			})
			if err == nil && len(out.Deleted) == 0 && len(out.Errors) > 0 {
				err = fmt.Errorf("%s", aws.ToString(out.Errors[0].Code))
			}
			return err
		},
		"suspend versions": func() error {
			_, err := c.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{
				Bucket: bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusSuspended},
			})
			return err
		},
		"change Object Lock": func() error {
			_, err := c.PutObjectLockConfiguration(ctx, &s3.PutObjectLockConfigurationInput{
				Bucket: bucket, ObjectLockConfiguration: &types.ObjectLockConfiguration{ObjectLockEnabled: types.ObjectLockEnabledEnabled,
					Rule: &types.ObjectLockRule{DefaultRetention: &types.DefaultRetention{Days: aws.Int32(1), Mode: types.ObjectLockRetentionModeGovernance}}},
			})
			return err
		},
		"let a rule delete": func() error {
			_, err := c.PutBucketLifecycleConfiguration(ctx, &s3.PutBucketLifecycleConfigurationInput{
				Bucket: bucket, LifecycleConfiguration: &types.BucketLifecycleConfiguration{Rules: []types.LifecycleRule{{
					ID: aws.String("all"), Status: types.ExpirationStatusEnabled, Filter: &types.LifecycleRuleFilter{Prefix: aws.String("")},
					Expiration: &types.LifecycleExpiration{Days: aws.Int32(1)},
				}}},
			})
			return err
		},
		"change the policy": func() error {
			_, err := c.DeleteBucketPolicy(ctx, &s3.DeleteBucketPolicyInput{Bucket: bucket})
			return err
		},
		"delete the bucket": func() error {
			_, err := c.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: bucket})
			return err
		},
	}
}

// Credentials are read again when their file changes, and are in no error.
func TestCredentialsChange(t *testing.T) {
	t.Parallel()
	l := labtest.Shared(t, lab.S3)
	o := s3Options(l, labtest.Bucket(t, l), lab.S3Writer)
	good, err := os.ReadFile(o.Credentials)
	if err != nil {
		t.Fatal(err)
	}
	o.Credentials = filepath.Join(t.TempDir(), "credentials")
	s := openS3(t, o)
	const secret = "wrong-secret-that-nobody-may-see"
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(o.Credentials, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i, text := range []string{"", "[default]\naws_access_key_id = " + lab.S3Writer + "\naws_secret_access_key = " + secret + "\n",
		"[default]\naws_access_key_id = nobody\naws_secret_access_key = " + secret + "\n", "[other]\naws_secret_access_key = " + secret,
		"[default\n" + secret, "[default]\n" + secret, "[default]\naws_secret_access_key=" + secret, strings.Repeat(secret, 10_000)} {
		if i > 0 {
			write(text)
		}
		_, err := s.Create(t.Context(), "key", strings.NewReader("x"), store.Lock{})
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("credentials %d: %v", i, err)
		}
	}
	write("# comment\n[other]\nregion = x\n\n" + string(good))
	object, err := s.Create(t.Context(), "key", strings.NewReader("x"), store.Lock{})
	if err != nil {
		t.Fatal(err)
	}
	write("[default]\naws_access_key_id = nobody\naws_secret_access_key = " + secret + "\n")
	if _, err := s.Stat(t.Context(), object); err == nil {
		t.Error("credentials that were replaced are used")
	}
}

// A bucket that cannot protect anything is refused before anything is sent.
func TestUnfitBucket(t *testing.T) {
	t.Parallel()
	l := labtest.Shared(t, lab.S3)
	admin := client(t, l, lab.S3Admin)
	plain, versions := labtest.Name(t), labtest.Name(t)
	for _, name := range []string{plain, versions} {
		if _, err := admin.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &name}); err != nil {
			t.Fatal(err)
		}
	}
	_, err := admin.PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{
		Bucket: &versions, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
	})
	if err != nil {
		t.Fatal(err)
	}
	lock := store.Lock{Mode: store.Governance, Until: time.Now().Add(time.Hour)}
	for _, test := range []struct {
		bucket string
		lock   store.Lock
		want   error
	}{{plain, store.Lock{}, store.ErrUnfit}, {plain, lock, store.ErrUnfit}, {versions, lock, store.ErrUnfit}, {versions, store.Lock{}, nil}} {
		s := openS3(t, s3Options(l, test.bucket, lab.S3Admin))
		if _, err := s.Create(t.Context(), "key", strings.NewReader("x"), test.lock); !errors.Is(err, test.want) {
			t.Errorf("create in %s: %v, want %v", test.bucket, err, test.want)
		}
		if err := s.Probe(t.Context()); !errors.Is(err, store.ErrUnfit) {
			t.Errorf("probe %s: %v", test.bucket, err)
		}
	}
	s := openS3(t, s3Options(l, "no-such-bucket", lab.S3Admin))
	if err := s.Probe(t.Context()); err == nil {
		t.Error("a bucket that does not exist was probed well")
	}
	for _, err := range s.List(t.Context(), "") {
		if err == nil {
			t.Error("a bucket that does not exist has an object")
		}
		return
	}
	t.Error("a bucket that does not exist is empty")
}

// A clock that is wrong would let locks end at a wrong time.
func TestClockSkew(t *testing.T) {
	t.Parallel()
	l := labtest.Shared(t, lab.S3)
	bucket := labtest.Bucket(t, l)
	for _, off := range []time.Duration{-2 * time.Hour, -5 * time.Minute, 0, 5 * time.Minute, 2 * time.Hour} {
		o := s3Options(l, bucket, lab.S3Writer)
		o.Now = func() time.Time { return time.Now().Add(off) }
		s, want := openS3(t, o), store.ErrSkew
		if off == 0 {
			want = nil
		}
		at, err := s.Now(t.Context())
		if !errors.Is(err, want) || err == nil && time.Since(at).Abs() > time.Minute {
			t.Errorf("off by %s: %s, %v", off, at, err)
		}
		said := map[bool]string{true: "ahead of this machine's", false: "behind this machine's"}[off < 0]
		if off != 0 && !strings.Contains(err.Error(), " "+said) {
			t.Errorf("off by %s: %v does not say that the store's is %s", off, err, said)
		}
		lock := store.Lock{Mode: store.Governance, Until: o.Now().Add(10 * time.Hour)}
		if _, err := s.Create(t.Context(), fmt.Sprintf("locked%d", off), strings.NewReader("x"), lock); !errors.Is(err, want) {
			t.Errorf("off by %s: create with a lock: %v", off, err)
		}
		if _, err := s.Create(t.Context(), fmt.Sprintf("free%d", off), strings.NewReader("x"), store.Lock{}); err != nil {
			t.Errorf("off by %s: create without a lock: %v", off, err)
		}
		if err := s.Probe(t.Context()); !errors.Is(err, want) {
			t.Errorf("off by %s: probe: %v", off, err)
		}
	}
}

func TestS3OptionsAreChecked(t *testing.T) {
	t.Parallel()
	good := store.S3Options{Endpoint: "https://s3.example.com", Bucket: "b", Credentials: "c"}
	for what, change := range map[string]func(*store.S3Options){
		"no bucket":      func(o *store.S3Options) { o.Bucket = "" },
		"no credentials": func(o *store.S3Options) { o.Credentials = "" },
		"prefix":         func(o *store.S3Options) { o.Prefix = "estate" },
		"bad prefix":     func(o *store.S3Options) { o.Prefix = "a//" },
		"plain":          func(o *store.S3Options) { o.Endpoint = "http://s3.example.com" },
		"no host":        func(o *store.S3Options) { o.Endpoint = "s3.example.com" },
		"password":       func(o *store.S3Options) { o.Endpoint = "https://user:hunter2@s3.example.com" },
		"no CA":          func(o *store.S3Options) { o.CA = "/does/not/exist" },
	} {
		o := good
		change(&o)
		if _, err := store.NewS3(o); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := store.NewS3(good); err != nil {
		t.Error(err)
	}
}

// A server whose certificate is of an unknown authority is not asked again and again.
func TestUnknownAuthority(t *testing.T) {
	t.Parallel()
	l := labtest.Shared(t, lab.S3)
	o := s3Options(l, labtest.Bucket(t, l), lab.S3Writer)
	o.CA, o.Backoff = "", time.Hour
	_, err := openS3(t, o).Create(t.Context(), "key", strings.NewReader("x"), store.Lock{})
	if err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Error(err)
	}
}

// However many versions and delete markers are on top of an object, in lists of several pages, it is found below them.
func TestManyVersions(t *testing.T) {
	t.Parallel()
	l := labtest.Shared(t, lab.S3)
	bucket := labtest.Bucket(t, l)
	s := openS3(t, s3Options(l, bucket, lab.S3Writer))
	var objects []store.Object
	for _, key := range []string{"a", "b", "c"} {
		o, err := s.Create(t.Context(), key, strings.NewReader(key), store.Lock{})
		if err != nil {
			t.Fatal(err)
		}
		objects = append(objects, o)
	}
	writer, expirer := client(t, l, lab.S3Writer), client(t, l, lab.S3Expirer)
	key, newest := aws.String(testPrefix+"b"), ""
	for range 6 {
		if _, err := expirer.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &bucket, Key: key}); err != nil {
			t.Fatal(err)
		}
		info, err := s.Stat(t.Context(), objects[1])
		if !errors.Is(err, store.ErrChanged) || !info.DeleteMarker || info.Newer != "" {
			t.Errorf("below a delete marker: %+v, %v", info, err)
		}
		if got := storetest.Keys(t, s, ""); !slices.Equal(got, []string{"a", "c"}) {
			t.Errorf("with a delete marker: %q", got)
		}
		for range 3 {
			out, err := writer.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: key, Body: strings.NewReader("other")})
			if err != nil {
				t.Fatal(err)
			}
			newest = *out.VersionId
		}
		info, err = s.Stat(t.Context(), objects[1])
		if !errors.Is(err, store.ErrChanged) || info.DeleteMarker || info.Newer != newest {
			t.Errorf("below newer versions: %+v, %v; want %s", info, err, newest)
		}
		if got := storetest.Keys(t, s, ""); !slices.Equal(got, []string{"a", "b", "c"}) {
			t.Errorf("with newer versions: %q", got)
		}
	}
	for _, o := range objects {
		if got, err := storetest.Read(t.Context(), s, o); string(got) != o.Key || err != nil {
			t.Errorf("read %s: %q, %v", o.Key, got, err)
		}
	}
	for _, o := range []store.Object{objects[0], objects[2]} {
		if _, err := s.Stat(t.Context(), o); err != nil {
			t.Error(err)
		}
	}
}

// A version that is not the current one any more is still locked, and is said to be.
func TestLockBelowNewerVersion(t *testing.T) {
	t.Parallel()
	l := labtest.Shared(t, lab.S3)
	bucket := labtest.Bucket(t, l)
	s, expirer := openS3(t, s3Options(l, bucket, lab.S3Writer)), openS3(t, s3Options(l, bucket, lab.S3Expirer))
	writer, hider := client(t, l, lab.S3Writer), client(t, l, lab.S3Expirer)
	for _, mode := range []store.Mode{store.Governance, store.Compliance} {
		for what, cover := range map[string]func(key *string) error{
			"newer": func(key *string) error {
				_, err := writer.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: key, Body: strings.NewReader("other")})
				return err
			},
			"hidden": func(key *string) error {
				_, err := hider.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &bucket, Key: key})
				return err
			},
		} {
			name := what + "-" + string(mode)
			o, err := s.Create(t.Context(), name, strings.NewReader("x"), store.Lock{Mode: mode, Until: time.Now().Add(time.Hour)})
			if err != nil {
				t.Fatal(err)
			}
			if err := cover(aws.String(testPrefix + name)); err != nil {
				t.Fatal(err)
			}
			info, err := s.Stat(t.Context(), o)
			want := store.Lock{Mode: mode, Until: o.LockedUntil}
			if !errors.Is(err, store.ErrChanged) || info.Lock != want || strings.Contains(err.Error(), "lock") {
				t.Errorf("%s: %+v, %v", name, info, err)
			}
			if longer, err := s.Extend(t.Context(), o, o.LockedUntil.Add(time.Hour)); err != nil || !longer.LockedUntil.After(o.LockedUntil) {
				t.Errorf("%s: extend: %+v, %v", name, longer, err)
			}
			if err := expirer.Delete(t.Context(), o); !errors.Is(err, store.ErrLocked) {
				t.Errorf("%s: delete: %v", name, err)
			}
		}
	}
}

// What happens to the server's disk is no content: it is an error, at the latest at the end of reading.
func TestCorruptBucket(t *testing.T) {
	t.Parallel()
	l := labtest.Shared(t, lab.S3)
	bucket := labtest.Bucket(t, l)
	s := openS3(t, s3Options(l, bucket, lab.S3Writer))
	file := func(key string) string { return filepath.Join(l.Dir, "s3", "buckets", bucket, testPrefix, key) }
	for name, harm := range map[string]func(key, other string) error{
		"flipped": func(key, _ string) error {
			f, err := os.OpenFile(file(key), os.O_RDWR, 0)
			if err != nil {
				return err
			}
			b := make([]byte, 1)
			_, readErr := f.ReadAt(b, 700)
			b[0] ^= 1
			_, writeErr := f.WriteAt(b, 700)
			return errors.Join(readErr, writeErr, f.Close())
		},
		"truncated": func(key, _ string) error { return os.Truncate(file(key), 500) },
		"longer":    func(key, _ string) error { return os.Truncate(file(key), testPart*3) },
		"swapped": func(key, other string) error {
			return errors.Join(os.Rename(file(key), file("x")), os.Rename(file(other), file(key)), os.Rename(file("x"), file(other)))
		},
		"gone": func(key, _ string) error { return os.Remove(file(key)) },
	} {
		for _, size := range []int{1000, testPart + 1000} {
			key := fmt.Sprintf("%s-%d", name, size)
			var objects []store.Object
			for i, key := range []string{key, key + "-other"} {
				o, err := s.Create(t.Context(), key, bytes.NewReader(storetest.Content(size, byte(i))), store.Lock{Mode: store.Governance, Until: time.Now().Add(time.Hour)})
				if err != nil {
					t.Fatal(err)
				}
				objects = append(objects, o)
			}
			if err := harm(objects[0].Key, objects[1].Key); err != nil {
				t.Fatal(err)
			}
			got, err := storetest.Read(t.Context(), s, objects[0])
			if !errors.Is(err, store.ErrChanged) && !errors.Is(err, store.ErrMissing) {
				t.Errorf("%s: read %d bytes, %v", key, len(got), err)
			}
			_, err = s.Stat(t.Context(), objects[0])
			if name != "flipped" && !errors.Is(err, store.ErrChanged) && !errors.Is(err, store.ErrMissing) {
				t.Errorf("%s: stat: %v", key, err)
			}
		}
	}
}

// A download that breaks goes on where it broke.
func TestReadGoesOn(t *testing.T) {
	t.Parallel()
	l := labtest.Shared(t, lab.S3)
	var ranges []string
	proxy, err := l.S3Proxy(func(r *http.Request) {
		if requests["get"](r) {
			ranges = append(ranges, r.Header.Get("Range")) // one request at a time
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := proxy.Close(); err != nil {
			t.Error(err)
		}
	}()
	o := s3Options(l, labtest.Bucket(t, l), lab.S3Writer)
	o.Endpoint = proxy.URL
	s, content := openS3(t, o), storetest.Content(testPart+1000, 1)
	object, err := s.Create(t.Context(), "object", bytes.NewReader(content), store.Lock{})
	if err != nil {
		t.Fatal(err)
	}
	if err := proxy.Set(lab.Fault{Mode: lab.CutAfter, Bytes: 1 << 20, Match: requests["get"], Times: 3}); err != nil {
		t.Fatal(err)
	}
	got, err := storetest.Read(t.Context(), s, object)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
	if want := []string{"", "bytes=1048576-", "bytes=2097152-", "bytes=3145728-"}; !slices.Equal(ranges, want) {
		t.Errorf("asked for %q, want %q", ranges, want)
	}
	if err := proxy.Set(lab.Fault{Mode: lab.CutAfter, Bytes: 1, Match: requests["get"]}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r, err := s.Open(ctx, object)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := io.ReadAll(r); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled download ended with %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// A server that dies while objects are written, and comes back, has whole objects only; the writers go on.
func TestServerDies(t *testing.T) {
	t.Parallel()
	l := labtest.Start(t, lab.S3)
	bucket := labtest.Bucket(t, &l.Endpoints)
	o := s3Options(&l.Endpoints, bucket, lab.S3Writer)
	o.Attempts = 200
	s := openS3(t, o)
	for round, before := range []int{testPart + 1, 2*testPart + 1, 3 * testPart, 3 * testPart} { // bytes that are read before
		key, content := fmt.Sprintf("round/%d", round), storetest.Content(3*testPart, byte(round))
		r, w := io.Pipe()
		var object store.Object
		var g errgroup.Group
		g.Go(func() (err error) {
			object, err = s.Create(t.Context(), key, r, store.Lock{Mode: store.Governance, Until: time.Now().Add(time.Hour)})
			return errors.Join(err, r.CloseWithError(err))
		})
		if _, err := w.Write(content[:before]); err != nil {
			t.Error(err)
		}
		g.Go(func() error {
			_, err := w.Write(content[before:])
			return errors.Join(err, w.Close())
		})
		if err := l.Kill(lab.S3); err != nil {
			t.Fatal(err)
		}
		if err := l.Restart(t.Context(), lab.S3); err != nil {
			t.Fatal(err)
		}
		if err := g.Wait(); err != nil {
			t.Errorf("round %d: %v", round, err)
			continue
		}
		if read, err := storetest.Read(t.Context(), s, object); err != nil || !bytes.Equal(read, content) {
			t.Errorf("round %d: read %d bytes, %v", round, len(read), err)
		}
		if _, err := s.Stat(t.Context(), object); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
	}
	if keys := storetest.Keys(t, s, ""); len(keys) != 4 {
		t.Errorf("there is %q", keys)
	}
}
