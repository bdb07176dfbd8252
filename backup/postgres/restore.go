package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
)

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

// Restore creates a database like d and fills it from a dump, in as many processes as jobs says. All of the dump is on the
// disk first, in a file of the server's folder that has no name: the server is given nothing of a stream that does not end
// well, and each process reads at a place of its own. After an error the database is of no use.
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

// fill restores a dump into an empty database; dir has room for the dump.
func fill(ctx context.Context, tool tool, on Connection, dump io.Reader, dir string, jobs int, owners bool) error {
	file, err := spool(dump, dir)
	if err != nil {
		return err
	}
	defer file.Close()
	args := []string{"--jobs=" + strconv.Itoa(jobs), "--dbname=dbname=" + quoteWord(on.Database), "--no-password", "--exit-on-error",
		"--no-tablespaces", "--no-subscriptions", "--no-publications"}
	if !owners {
		args = append(args, "--no-owner", "--no-acl")
	}
	_, err = program{tool: tool, on: on, file: file, args: args}.run(ctx)
	return err
}

// spool keeps a stream in a file that has no name, so that it goes away with us and those who have it from us, however we end.
func spool(stream io.Reader, dir string) (*os.File, error) {
	file, err := os.CreateTemp(dir, "dump-*")
	if err != nil {
		return nil, fmt.Errorf("create file for dump: %w", err)
	}
	if err = os.Remove(file.Name()); err == nil {
		_, err = io.CopyBuffer(onlyWriter{file}, onlyReader{stream}, make([]byte, pipeBytes))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("keep dump: %w", err), file.Close())
	}
	return file, nil
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
