package declaration

import "strings"

// nearest gives the name that was probably meant, "" when none is close.
func nearest(got string, names []string) string {
	best, distance := "", min(len(got)/3+1, 3)+1
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

// editDistance counts the insertions, deletions and replacements of bytes that
// make b of a (Levenshtein). Texts of very different length are not compared.
func editDistance(a, b string) int {
	if d := len(a) - len(b); d > 3 || d < -3 {
		return max(len(a), len(b))
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
