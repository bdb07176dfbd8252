package store

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/purser-gitops/purser/sources/credential"
)

// errCredentials says that there are no credentials; asking the store again does not help.
var errCredentials = errors.New("no credentials for the store")

// maxCredentials bounds the file, in bytes.
const maxCredentials = 64 << 10

// A credentialsFile gives the access key of one profile in a file in AWS's format, and reads it again when it changes.
type credentialsFile struct {
	name, profile string

	mu    sync.Mutex
	state os.FileInfo // of the file that was read
	have  aws.Credentials
}

// Retrieve implements [aws.CredentialsProvider]. Its errors name the file and never what is in it.
func (c *credentialsFile) Retrieve(context.Context) (aws.Credentials, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	state, err := os.Stat(c.name)
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("%w: %w", errCredentials, err)
	}
	if c.state != nil && os.SameFile(state, c.state) && state.ModTime().Equal(c.state.ModTime()) && state.Size() == c.state.Size() {
		return c.have, nil
	}
	data, err := credential.ReadFile(c.name, maxCredentials)
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("%w: %w", errCredentials, err)
	}
	have, err := parseCredentials(data, c.profile)
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("%w: %s: %w", errCredentials, c.name, err)
	}
	c.state, c.have = state, have
	return have, nil
}

// parseCredentials reads the section [profile] of a file as
// https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-files.html describes it; settings that are no keys are
// left alone.
func parseCredentials(data []byte, profile string) (aws.Credentials, error) {
	have, inside, found := aws.Credentials{Source: "file"}, false, false
	lines := bufio.NewScanner(bytes.NewReader(data))
	for number := 1; lines.Scan(); number++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if line[0] == '[' {
			name, ok := strings.CutSuffix(line[1:], "]")
			if !ok {
				return aws.Credentials{}, fmt.Errorf("line %d: a section without ]", number)
			}
			inside = strings.TrimSpace(name) == profile
			if inside && found {
				return aws.Credentials{}, fmt.Errorf("line %d: profile %s is there twice", number, profile)
			}
			found = found || inside
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			return aws.Credentials{}, fmt.Errorf("line %d: neither a section nor NAME = VALUE", number)
		}
		if !inside {
			continue
		}
		switch value = strings.TrimSpace(value); strings.TrimSpace(name) {
		case "aws_access_key_id":
			have.AccessKeyID = value
		case "aws_secret_access_key":
			have.SecretAccessKey = value
		case "aws_session_token":
			have.SessionToken = value
		}
	}
	if err := lines.Err(); err != nil {
		return aws.Credentials{}, err
	}
	if have.AccessKeyID == "" || have.SecretAccessKey == "" {
		return aws.Credentials{}, fmt.Errorf("profile %s has no aws_access_key_id and aws_secret_access_key", profile)
	}
	return have, nil
}
