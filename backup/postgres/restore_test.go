package postgres

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
)

// What is restored is the snapshot, while shops go on selling; owners, rights and roles are as they were.
func TestRestoredIsTheSnapshot(t *testing.T) {
	t.Parallel()
	e := labtest.Shared(t, lab.PostgreSQL)
	d, odoo := seeded(t, e)
	// More rows than are hashed whole, in tables with and without a key, and of kinds whose text depends on settings.
	execute(t, d.DSN, `CREATE TABLE "Odd ""name"" of a table" (a int, b int, PRIMARY KEY (b, a), f float8, m money, i interval, x bytea, z timestamptz);
		INSERT INTO "Odd ""name"" of a table" SELECT i, 1, i / 3.0, i, i * interval '1 hour', decode(md5(i::text), 'hex'), now() FROM generate_series(1, 60000) i;
		CREATE TABLE keyless (t text); INSERT INTO keyless SELECT repeat('x', 500) FROM generate_series(1, 20000);
		CREATE TABLE nothing (id serial PRIMARY KEY)`)
	sales, stop := selling(t, d, time.Second)
	orders(t, sales, 20)

	s := begin(t, odoo, Options{})
	admin := begin(t, connection(t, e, lab.PostgresAdmin, d.Name), Options{})
	var roles, dump bytes.Buffer
	if err := admin.Roles(t.Context(), &roles); err != nil {
		t.Fatal(err)
	}
	admin.Close()
	prints, err := s.Fingerprints(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	orders(t, sales, 20)
	if err := s.Dump(t.Context(), &dump); err != nil {
		t.Fatal(err)
	}
	facts, err := s.Facts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	attachments := collect(t, &s.Reader)
	orders(t, sales, 20)
	again, err := s.Compare(t.Context(), prints)
	if err != nil || len(again) > 0 {
		t.Errorf("the snapshot has changed: %v, %v", again, err)
	}
	if err := s.End(); err != nil {
		t.Error(err)
	}
	if err := s.Release(t.Context()); err != nil {
		t.Error(err)
	}
	stop()

	server := scratch(t)
	if err := server.RestoreRoles(t.Context(), bytes.NewReader(roles.Bytes())); err != nil {
		t.Fatal(err)
	}
	if err := server.Restore(t.Context(), facts.Database, bytes.NewReader(dump.Bytes()), 2); err != nil {
		t.Fatal(err)
	}
	restored, err := Read(t.Context(), server.Connection(d.Name))
	if err != nil {
		t.Fatal(err)
	}
	defer restored.Close()
	if differences, err := restored.Compare(t.Context(), prints); err != nil || len(differences) > 0 {
		t.Errorf("restored and snapshot differ: %v, %v", differences, err)
	}
	if got := collect(t, &restored); !slices.Equal(got, attachments) || len(got) < 200 {
		t.Errorf("%d attachments were restored of %d", len(got), len(attachments))
	}
	if got, err := restored.Odoo(t.Context()); err != nil || len(got.Modules) != 40 || !slices.Equal(got.Modules, facts.Odoo.Modules) || !slices.Equal(got.Last, facts.Odoo.Last) {
		t.Errorf("got %+v, %v; want %+v", got, err, facts.Odoo)
	}
	var sampled int
	for _, f := range prints {
		if f.Sample != nil {
			sampled++
		}
	}
	if sampled < 2 {
		t.Errorf("%d tables were sampled", sampled)
	}
	if owners, err := query(t.Context(), restored, "", scanText, `SELECT string_agg(DISTINCT pg_get_userbyid(relowner), ' ') FROM pg_class
		WHERE relnamespace = 'public'::regnamespace`); err != nil || owners[0] != lab.PostgresOdoo {
		t.Errorf("the owners are %q, %v", owners, err)
	}
	live, err := Read(t.Context(), odoo)
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	if differences, err := live.Compare(t.Context(), prints); err != nil || !slices.ContainsFunc(differences, func(d Difference) bool {
		return d.Table == "public.pos_order"
	}) {
		t.Errorf("after 40 orders the database differs in %v, %v", differences, err)
	}
	if strings.Contains(roles.String(), "PASSWORD") != true {
		t.Error("the superuser's dump of roles has no passwords")
	}
}
