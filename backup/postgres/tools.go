package postgres

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Tools says where PostgreSQL's programs are.
type Tools struct {
	// Folders to look in, first one first. None: where the packages of Debian, Red Hat and Alpine put them, then PATH.
	Folders []string
}

// toolTimeout bounds a question for a version.
const toolTimeout = 30 * time.Second

// versionText is what every program answers to --version.
var versionText = regexp.MustCompile(`\(PostgreSQL\) ((\d+)[.0-9a-z]*)`)

// A tool is a program of PostgreSQL.
type tool struct {
	path    string
	version string // such as 15.18
}

// find returns the program of the server's major version. A newer pg_dump could read an older server, but what it writes
// does not restore into one.
func (t Tools) find(ctx context.Context, name string, major int) (tool, error) {
	var others []string
	for _, path := range t.candidates(name, major) {
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
			continue
		}
		version, has, err := versionOf(ctx, path)
		switch {
		case err != nil:
			others = append(others, fmt.Sprintf("%s: %v", path, err))
		case has != major:
			others = append(others, fmt.Sprintf("%s is of version %s", path, version))
		default:
			return tool{path, version}, nil
		}
	}
	if ctx.Err() != nil {
		return tool{}, context.Cause(ctx)
	}
	err := fmt.Errorf("find %s of PostgreSQL %d: %w", name, major, ErrTools)
	if len(others) > 0 {
		err = fmt.Errorf("%w: %s", err, strings.Join(others, ", "))
	}
	what := "postgresql-client-"
	if name == "initdb" || name == "postgres" {
		what = "postgresql-"
	}
	return tool{}, hint(err, "install the package %s%d, or name the folder of its programs", what, major)
}

func (t Tools) candidates(name string, major int) []string {
	folders, m := t.Folders, strconv.Itoa(major)
	if len(folders) == 0 {
		folders = append([]string{"/usr/lib/postgresql/" + m + "/bin", "/usr/pgsql-" + m + "/bin", "/usr/libexec/postgresql" + m},
			filepath.SplitList(os.Getenv("PATH"))...)
	}
	var paths []string
	for _, folder := range folders {
		if filepath.IsAbs(folder) {
			paths = append(paths, filepath.Join(folder, name))
		}
	}
	return paths
}

func versionOf(ctx context.Context, path string) (text string, major int, err error) {
	ctx, cancel := context.WithTimeout(ctx, toolTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--version")
	cmd.Env, cmd.WaitDelay = []string{"LC_ALL=C"}, time.Second
	out, err := cmd.Output()
	if err != nil {
		return "", 0, err
	}
	found := versionText.FindSubmatch(bytes.TrimSpace(out))
	if found == nil {
		return "", 0, fmt.Errorf("it does not say its version")
	}
	major, err = strconv.Atoi(string(found[2]))
	return string(found[1]), major, err
}
