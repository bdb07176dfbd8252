package main

import (
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/purser-gitops/purser/render"
)

// versions are what a release was called, and what it is to be called.
type versions struct {
	Old string `json:"old,omitempty"`
	New string `json:"new,omitempty"`
}

func versionOf(r *render.Release) string {
	if r.Declaration == nil {
		return ""
	}
	return r.Declaration.Version
}

// newer reports that version a is newer than b, as far as people's versions can be compared: numbers by their value, and
// 1.0-rc1 before 1.0. Words have an order only in what comes before a release.
func newer(a, b string) bool {
	x, y := parts(a), parts(b)
	for i := range min(len(x), len(y)) {
		n, failed := strconv.ParseUint(x[i], 10, 64)
		m, failing := strconv.ParseUint(y[i], 10, 64)
		switch {
		case x[i] == y[i]:
		case x[i] == before || y[i] == before:
			return y[i] == before // 1.0.1 and 1.0-rc1
		case failed == nil && failing == nil:
			if n != m {
				return n > m
			}
		default:
			return failed != nil && failing != nil && slices.Contains(x[:i], before) && x[i] > y[i]
		}
	}
	if len(x) < len(y) {
		return len(x) > 0 && y[len(x)] == before
	}
	return len(x) > len(y) && len(y) > 0 && x[len(y)] != before
}

// before stands in a version's parts for the mark of what comes before a release.
const before = "-"

// parts splits a version into numbers, words and [before].
func parts(version string) []string {
	version = strings.TrimPrefix(version, "v")
	version, _, _ = strings.Cut(version, "+") // build metadata
	var list []string
	kind := 0
	for _, r := range version {
		is := 1
		switch {
		case unicode.IsDigit(r):
			is = 2
		case r == '-' || r == '~':
			list, kind = append(list, before), 0
			continue
		case !unicode.IsLetter(r):
			kind = 0
			continue
		}
		if is != kind {
			list = append(list, "")
		}
		list[len(list)-1] += string(r)
		kind = is
	}
	return list
}
