package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// bucketPolicy says what the writer and the expirer may do.
func bucketPolicy(bucket string) (string, error) {
	read := []string{"s3:ListBucket", "s3:ListBucketVersions", "s3:GetObject", "s3:GetObjectVersion", "s3:GetObjectAttributes",
		"s3:GetObjectVersionAttributes", "s3:GetObjectRetention", "s3:GetBucketObjectLockConfiguration", "s3:GetBucketVersioning"}
	write := []string{"s3:PutObject", "s3:PutObjectRetention", "s3:ListBucketMultipartUploads", "s3:ListMultipartUploadParts",
		"s3:AbortMultipartUpload"}
	remove := []string{"s3:DeleteObject", "s3:DeleteObjectVersion"}
	// A statement is about the bucket or about its objects, never both. Few of them: the server keeps the policy in an
	// extended attribute, for which there are 4 KiB.
	allow := func(user string, actions ...string) []any {
		var statements []any
		for resource, about := range map[string]bool{"arn:aws:s3:::" + bucket: true, "arn:aws:s3:::" + bucket + "/*": false} {
			statements = append(statements, map[string]any{
				"Effect": "Allow", "Principal": map[string]any{"AWS": []string{user}}, "Resource": resource,
				"Action": slices.DeleteFunc(slices.Clone(actions), func(a string) bool { return strings.Contains(a, "Bucket") != about }),
			})
		}
		return statements
	}
	policy, err := json.Marshal(map[string]any{
		"Version":   "2012-10-17",
		"Statement": append(allow(S3Writer, slices.Concat(read, write)...), allow(S3Expirer, slices.Concat(read, remove)...)...),
	})
	return string(policy), err
}

// CreateBucket creates a bucket with Object Lock, and so with versions, that locks nothing by itself. The writer and
// the expirer may use it. It is an error if it exists.
func CreateBucket(ctx context.Context, e *Endpoints, name string) error {
	client, closeIdle, err := S3Client(e, S3Admin)
	if err != nil {
		return fmt.Errorf("create bucket %s: %w", name, err)
	}
	defer closeIdle()
	_, err = client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &name, ObjectLockEnabledForBucket: aws.Bool(true)})
	if err != nil {
		return fmt.Errorf("create bucket %s: %w", name, err)
	}
	policy, err := bucketPolicy(name)
	if err != nil {
		return fmt.Errorf("create bucket %s: %w", name, err)
	}
	if _, err := client.PutBucketPolicy(ctx, &s3.PutBucketPolicyInput{Bucket: &name, Policy: &policy}); err != nil {
		return fmt.Errorf("create bucket %s: %w", name, err)
	}
	return nil
}
