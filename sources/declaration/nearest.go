package declaration

import "strings"

// nearest gives the name that was probably meant, "" when none is close.
func nearest(got string, names []string) string {
	best, distance := "", min(max(len(got)/3, 1), 3)+1
	for _, name := range names {
		if len(got) > 3 && (strings.HasPrefix(name, got) || strings.HasPrefix(got, name)) && distance > 1 {
			best, distance = name, 1
			continue
		}
		if d := editDistance(strings.ToLower(got), strings.ToLower(name)); d < distance {
			best, distance = name, d
		}
	}
	return best
}

// editDistance counts the insertions, deletions, replacements and swaps of
// neighbouring bytes that make b of a (optimal string alignment). Texts of very
// different length are not compared.
func editDistance(a, b string) int {
	if d := len(a) - len(b); d > 3 || d < -3 {
		return max(len(a), len(b))
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			row[j+1] = last[j]
			if a[i] != b[j] {
				row[j+1] = 1 + min(last[j], last[j+1], row[j])
			}
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
