package postgres

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
)

// Rows are counted whatever is in them, and however the script comes.
func TestRowCounter(t *testing.T) {
	t.Parallel()
	script := "SET x = 1;\n\nCOPY public.a (id, name) FROM stdin;\n1\tone\n\n\\\\.\nCOPY public.b (id) FROM stdin;\n" + strings.Repeat("x", 3*maxCopy) + "\n\\.\n" +
		"-- COPY public.c (id) FROM stdin;\nCOPY public.d  FROM stdin;\n\\.\n" +
		`COPY "o'dd; ""--"" FROM stdin"."t (a)" ("k ""ey") FROM stdin;` + "\n\\N\n\\.\nSELECT pg_catalog.setval('a', 1);\n"
	want := map[string]int64{"public.a": 5, "public.d": 0, `"o'dd; ""--"" FROM stdin"."t (a)"`: 1}
	for _, piece := range []int{1, 7, len(script)} {
		c := &rowCounter{rows: map[string]int64{}}
		for at := 0; at < len(script); at += piece {
			if _, err := c.Write([]byte(script[at:min(at+piece, len(script))])); err != nil {
				t.Fatal(err)
			}
		}
		if !maps.Equal(c.rows, want) || c.table != "" {
			t.Errorf("in pieces of %d: %v, in %q", piece, c.rows, c.table)
		}
	}
}

// A dump has the rows that the database has; less than a dump is none.
func TestReadArchive(t *testing.T) {
	t.Parallel()
	e := labtest.Shared(t, lab.PostgreSQL)
	d, c := seeded(t, e)
	execute(t, d.DSN, `CREATE TABLE "Odd ""name"" (a)" ("FROM stdin;" text, b text); CREATE TABLE nothing (); CREATE TABLE empty (id int);
		INSERT INTO "Odd ""name"" (a)" VALUES ('COPY public.trap (a) FROM stdin;', E'\\.\nCOPY public.trap (a) FROM stdin;\n'), (NULL, '');
		INSERT INTO nothing DEFAULT VALUES;
		CREATE FUNCTION trap() RETURNS text LANGUAGE sql AS 'SELECT ''
COPY public.trap (a) FROM stdin;
1
''';
		SELECT lo_from_bytea(0, '\x434f5059')`)
	b := backUp(t, c)
	major, err := strconv.Atoi(installed(t))
	if err != nil {
		t.Fatal(err)
	}
	rows, err := ReadArchive(t.Context(), Tools{}, major, bytes.NewReader(b.dump))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range b.prints {
		n, there := rows[f.Table]
		if !there || f.Sample == nil && n != f.Rows || n < f.Rows {
			t.Errorf("%s has %d rows in the dump, %d by its fingerprint", f.Table, n, f.Rows)
		}
		delete(rows, f.Table)
	}
	if len(rows) > 0 {
		t.Errorf("there are also %v", rows)
	}
	for what, broken := range map[string][]byte{
		"empty": nil, "no dump": []byte("PGDUMP, but not really one at all"), "cut in a row": b.dump[:len(b.dump)/2], "cut in its contents": b.dump[:2000],
	} {
		if _, err := ReadArchive(t.Context(), Tools{}, major, bytes.NewReader(broken)); !errors.Is(err, ErrArchive) {
			t.Errorf("%s: %v", what, err)
		}
	}
	rotten := fmt.Errorf("the stream is rotten")
	for what, in := range map[string]io.Reader{
		"in the midst": io.MultiReader(bytes.NewReader(b.dump[:len(b.dump)/2]), iotest.ErrReader(rotten)),
		"at the end":   io.MultiReader(bytes.NewReader(b.dump), iotest.ErrReader(rotten)),
	} {
		if _, err := ReadArchive(t.Context(), Tools{}, major, in); !errors.Is(err, rotten) || errors.Is(err, ErrArchive) {
			t.Errorf("a stream that breaks %s: %v", what, err)
		}
	}
}
