package postgres

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tryTimeout bounds an attempt to connect from a scratch server.
const tryTimeout = 20 * time.Second

// Folder is the server's own, which goes with it. What is put there is out of reach of other users.
func (s *Server) Folder() string { return s.dir }

// Reach says how people reach a database of the server with PostgreSQL's programs: as environment variables, and without a
// secret, which is in a file in the server's folder.
func (s *Server) Reach(database string) ([]string, error) {
	c := s.Connection(database)
	path := filepath.Join(s.dir, "passfile")
	line := "*:*:*:*:" + c.password + "\n" // letters and digits
	if err := os.WriteFile(path, []byte(line), 0o600); err != nil {
		return nil, fmt.Errorf("write password file: %w", err)
	}
	return []string{"PGHOST=" + c.Host, "PGPORT=" + c.port(), "PGUSER=" + c.User, "PGDATABASE=" + database, "PGPASSFILE=" + path}, nil
}

// An Attempt says what became of an attempt to connect from a scratch server.
type Attempt struct {
	Host string `json:"host"`
	Port int    `json:"port"`
	// Unreachable says that the network does not lead there, by what the server says. An address that answers, refuses or
	// does not answer in time is reachable.
	Unreachable bool   `json:"unreachable"`
	Said        string `json:"said"`
}

// Try lets the server connect to another one, as whatever is restored into it could: a host is an address, or the folder of a
// Unix socket. Only a network that leads nowhere, or a socket that is out of reach, is unreachable.
func (s *Server) Try(ctx context.Context, host string, port int) (Attempt, error) {
	a := Attempt{Host: host, Port: port}
	ctx, cancel := context.WithTimeout(ctx, 2*tryTimeout)
	defer cancel()
	conn, err := s.Connection("postgres").connect(ctx, "purser backup: isolation")
	if err != nil {
		return a, fmt.Errorf("try to reach %s: %w", host, err)
	}
	defer closeConn(conn)
	to := strings.Join([]string{"host=" + quoteWord(host), "port=" + strconv.Itoa(port), "user=purser", "dbname=purser", "sslmode=disable",
		"connect_timeout=" + strconv.Itoa(int(tryTimeout.Seconds())), "passfile=/dev/null"}, " ")
	// Whoever subscribes connects at once. Without a slot it leaves nothing where it gets to.
	_, err = conn.Exec(ctx, "CREATE SUBSCRIPTION purser CONNECTION "+literal(to)+
		" PUBLICATION purser WITH (create_slot = false, enabled = false, slot_name = NONE, copy_data = false)")
	if err == nil {
		a.Said = "the server subscribed"
		return a, nil
	}
	if code(err) == "" {
		return a, fmt.Errorf("try to reach %s: %w", host, err)
	}
	a.Said = err.Error()
	for _, nowhere := range []string{"Network is unreachable", "No such file or directory", "Permission denied"} {
		a.Unreachable = a.Unreachable || strings.Contains(a.Said, nowhere)
	}
	return a, nil
}
