package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
)

// ReadArchive reads a dump of [Snapshot.Dump] to its end, as a restore would but without a server, and returns how many rows
// it has of each table, by the table's name in SQL. It fails with [ErrArchive] if that is no dump or less than one. Rows that
// were changed are rows to pg_restore: whether it is what was written only its hash says.
func ReadArchive(ctx context.Context, t Tools, major int, dump io.Reader) (rows map[string]int64, err error) {
	tool, err := t.find(ctx, "pg_restore", major)
	if err != nil {
		return nil, fmt.Errorf("read dump: %w", err)
	}
	counter := &rowCounter{rows: map[string]int64{}}
	in := &watched{r: dump}
	// Definitions are in the table of contents, which is read in any case; functions might look like the rows of tables.
	_, err = program{tool: tool, in: in, out: counter, args: []string{"--section=data", "--exit-on-error", "--file=-"}}.run(ctx)
	var failed *exec.ExitError
	switch {
	case in.err == nil && ctx.Err() == nil && errors.As(err, &failed):
		return nil, fmt.Errorf("read dump: %w: %w", ErrArchive, err)
	case err != nil:
		return nil, fmt.Errorf("read dump: %w", err)
	case counter.table != "":
		return nil, fmt.Errorf("read dump: %w: it ends in table %s", ErrArchive, counter.table)
	}
	return counter.rows, nil
}

// watched remembers the error of a reader.
type watched struct {
	r   io.Reader
	err error // never io.EOF
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		w.err = err
	}
	return n, err
}

// A rowCounter counts rows in a script of pg_restore that has data alone: after COPY … FROM stdin; each line is a row, until
// one of \. alone.
type rowCounter struct {
	rows  map[string]int64
	table string // "" outside of rows
	line  []byte // the beginning of the current one
}

const (
	copyBegin = "COPY "
	copyEnd   = " FROM stdin;"
	maxCopy   = 1 << 20 // bytes of the line that names a table and its columns
)

func (c *rowCounter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		line, rest, whole := bytes.Cut(p, []byte{'\n'})
		keep := maxCopy
		if c.table != "" {
			keep = 3 // tells \. apart
		}
		c.line = append(c.line, line[:min(len(line), max(0, keep-len(c.line)))]...)
		if !whole {
			break
		}
		c.end()
		c.line, p = c.line[:0], rest
	}
	return n, nil
}

// end looks at a whole line.
func (c *rowCounter) end() {
	switch line := string(c.line); {
	case c.table == "" && strings.HasPrefix(line, copyBegin) && strings.HasSuffix(line, copyEnd):
		c.table = tableOf(line[len(copyBegin):])
		c.rows[c.table] += 0
	case c.table != "" && line == `\.`:
		c.table = ""
	case c.table != "":
		c.rows[c.table]++
	}
}

// tableOf is the name at the beginning of a text: up to a space that is not in quotes.
func tableOf(text string) string {
	quoted := false
	for i := range len(text) {
		switch {
		case text[i] == '"':
			quoted = !quoted
		case text[i] == ' ' && !quoted:
			return text[:i]
		}
	}
	return text
}
