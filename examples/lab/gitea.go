package lab

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"text/template"
)

// giteaModule is Gitea's module and its main package.
const giteaModule = "code.gitea.io/gitea"

// giteaAdmin is the account that the lab creates.
const giteaAdmin = "lab-admin"

// gitea is a forge: pull requests, reviews, commit statuses. Its web pages lack their scripts and styles, which the
// module does not hold; the API and Git over HTTP are whole.
type gitea struct{}

func (gitea) Name() string    { return Gitea }
func (gitea) Needs() []string { return nil }

// giteaConfig is its app.ini: https://docs.gitea.com/administration/config-cheat-sheet
var giteaConfig = template.Must(template.New("app.ini").Parse(`APP_NAME = Purser lab
RUN_MODE = prod
WORK_PATH = {{.Dir}}

[server]
HTTP_ADDR = 127.0.0.1
HTTP_PORT = {{.Port}}
ROOT_URL = {{.URL}}/
APP_DATA_PATH = {{.Dir}}/data
STATIC_ROOT_PATH = {{.Module}}
DISABLE_SSH = true
OFFLINE_MODE = true
LFS_START_SERVER = false

[database]
DB_TYPE = sqlite3
PATH = {{.Dir}}/gitea.db
SQLITE_JOURNAL_MODE = WAL
SQLITE_TIMEOUT = 20000

[repository]
ROOT = {{.Dir}}/repositories
DEFAULT_BRANCH = main

[security]
INSTALL_LOCK = true
SECRET_KEY = {{.Secret}}
INTERNAL_TOKEN = {{.Internal}}

[oauth2]
ENABLED = false

[service]
DISABLE_REGISTRATION = true
NO_REPLY_ADDRESS = noreply.localhost

[webhook]
ALLOWED_HOST_LIST = loopback

[log]
MODE = console
LEVEL = Warn

[actions]
ENABLED = false

[packages]
ENABLED = false

[indexer]
ISSUE_INDEXER_TYPE = db

[cron]
ENABLED = false

[picture]
DISABLE_GRAVATAR = true
`))

func (gitea) Command(ctx context.Context, l *Lab, binary string) (*exec.Cmd, error) {
	port, err := l.port(Gitea)
	if err != nil {
		return nil, err
	}
	l.GiteaURL = "http://" + loopback(port)
	if err := os.MkdirAll(l.path("gitea"), 0o700); err != nil {
		return nil, fmt.Errorf("create data directory of gitea: %w", err)
	}
	if err := l.writeGiteaConfig(ctx, port); err != nil {
		return nil, err
	}
	if _, err := os.Stat(l.GiteaTokenFile()); errors.Is(err, fs.ErrNotExist) {
		if err := l.createGiteaAdmin(ctx, binary); err != nil {
			return nil, err
		}
	}
	return l.giteaCommand(ctx, binary, "web"), nil
}

// writeGiteaConfig writes app.ini for the port. Its keys stay those of the first time.
func (l *Lab) writeGiteaConfig(ctx context.Context, port int) error {
	module, err := giteaFolder(ctx)
	if err != nil {
		return err
	}
	keys := l.path("gitea", "keys.json")
	var secrets [2]string
	if data, err := os.ReadFile(keys); err != nil || json.Unmarshal(data, &secrets) != nil {
		secrets = [2]string{rand.Text(), rand.Text() + rand.Text()}
		if err := writeJSON(keys, secrets); err != nil {
			return err
		}
	}
	var config bytes.Buffer
	err = giteaConfig.Execute(&config, map[string]any{
		"Dir": l.path("gitea"), "Port": port, "URL": l.GiteaURL, "Module": module, "Secret": secrets[0], "Internal": secrets[1],
	})
	if err != nil {
		return fmt.Errorf("write configuration of gitea: %w", err)
	}
	return writeFile(l.path("gitea", "app.ini"), config.Bytes(), 0o600)
}

// giteaFolder is the folder of Gitea's module, from which it reads templates and texts at run time.
func giteaFolder(ctx context.Context) (string, error) {
	source, err := sourceDir()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-C", filepath.Join(source, "gitea"), "-json", giteaModule)
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	out, err := cmd.Output()
	var module struct{ Dir string }
	if err == nil {
		err = json.Unmarshal(out, &module)
	}
	if err != nil || module.Dir == "" {
		return "", fmt.Errorf("find folder of %s: %w: %s", giteaModule, err, bytes.TrimSpace(out))
	}
	return module.Dir, nil
}

// createGiteaAdmin creates the database, the administrator, and a token of it.
func (l *Lab) createGiteaAdmin(ctx context.Context, binary string) error {
	var out []byte
	for _, args := range [][]string{
		{"migrate"},
		{"admin", "user", "create", "--admin", "--username", giteaAdmin, "--email", giteaAdmin + "@example.com",
			"--random-password", "--must-change-password=false"},
		{"admin", "user", "generate-access-token", "--username", giteaAdmin, "--token-name", "lab", "--scopes", "all", "--raw"},
	} {
		cmd := l.giteaCommand(ctx, binary, args...)
		cmd.Env = append(cmd.Env, "PATH="+os.Getenv("PATH"), "HOME="+l.path("gitea"))
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		var err error
		out, err = cmd.Output() // never shown: a password or a token
		if err != nil && !(args[0] == "admin" && strings.Contains(stderr.String(), "already exists")) {
			return fmt.Errorf("prepare gitea: %s: %w: %s", strings.Join(args[:min(3, len(args))], " "), err, bytes.TrimSpace(stderr.Bytes()))
		}
	}
	// Its log, also on standard output, may come first.
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	return writeFile(l.GiteaTokenFile(), bytes.TrimSpace(lines[len(lines)-1]), 0o600)
}

// giteaCommand runs Gitea, which refuses to be root, in a user namespace of its own if this process is root.
func (l *Lab) giteaCommand(ctx context.Context, binary string, args ...string) *exec.Cmd {
	args = append(args, "--config", l.path("gitea", "app.ini"), "--work-path", l.path("gitea"))
	cmd := exec.CommandContext(ctx, binary, args...)
	if args[0] == "web" {
		cmd = exec.Command(binary, args...) // it outlives ctx, which is about its start
	}
	cmd.Dir = l.path("gitea")
	cmd.Env = []string{"USER=git", "GIT_CONFIG_NOSYSTEM=1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = inUserNamespace(0)
	}
	return cmd
}

func (gitea) Ready(ctx context.Context, l *Lab) error {
	return getOK(ctx, http.DefaultTransport, l.GiteaURL+"/api/healthz")
}

// GiteaTokenFile names the file with a token of Gitea's administrator.
func (e *Endpoints) GiteaTokenFile() string { return e.path("gitea", "admin-token") }
