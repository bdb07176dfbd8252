package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Unsound lists what a database does not enforce although it is declared: indexes that are invalid, and constraints that were
// never validated.
func (r *Reader) Unsound(ctx context.Context) ([]string, error) {
	return query(ctx, r, "look for invalid indexes and constraints", pgx.RowTo[string], `SELECT what FROM (
		SELECT format('index %I.%I is invalid', n.nspname, c.relname) AS what FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
			JOIN pg_namespace n ON n.oid = c.relnamespace WHERE NOT i.indisvalid AND n.nspname !~ '^pg_'
		UNION ALL
		SELECT format('constraint %I of %I.%I is not validated', k.conname, n.nspname, c.relname) FROM pg_constraint k
			JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE NOT k.convalidated) w ORDER BY 1 LIMIT 100`)
}
