package postgres

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// How much is hashed. Hashing a row costs several times what dumping it does, so that these keep fingerprints at a few
// percent of a dump.
const (
	wholeBytes  = 4 << 20 // of the smallest tables together, at least; else a part of the database:
	wholePart   = 200
	sampleBytes = 4 << 20 // of each of the others, about
	sampleRows  = 2048    // of each of the others, at most
	ranges      = 32      // of keys that a sample consists of, besides that of the newest rows
	together    = 50      // tables in one question
)

// A Fingerprint says what the rows of a table are. It is comparable among servers of one major version.
type Fingerprint struct {
	Table  string `json:"table"`            // as SQL names it, with its schema
	Rows   int64  `json:"rows"`             // that were hashed
	Sum    string `json:"sum"`              // of the rows' hashes, decimal
	Sample *Range `json:"sample,omitempty"` // nil: all rows were hashed
}

// A Range says which rows of a large table were hashed: those with the highest keys, and those that follow keys at equal
// distances. Key is the first column of a unique index of integers.
type Range struct {
	Key    string `json:"key"` // "" for a table without one, of which only is said whether it has rows
	Min    int64  `json:"min"`
	Max    int64  `json:"max"`
	Offset int64  `json:"offset"` // of the first range from Min; it differs from backup to backup
	Rows   int64  `json:"rows"`   // per range
}

// A table is one that pg_dump dumps the rows of.
type table struct {
	name  string   // as SQL names it
	bytes int64    // on the disk
	rows  float64  // estimated; -1 for unknown
	key   []string // quoted columns of a unique index of integers
}

// tablesOfRowsSQL lists them, with the shortest of their keys of integers.
const tablesOfRowsSQL = `SELECT format('%I.%I', n.nspname, c.relname), pg_table_size(c.oid), c.reltuples::float8, coalesce(k.key, '{}')
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN LATERAL (
		SELECT array_agg(quote_ident(a.attname) ORDER BY i.position) AS key
		FROM pg_index x, unnest(x.indkey::int2[]) WITH ORDINALITY AS i(attnum, position), pg_attribute a
		WHERE x.indrelid = c.oid AND x.indisunique AND x.indisvalid AND x.indpred IS NULL AND x.indexprs IS NULL
			AND x.indnkeyatts = x.indnatts AND a.attrelid = c.oid AND a.attnum = i.attnum
		GROUP BY x.indexrelid, x.indisprimary, x.indnatts
		HAVING bool_and(a.attnotnull AND a.atttypid = ANY ('{int2,int4,int8}'::regtype[]))
		ORDER BY x.indnatts, x.indisprimary DESC, min(quote_ident(a.attname)), x.indexrelid LIMIT 1) k ON true
	WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
		AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
	ORDER BY 1`

func (r *Reader) tables(ctx context.Context) ([]table, error) {
	return query(ctx, r, "list tables", func(row pgx.CollectableRow) (t table, err error) {
		err = row.Scan(&t.name, &t.bytes, &t.rows, &t.key)
		return t, err
	}, tablesOfRowsSQL)
}

// Fingerprints says what is in all tables, in the order of their names.
func (r *Reader) Fingerprints(ctx context.Context) ([]Fingerprint, error) {
	tables, err := r.tables(ctx)
	if err != nil {
		return nil, fmt.Errorf("make fingerprints: %w", err)
	}
	small, large := divide(tables)
	prints, err := r.whole(ctx, small)
	if err != nil {
		return nil, fmt.Errorf("make fingerprints: %w", err)
	}
	for _, t := range large {
		s := Range{Rows: t.perRange()}
		if len(t.key) > 0 {
			s.Key = t.key[0]
			span, err := r.span(ctx, t)
			if err != nil {
				return nil, fmt.Errorf("make fingerprint of %s: %w", t.name, err)
			}
			s.Min, s.Max = span[0], span[1]
			if step := s.step(); step > 0 {
				s.Offset = rand.Int64N(step)
			}
		}
		print, err := r.sample(ctx, t, s)
		if err != nil {
			return nil, fmt.Errorf("make fingerprint of %s: %w", t.name, err)
		}
		prints = append(prints, print)
	}
	slices.SortFunc(prints, func(a, b Fingerprint) int { return cmp.Compare(a.Table, b.Table) })
	return prints, nil
}

// divide says which tables are hashed whole: the smallest ones.
func divide(tables []table) (small, large []table) {
	bySize := slices.SortedStableFunc(slices.Values(tables), func(a, b table) int { return cmp.Compare(a.bytes, b.bytes) })
	all := int64(0)
	for _, t := range tables {
		all += t.bytes
	}
	sum := int64(0)
	for i, t := range bySize {
		if sum += t.bytes; sum > max(wholeBytes, all/wholePart) {
			return bySize[:i], bySize[i:]
		}
	}
	return bySize, nil
}

// perRange is the number of rows that a range of a sample has: few if they are large.
func (t table) perRange() int64 {
	rows := float64(sampleRows)
	if t.rows > 0 {
		rows = min(rows, sampleBytes/(float64(t.bytes)/t.rows+1))
	}
	return max(1, int64(rows/(ranges+1)))
}

const hashSQL = "count(*), coalesce(sum(hashtextextended(%s::text, 0)), 0)::text"

// whole hashes all rows of tables.
func (r *Reader) whole(ctx context.Context, tables []table) ([]Fingerprint, error) {
	var prints []Fingerprint
	for group := range slices.Chunk(tables, together) {
		var questions []string
		for _, t := range group {
			questions = append(questions, fmt.Sprintf("(SELECT %s::text, "+hashSQL+" FROM ONLY %s AS purser_row)", literal(t.name), "purser_row", t.name))
		}
		some, err := query(ctx, r, "hash tables", func(row pgx.CollectableRow) (f Fingerprint, err error) {
			err = row.Scan(&f.Table, &f.Rows, &f.Sum)
			return f, err
		}, strings.Join(questions, " UNION ALL "))
		if err != nil {
			return nil, err
		}
		prints = append(prints, some...)
	}
	return prints, nil
}

// span returns the lowest and the highest key.
func (r *Reader) span(ctx context.Context, t table) ([2]int64, error) {
	sql := fmt.Sprintf("SELECT ARRAY[coalesce(min(%[1]s), 0), coalesce(max(%[1]s), 0)]::bigint[] FROM ONLY %[2]s", t.key[0], t.name)
	span, err := query(ctx, r, "find lowest and highest key", pgx.RowTo[[2]int64], sql)
	if err != nil {
		return [2]int64{}, err
	}
	return span[0], nil
}

// step is the distance of the ranges, at least 0.
func (s Range) step() int64 { return max(0, (s.Max/ranges - s.Min/ranges)) }

// starts are the keys at which the ranges start.
func (s Range) starts() []int64 {
	starts := make([]int64, ranges)
	for i := range starts {
		starts[i] = s.Min + s.Offset + int64(i)*s.step()
	}
	return starts
}

// sample hashes the rows that s names.
func (r *Reader) sample(ctx context.Context, t table, s Range) (Fingerprint, error) {
	sql, args := fmt.Sprintf("SELECT count(*), '0' FROM (SELECT FROM ONLY %s LIMIT 1) x", t.name), []any(nil)
	if s.Key != "" {
		columns := strings.Join(t.key, ", ")
		sql = fmt.Sprintf(`SELECT `+hashSQL+` FROM (
			(SELECT purser_row AS row FROM ONLY %[2]s AS purser_row ORDER BY %[3]s DESC LIMIT $1)
			UNION ALL
			(SELECT x.row FROM unnest($2::bigint[]) AS s(start), LATERAL (
				SELECT purser_row AS row FROM ONLY %[2]s AS purser_row WHERE %[4]s >= s.start ORDER BY %[5]s LIMIT $1) x)) y`,
			"row", t.name, strings.Join(t.key, " DESC, "), t.key[0], columns)
		args = []any{s.Rows, s.starts()}
	}
	found, err := query(ctx, r, "hash sample", func(row pgx.CollectableRow) (Fingerprint, error) {
		f := Fingerprint{Table: t.name, Sample: &s}
		return f, row.Scan(&f.Rows, &f.Sum)
	}, sql, args...)
	if err != nil {
		return Fingerprint{}, err
	}
	return found[0], nil
}

// A Difference says how a table differs from its fingerprint.
type Difference struct {
	Table string `json:"table"`
	What  string `json:"what"`
}

// maxDifferences bounds what Compare returns.
const maxDifferences = 100

// Compare says how the database differs from fingerprints of another: nothing, if it is the same. Tables that have none
// are differences as well.
func (r *Reader) Compare(ctx context.Context, want []Fingerprint) ([]Difference, error) {
	tables, err := r.tables(ctx)
	if err != nil {
		return nil, fmt.Errorf("compare fingerprints: %w", err)
	}
	byName := map[string]table{}
	for _, t := range tables {
		byName[t.name] = t
	}
	var whole []table
	var differences []Difference
	differ := func(table, format string, args ...any) {
		if len(differences) < maxDifferences {
			differences = append(differences, Difference{table, fmt.Sprintf(format, args...)})
		}
	}
	expected := map[string]Fingerprint{}
	for _, f := range want {
		t, ok := byName[f.Table]
		expected[f.Table] = f
		switch {
		case !ok:
			differ(f.Table, "the table is missing")
		case f.Sample == nil:
			whole = append(whole, t)
		default:
			if err := r.compareSample(ctx, t, f, differ); err != nil {
				return nil, fmt.Errorf("compare fingerprint of %s: %w", t.name, err)
			}
		}
	}
	got, err := r.whole(ctx, whole)
	if err != nil {
		return nil, fmt.Errorf("compare fingerprints: %w", err)
	}
	for _, f := range got {
		compareRows(f, expected[f.Table], differ)
	}
	for _, t := range tables {
		if _, ok := expected[t.name]; !ok {
			differ(t.name, "the table has no fingerprint")
		}
	}
	slices.SortFunc(differences, func(a, b Difference) int { return cmp.Compare(a.Table, b.Table) })
	return differences, nil
}

func (r *Reader) compareSample(ctx context.Context, t table, want Fingerprint, differ func(string, string, ...any)) error {
	s := *want.Sample
	if s.Key != "" {
		if len(t.key) == 0 || t.key[0] != s.Key {
			differ(t.name, "its key is no longer %s", s.Key)
			return nil
		}
		span, err := r.span(ctx, t)
		if err != nil {
			return err
		}
		if span != [2]int64{s.Min, s.Max} {
			differ(t.name, "keys are from %d to %d, not from %d to %d", span[0], span[1], s.Min, s.Max)
			return nil
		}
	}
	got, err := r.sample(ctx, t, s)
	if err == nil {
		compareRows(got, want, differ)
	}
	return err
}

func compareRows(got, want Fingerprint, differ func(string, string, ...any)) {
	switch {
	case got.Rows != want.Rows:
		differ(got.Table, "%d rows were hashed, not %d", got.Rows, want.Rows)
	case got.Sum != want.Sum:
		differ(got.Table, "the %d rows that were hashed have other contents", got.Rows)
	}
}
