package postgres

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
)

// A restore that fails, or is broken off, leaves neither a database nor a session, in whatever part of it that happens.
func TestPlaceRestoreFails(t *testing.T) {
	t.Parallel()
	e := labtest.Shared(t, lab.PostgreSQL)
	d, c := seeded(t, e)
	// The index can be built where the table comes from, and nowhere else.
	execute(t, d.DSN, `CREATE FUNCTION home(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
			IF current_database() LIKE '%-slow' THEN PERFORM pg_catalog.pg_sleep(600); END IF;
			IF current_database() LIKE '%-broken' THEN RAISE EXCEPTION 'no index is built here'; END IF;
			RETURN 1; END $$;
		CREATE INDEX home ON res_partner (home(id))`)
	b := backUp(t, c)
	rotten := errors.New("the stream is rotten")
	place := Place{Connection: c}
	const building = `SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND query LIKE 'CREATE INDEX home %'`
	for name, test := range map[string]struct {
		in   io.Reader
		want string
	}{
		"stream": {io.MultiReader(bytes.NewReader(b.dump), failing{rotten}), rotten.Error()},
		"rows":   {bytes.NewReader(b.dump[:len(b.dump)/2]), "pg_restore"},
		"broken": {bytes.NewReader(b.dump), "no index is built here"},
		"slow":   {bytes.NewReader(b.dump), context.Canceled.Error()},
	} {
		into, dir := b.database, folder(t)
		into.Name = d.Name + "-" + name
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- place.Restore(ctx, Tools{}, into, Mark{Name: into.Name, Place: d.Name}, test.in, dir, 2)
		}()
		if name == "slow" {
			labtest.Eventually(t, "an index is being built", func(context.Context) error {
				if value[int64](t, d.AdminDSN, building, into.Name) == 0 {
					return errors.New("not yet")
				}
				return nil
			})
			cancel()
		}
		err := <-ended
		cancel()
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
		left := value[int64](t, d.AdminDSN, `SELECT (SELECT count(*) FROM pg_database WHERE datname = $1) +
			(SELECT count(*) FROM pg_stat_activity WHERE datname = $1)`, into.Name)
		if files, err := os.ReadDir(dir); left != 0 || err != nil || len(files) > 0 {
			t.Errorf("%s: left are %d databases and sessions, and the files %v, %v", name, left, files, err)
		}
	}
}
