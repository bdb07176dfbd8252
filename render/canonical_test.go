package render

import (
	"encoding/json"
	"math"
	"testing"
)

func TestCanonicalJSON(t *testing.T) {
	for _, c := range []struct {
		value any
		want  string
	}{
		{nil, `null`}, {true, `true`}, {int64(math.MaxInt64), `9223372036854775807`}, {5, `5`}, {1.0, `1`}, {math.Copysign(0, -1), `0`},
		{0.5, `0.5`}, {1e20, `100000000000000000000`}, {1e21, `1e+21`}, {1e-7, `1e-7`},
		{"a\"\\/<>&\u2028\x7f\x00\x1f\b\t\n\v\f\r\u00fc\U0001F600", `"a\"\\/<>&` + "\u2028\x7f" + `\u0000\u001f\b\t\n\u000b\f\r` + "\u00fc\U0001F600" + `"`},
		{map[string]any{"b": []any{}, "a": map[string]any{}, "": 1, "é": 2, "z": nil}, `{"":1,"a":{},"b":[],"z":null,"é":2}`},
	} {
		got, err := canonicalJSON(c.value)
		if err != nil || string(got) != c.want {
			t.Errorf("canonicalJSON(%#v) = %s, %v; want %s", c.value, got, err, c.want)
		}
		if !json.Valid(got) {
			t.Errorf("%s is no JSON", got)
		}
	}
	for _, bad := range []any{"\xff", map[string]any{"\xc0": 1}, math.NaN(), math.Inf(1), struct{}{}, []any{int32(1)}} {
		if got, err := canonicalJSON(bad); err == nil {
			t.Errorf("canonicalJSON(%#v) = %s, want an error", bad, got)
		}
	}
}
