package labtest

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/jackc/pgx/v5"

	"github.com/purser-gitops/purser/examples/lab"
)

// Each test has a database and a bucket of its own.
func TestDatabaseAndBucket(t *testing.T) {
	t.Parallel()
	l := Shared(t, lab.PostgreSQL, lab.S3)
	one, two := Database(t, l), Database(t, l)
	for _, d := range []*lab.Database{one, two} {
		conn, err := pgx.Connect(t.Context(), d.DSN)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(t.Context(), "CREATE TABLE mine ()"); err != nil {
			t.Errorf("in a database of its own: %v", err)
		}
		if err := conn.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	client, closeIdle, err := lab.S3Client(l, lab.S3Writer)
	if err != nil {
		t.Fatal(err)
	}
	defer closeIdle()
	first, second := Bucket(t, l), Bucket(t, l)
	key := "mine"
	if _, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &first, Key: &key, Body: strings.NewReader("x")}); err != nil {
		t.Fatal(err)
	}
	if list, err := client.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &second}); err != nil || len(list.Contents) != 0 {
		t.Errorf("another bucket has %d objects, %v", len(list.Contents), err)
	}
}
