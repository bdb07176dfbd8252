package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"github.com/purser-gitops/purser/sources/credential"
)

const (
	defaultPort    = 5432
	connectTimeout = 30 * time.Second
	queryTimeout   = time.Minute // of a question that is answered from the catalog or by a few rows
	maxPassword    = 4 << 10     // bytes
)

// A Connection says how to reach a database. It holds no secret.
type Connection struct {
	Host         string // name or address, or the absolute path of the folder with the server's Unix socket
	Port         int    // 0 means 5432
	User         string
	Database     string
	PasswordFile string // the password and nothing else; read for each connection; "" for none
	TLS          string // PostgreSQL's sslmode: verify-full (also for ""), verify-ca, require or disable; unused on a Unix socket
	CAFile       string // authorities of the server, PEM; verify-full and verify-ca need it

	password string // of a scratch server, instead of PasswordFile
}

// String names the connection for people.
func (c Connection) String() string {
	return fmt.Sprintf("database %q at %s as %q", c.Database, net.JoinHostPort(c.Host, c.port()), c.User)
}

func (c Connection) port() string { return strconv.Itoa(cmp.Or(c.Port, defaultPort)) }

func (c Connection) socket() bool { return strings.HasPrefix(c.Host, "/") }

// Validate says what is wrong with the connection, before anything connects.
func (c Connection) Validate() error {
	switch tls := c.tls(); {
	case c.Host == "" || c.User == "" || c.Database == "":
		return errors.New("a connection needs host, user and database")
	case c.Port < 0 || c.Port > 65535:
		return fmt.Errorf("port %d is not between 1 and 65535", c.Port)
	case strings.ContainsAny(c.Host+c.User+c.Database+c.CAFile, "\x00"):
		return errors.New("host, user, database and CA file must not contain NUL")
	case strings.Contains(c.Host, ","):
		return fmt.Errorf("host %q: a backup is made of one server", c.Host)
	case tls != "verify-full" && tls != "verify-ca" && tls != "require" && tls != "disable":
		return fmt.Errorf("sslmode %q is none of verify-full, verify-ca, require and disable", c.TLS)
	case strings.HasPrefix(tls, "verify-") && c.CAFile == "":
		return fmt.Errorf("sslmode %s needs a file with the authorities of the server", tls)
	}
	return nil
}

func (c Connection) tls() string {
	if c.socket() {
		return "disable"
	}
	return cmp.Or(c.TLS, "verify-full")
}

// secret reads the password. Errors name the file, never what is in it.
func (c Connection) secret() (string, error) {
	if c.PasswordFile == "" {
		return c.password, nil
	}
	data, err := credential.ReadSecret(c.PasswordFile, maxPassword)
	if err != nil {
		return "", fmt.Errorf("read password: %w", err)
	}
	if len(data) == 0 || strings.ContainsAny(string(data), "\x00\r\n") {
		return "", fmt.Errorf("read password: %s holds no password of one line", c.PasswordFile)
	}
	return string(data), nil
}

// quoteWord quotes a value of a connection string.
func quoteWord(value string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
}

// connect opens a session that no setting of the server or of our environment ends or changes.
func (c Connection) connect(ctx context.Context, name string) (*pgx.Conn, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	secret, err := c.secret()
	if err != nil {
		return nil, err
	}
	words := []string{
		"host=" + quoteWord(c.Host), "port=" + c.port(), "user=" + quoteWord(c.User), "dbname=" + quoteWord(c.Database),
		"sslmode=" + c.tls(), "sslrootcert=" + quoteWord(c.CAFile), "sslcert=''", "sslkey=''", "passfile='/dev/null'",
		"target_session_attrs=any", "options=''", "connect_timeout=" + strconv.Itoa(int(connectTimeout.Seconds())),
	}
	config, err := pgx.ParseConfig(strings.Join(words, " "))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", c, err)
	}
	config.Password = secret
	config.RuntimeParams = map[string]string{"application_name": name, "client_encoding": "UTF8"}
	config.DefaultQueryExecMode = pgx.QueryExecModeExec // nothing is prepared, which poolers between us might not keep
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", c, err)
	}
	return conn, nil
}

// closeConn ends a session without waiting long for it.
func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = conn.Close(ctx) // the server notices that we are gone
}

// environment returns what PostgreSQL's programs need to connect, and the file with the password that they inherit as
// descriptor 3: it has no name in any folder, and goes away with the last process that has it open.
func (c Connection) environment() (env []string, password *os.File, err error) {
	if err := c.Validate(); err != nil {
		return nil, nil, err
	}
	secret, err := c.secret()
	if err != nil {
		return nil, nil, err
	}
	passFile := "/dev/null"
	if secret != "" {
		passFile = "/proc/self/fd/3"
		line := "*:*:*:*:" + strings.NewReplacer(`\`, `\\`, `:`, `\:`).Replace(secret) + "\n"
		if password, err = memoryFile("pgpass", line); err != nil {
			return nil, nil, err
		}
	}
	env = []string{
		"PGHOST=" + c.Host, "PGPORT=" + c.port(), "PGUSER=" + c.User, "PGDATABASE=" + c.Database,
		"PGSSLMODE=" + c.tls(), "PGCONNECT_TIMEOUT=" + strconv.Itoa(int(connectTimeout.Seconds())),
		"PGPASSFILE=" + passFile, "LC_ALL=C", "HOME=/nonexistent",
	}
	if c.CAFile != "" {
		path, err := filepath.Abs(c.CAFile)
		if err != nil {
			return nil, nil, err
		}
		env = append(env, "PGSSLROOTCERT="+path)
	}
	return env, password, nil
}

// memoryFile is a file of ours alone that is on no disk.
func memoryFile(name, content string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create file in memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if err = f.Chmod(0o600); err == nil {
		_, err = f.WriteString(content)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write file in memory: %w", err), f.Close())
	}
	return f, nil
}
