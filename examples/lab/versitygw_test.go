package lab

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
)

// A testBucket is used by one user.
type testBucket struct {
	*s3.Client
	t    *testing.T
	name *string
}

// as returns a bucket as the user sees it.
func (l *Lab) as(t *testing.T, user, bucket string) testBucket {
	t.Helper()
	client, closeIdle, err := S3Client(&l.Endpoints, user)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(closeIdle)
	return testBucket{client, t, &bucket}
}

// put puts an object locked until the time, and returns its version.
func (b testBucket) put(key, text string, mode types.ObjectLockMode, until time.Time) *string {
	b.t.Helper()
	out, err := b.PutObject(b.t.Context(), &s3.PutObjectInput{
		Bucket: b.name, Key: &key, Body: strings.NewReader(text), ObjectLockMode: mode, ObjectLockRetainUntilDate: &until,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	if aws.ToString(out.VersionId) == "" {
		b.t.Fatal("an object was put without a version")
	}
	return out.VersionId
}

func (b testBucket) get(key string, version *string) (string, error) {
	out, err := b.GetObject(b.t.Context(), &s3.GetObjectInput{Bucket: b.name, Key: &key, VersionId: version})
	if err != nil {
		return "", err
	}
	defer out.Body.Close()
	text, err := io.ReadAll(out.Body)
	return string(text), err
}

func (b testBucket) remove(key string, version *string, bypass bool) error {
	in := &s3.DeleteObjectInput{Bucket: b.name, Key: &key, VersionId: version}
	if bypass {
		in.BypassGovernanceRetention = &bypass
	}
	_, err := b.DeleteObject(b.t.Context(), in)
	return err
}

func (b testBucket) retain(key string, version *string, mode types.ObjectLockRetentionMode, until time.Time) error {
	_, err := b.PutObjectRetention(b.t.Context(), &s3.PutObjectRetentionInput{
		Bucket: b.name, Key: &key, VersionId: version, Retention: &types.ObjectLockRetention{Mode: mode, RetainUntilDate: &until},
	})
	return err
}

// code is the S3 error code of err, empty for none.
func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// A locked version outlasts everybody, the writer deletes and shortens nothing, the expirer deletes what is not locked.
func TestObjectLock(t *testing.T) {
	t.Parallel()
	l := startLab(t, t.TempDir(), S3)
	const bucket, key = "backups", "north/prod-eu/manifest.json"
	if err := CreateBucket(t.Context(), &l.Endpoints, bucket); err != nil {
		t.Fatal(err)
	}
	writer, expirer, admin := l.as(t, S3Writer, bucket), l.as(t, S3Expirer, bucket), l.as(t, S3Admin, bucket)
	until := time.Now().Add(24 * time.Hour).Truncate(time.Second)
	first := writer.put(key, "first", types.ObjectLockModeGovernance, until)
	second := writer.put(key, "second", types.ObjectLockModeCompliance, until)
	if text, err := writer.get(key, first); text != "first" || err != nil {
		t.Errorf("the overwritten version is %q, %v", text, err)
	}
	const denied, locked = "AccessDenied", "AccessDenied"
	for _, try := range []struct {
		name string
		err  error
		want string
	}{
		{"writer deletes a locked version", writer.remove(key, first, false), denied},
		{"writer hides an object", writer.remove(key, nil, false), denied},
		{"writer deletes a locked version, bypassing governance", writer.remove(key, first, true), denied},
		{"writer shortens governance", writer.retain(key, first, types.ObjectLockRetentionModeGovernance, until.Add(-time.Hour)), locked},
		{"writer shortens compliance", writer.retain(key, second, types.ObjectLockRetentionModeCompliance, until.Add(-time.Hour)), locked},
		{"writer extends", writer.retain(key, first, types.ObjectLockRetentionModeGovernance, until.Add(time.Hour)), ""},
		{"expirer deletes a locked version", expirer.remove(key, first, false), locked},
		{"expirer deletes a locked version, bypassing governance", expirer.remove(key, first, true), locked},
		{"expirer extends", expirer.retain(key, second, types.ObjectLockRetentionModeCompliance, until.Add(time.Hour)), denied},
		{"administrator deletes a version under compliance", admin.remove(key, second, true), locked},
		{"expirer hides an object", expirer.remove(key, nil, false), ""},
	} {
		if got := code(try.err); got != try.want {
			t.Errorf("%s: %q, want %q", try.name, got, try.want)
		}
	}
	if _, err := writer.get(key, nil); code(err) != "NoSuchKey" {
		t.Errorf("behind a delete marker: %v", err)
	}
	if text, err := writer.get(key, second); text != "second" || err != nil {
		t.Errorf("the version behind a delete marker is %q, %v", text, err)
	}
	_, err := expirer.PutObject(t.Context(), &s3.PutObjectInput{Bucket: expirer.name, Key: aws.String("x"), Body: strings.NewReader("x")})
	if code(err) != denied {
		t.Errorf("the expirer puts an object: %v", err)
	}
	short := writer.put("short", "soon gone", types.ObjectLockModeCompliance, time.Now().Add(2*time.Second))
	if err := l.Restart(t.Context(), S3); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error { return expirer.remove("short", short, false) })
	if text, err := writer.get(key, second); text != "second" || err != nil {
		t.Errorf("after a restart the version is %q, %v", text, err)
	}
}

// Large objects are locked too, are created once if so asked, and have checksums.
func TestObjectLockOfMultipartUploads(t *testing.T) {
	t.Parallel()
	l := startLab(t, t.TempDir(), S3)
	if err := CreateBucket(t.Context(), &l.Endpoints, "backups"); err != nil {
		t.Fatal(err)
	}
	if err := CreateBucket(t.Context(), &l.Endpoints, "backups"); code(errors.Unwrap(err)) != "BucketAlreadyOwnedByYou" {
		t.Errorf("created a bucket twice: %v", err)
	}
	writer := l.as(t, S3Writer, "backups")
	key, until := aws.String("dump"), time.Now().Add(time.Hour)
	created, err := writer.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{
		Bucket: writer.name, Key: key, ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
		ObjectLockMode: types.ObjectLockModeGovernance, ObjectLockRetainUntilDate: &until,
	})
	if err != nil {
		t.Fatal(err)
	}
	var parts []types.CompletedPart
	for number := int32(1); number <= 2; number++ {
		part, err := writer.UploadPart(t.Context(), &s3.UploadPartInput{
			Bucket: writer.name, Key: key, UploadId: created.UploadId, PartNumber: &number, ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
			Body: bytes.NewReader(bytes.Repeat([]byte{byte(number)}, 5<<20)),
		})
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, types.CompletedPart{PartNumber: &number, ETag: part.ETag, ChecksumSHA256: part.ChecksumSHA256})
	}
	complete := &s3.CompleteMultipartUploadInput{
		Bucket: writer.name, Key: key, UploadId: created.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
		IfNoneMatch: aws.String("*"),
	}
	done, err := writer.CompleteMultipartUpload(t.Context(), complete)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.as(t, S3Expirer, "backups").remove("dump", done.VersionId, false); code(err) != "AccessDenied" {
		t.Errorf("deleted a locked upload: %v", err)
	}
	head, err := writer.HeadObject(t.Context(), &s3.HeadObjectInput{
		Bucket: writer.name, Key: key, VersionId: done.VersionId, ChecksumMode: types.ChecksumModeEnabled,
	})
	if err != nil || aws.ToInt64(head.ContentLength) != 10<<20 || aws.ToString(head.ChecksumSHA256) == "" ||
		head.ObjectLockMode != types.ObjectLockModeGovernance {
		t.Errorf("head of the upload: %s, %v", fmt.Sprint(head), err)
	}
	_, err = writer.PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: writer.name, Key: key, Body: strings.NewReader("another"), IfNoneMatch: aws.String("*"),
	})
	if code(err) != "PreconditionFailed" {
		t.Errorf("created an object that was there: %v", err)
	}
}
