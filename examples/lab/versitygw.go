package lab

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Users of S3. What the others but the administrator may do is up to each bucket's policy.
const (
	S3Admin   = "lab-admin"   // may do everything that Object Lock allows
	S3Writer  = "lab-writer"  // puts, reads, extends locks; deletes nothing and shortens nothing
	S3Expirer = "lab-expirer" // deletes what no lock protects
)

// S3Region is the region of the lab's S3 server.
const S3Region = "us-east-1"

// versitygw is an S3 server with versions and Object Lock. Objects are files in a folder, their metadata extended
// attributes.
type versitygw struct{}

func (versitygw) Name() string    { return S3 }
func (versitygw) Needs() []string { return nil }

func (versitygw) Command(_ context.Context, l *Lab, binary string) (*exec.Cmd, error) {
	port, err := l.port(S3)
	if err != nil {
		return nil, err
	}
	l.S3URL = "https://" + loopback(port)
	for _, sub := range []string{"buckets", "versions", "users"} {
		if err := os.MkdirAll(l.path("s3", sub), 0o700); err != nil {
			return nil, fmt.Errorf("create data directory of S3: %w", err)
		}
	}
	admin, err := l.s3Users()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(binary, "--port", loopback(port), "--region", S3Region, "--health", "/health", "--quiet", "--keep-alive",
		"--cert", l.path("pki", "serving.crt"), "--key", l.path("pki", "serving.key"), "--iam-dir", l.path("s3", "users"),
		"posix", "--versioning-dir", l.path("s3", "versions"), l.path("s3", "buckets"))
	cmd.Env = []string{"ROOT_ACCESS_KEY_ID=" + S3Admin, "ROOT_SECRET_ACCESS_KEY=" + admin}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd, nil
}

// s3Users creates the users at the first start, and returns the administrator's secret.
func (l *Lab) s3Users() (string, error) {
	_, err := os.Stat(l.path("s3", "users", "users.json"))
	if err == nil {
		credentials, err := l.s3Credentials(S3Admin)
		return credentials.SecretAccessKey, err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("find users of S3: %w", err)
	}
	accounts, admin := map[string]any{}, ""
	for _, user := range []string{S3Admin, S3Writer, S3Expirer} {
		secret := rand.Text() + rand.Text()
		if user == S3Admin {
			admin = secret
		} else {
			accounts[user] = map[string]any{"access": user, "secret": secret, "role": "user"}
		}
		file := fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", user, secret)
		if err := writeFile(l.S3CredentialsFile(user), []byte(file), 0o600); err != nil {
			return "", err
		}
	}
	return admin, writeJSON(l.path("s3", "users", "users.json"), map[string]any{"accessAccounts": accounts})
}

func (versitygw) Ready(ctx context.Context, l *Lab) error {
	transport, err := l.s3Transport()
	if err != nil {
		return err
	}
	defer transport.CloseIdleConnections()
	return getOK(ctx, transport, l.S3URL+"/health")
}

// s3Transport trusts the lab's authority.
func (e *Endpoints) s3Transport() (*http.Transport, error) {
	pem, err := os.ReadFile(e.CAFile)
	if err != nil {
		return nil, fmt.Errorf("read authority of the lab: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}, nil
}

// S3CredentialsFile names the file with a user's access key, in the format of AWS's shared credentials.
func (e *Endpoints) S3CredentialsFile(user string) string { return e.path("s3", user+".credentials") }

func (e *Endpoints) s3Credentials(user string) (aws.Credentials, error) {
	data, err := os.ReadFile(e.S3CredentialsFile(user))
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("read credentials of %s: %w", user, err)
	}
	_, secret, ok := strings.Cut(string(data), "aws_secret_access_key = ")
	if !ok {
		return aws.Credentials{}, fmt.Errorf("read credentials of %s: no secret in %s", user, e.S3CredentialsFile(user))
	}
	return aws.Credentials{AccessKeyID: user, SecretAccessKey: strings.TrimSpace(secret)}, nil
}

// S3Client returns a client of the lab's S3 server that acts as the user, and what closes its connections. It tries
// everything once. It is no method of Endpoints: linkers keep methods, and with this one the SDK, in every program.
func S3Client(e *Endpoints, user string) (client *s3.Client, closeIdle func(), err error) {
	credentials, err := e.s3Credentials(user)
	if err != nil {
		return nil, nil, err
	}
	transport, err := e.s3Transport()
	if err != nil {
		return nil, nil, err
	}
	client = s3.New(s3.Options{
		BaseEndpoint:     aws.String(e.S3URL),
		Region:           S3Region,
		UsePathStyle:     true,
		RetryMaxAttempts: 1,
		HTTPClient:       &http.Client{Transport: transport},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return credentials, nil
		}),
	})
	return client, transport.CloseIdleConnections, nil
}
