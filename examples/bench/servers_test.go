package main

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"testing"
)

// TestOnServers runs every bench that needs servers with few environments, so that none of them stops measuring
// unnoticed. How much it measures says nothing.
func TestOnServers(t *testing.T) {
	t.Parallel()
	const environments = 5
	binary, err := testSession(t, options{}).binary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, group := range []struct {
		name    string
		samples map[string]int // by bench
		figures []string
	}{
		{"cold", map[string]int{"cold": 0}, []string{"cold_apply"}},
		{"settled", map[string]int{"one-change": 2, "drift": len(edits), "idle": 0}, []string{
			"drift_detect_p99_seconds", "drift_repair_p99_seconds", "idle_cpu_share", "idle_requests",
			"one_change_renders", "one_change_requests", "one_change_seconds"}},
		{"memory", map[string]int{"memory": 0}, []string{"peak_rss_bytes"}},
		{"backup", map[string]int{"backup": 1}, []string{"backup_peak_rss_bytes", "backup_seconds", "filestore_noop_seconds", "restore_seconds"}},
		{"gates", map[string]int{"gates": 2}, []string{"gates_idle_reconciliations", "gates_seconds"}},
	} {
		t.Run(group.name, func(t *testing.T) {
			t.Parallel()
			s := testSession(t, options{environments: environments, sizes: []int{environments}, database: 32 << 20, purser: binary})
			figures := map[string]figure{}
			for _, b := range benches {
				samples, wanted := group.samples[b.name]
				if !wanted {
					continue
				}
				s.samples = samples
				var out bytes.Buffer
				if err := b.measure(t.Context(), &out, s); err != nil {
					t.Fatalf("%s: %v", b.name, err)
				}
				for decoder := json.NewDecoder(&out); decoder.More(); {
					var f figure
					if err := decoder.Decode(&f); err != nil {
						t.Fatal(err)
					}
					figures[f.Name] = f
				}
			}
			if got := slices.Sorted(maps.Keys(figures)); !slices.Equal(got, group.figures) {
				t.Errorf("measured %v, not %v", got, group.figures)
			}
			for _, f := range figures {
				if f.Note == "" || f.Unit == "" || f.Samples == 0 || f.Ratio <= 0 {
					t.Errorf("%+v", f)
				}
			}
		})
	}
}

func testSession(t *testing.T, o options) *session {
	t.Helper()
	o.progress = testLog{t}
	s, err := newSession(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// testLog is the log of a test as a writer.
type testLog struct{ *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.Log(string(bytes.TrimRight(p, "\n")))
	return len(p), nil
}
