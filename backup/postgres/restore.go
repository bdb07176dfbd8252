package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
)

// headBytes is how much of a dump is kept on the disk while the rest passes: its table of contents is in there, which
// takes a few hundred bytes for each object.
const headBytes = 64 << 20

// RestoreRoles creates the roles that [Snapshot.Roles] wrote. Without them, all that a restored database holds belongs to
// the superuser.
func (s *Server) RestoreRoles(ctx context.Context, roles io.Reader) error {
	psql, err := s.tools.find(ctx, "psql", s.major)
	if err != nil {
		return fmt.Errorf("restore roles: %w", err)
	}
	// By itself psql goes on after an error, and says that all is well.
	_, err = program{tool: psql, on: s.Connection("postgres"), in: roles, args: []string{
		"--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1", "--single-transaction", "--file=-"}}.run(ctx)
	if err != nil {
		return fmt.Errorf("restore roles: %w", errors.Join(err, s.words()))
	}
	s.roles = true
	return nil
}

// Restore creates a database like d and fills it from a dump, of which it reads all. The stream is not kept: what goes
// into tables does so in one transaction, which spares the server its log; then jobs processes build indexes and check
// constraints, for which they need the dump's table of contents alone. After an error the database is of no use.
func (s *Server) Restore(ctx context.Context, d Database, dump io.Reader, jobs int) error {
	if err := s.restore(ctx, d, dump, max(1, jobs)); err != nil {
		return fmt.Errorf("restore database: %w", errors.Join(err, s.words()))
	}
	return nil
}

func (s *Server) restore(ctx context.Context, d Database, dump io.Reader, jobs int) (err error) {
	tool, err := s.tools.find(ctx, "pg_restore", s.major)
	if err != nil {
		return err
	}
	if err := create(ctx, s.Connection("postgres"), d, s.major); err != nil {
		return err
	}
	return fill(ctx, tool, s.Connection(d.Name), dump, s.dir, jobs, s.roles)
}

// fill restores a dump into an empty database; dir is for the beginning of the dump.
func fill(ctx context.Context, tool tool, on Connection, dump io.Reader, dir string, jobs int, owners bool) (err error) {
	head, err := os.CreateTemp(dir, "head-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, head.Close()) }()
	if err := os.Remove(head.Name()); err != nil { // what is in there goes with us, however we end
		return err
	}
	args := []string{"--dbname=dbname=" + quoteWord(on.Database), "--no-password", "--exit-on-error", "--no-tablespaces", "--no-subscriptions",
		"--no-publications"}
	if !owners {
		args = append(args, "--no-owner", "--no-acl")
	}
	rows := program{tool: tool, on: on, in: io.TeeReader(dump, &upTo{head, headBytes}),
		args: append([]string{"--single-transaction", "--section=pre-data", "--section=data"}, args...)}
	if _, err := rows.run(ctx); err != nil {
		return err
	}
	keys := program{tool: tool, on: on, file: head, args: append([]string{"--jobs=" + strconv.Itoa(jobs), "--section=post-data"}, args...)}
	_, err = keys.run(ctx)
	return err
}

// create creates a database like d.
func create(ctx context.Context, on Connection, d Database, major int) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	conn, err := on.connect(ctx, "purser backup: restore")
	if err != nil {
		return err
	}
	defer closeConn(conn)
	if _, err := conn.Exec(ctx, d.create(d.Name, major)); err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	return nil
}

// upTo writes the first bytes of what is written to it.
type upTo struct {
	w    io.Writer
	room int
}

func (u *upTo) Write(p []byte) (int, error) {
	if u.room > 0 {
		n, err := u.w.Write(p[:min(len(p), u.room)])
		u.room -= n
		if err != nil {
			return n, err
		}
	}
	return len(p), nil
}
