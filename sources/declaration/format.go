package declaration

import (
	"net"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"

	"filippo.io/age"
)

// format is the form of a text. The JSON Schema shows pattern and max; check
// sees what a pattern cannot.
type format struct {
	pattern string
	max     int                      // characters; 0 = no limit
	why     string                   // what the form is
	remedy  string                   // what to do about a text that has not this form
	check   func(text string) string // "" or why the text is wrong; never repeats the text
	regexp  *regexp.Regexp           // pattern, compiled
}

const (
	label        = `[a-z0-9]([-a-z0-9]*[a-z0-9])?`
	duration     = `^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	durationHelp = `write it like "90s", "10m" or "1h30m"`
)

var durationPattern = regexp.MustCompile(duration)

// formats are the values of the keyword format in jsonschema tags.
var formats = compile(map[string]*format{
	"name": {pattern: `^` + label + `$`, max: 63,
		why:    `a name has at most 63 lower-case letters, digits and "-", and a letter or digit at both ends (RFC 1123)`,
		remedy: "rename it"},
	"namespaces": {pattern: `^(` + label + `|([a-z0-9][-a-z0-9]*)?\*)$`, max: 63,
		why:    `it must be the name of a namespace, or the beginning of one followed by "*"`,
		remedy: `write it like "north-dev" or "north-*"`},
	"group": {pattern: `^(` + label + `(\.` + label + `)*)?$`, max: 253,
		why: "it must be a group of the Kubernetes API", remedy: `write it like "apps", without a version; the core group is ""`},
	"kind": {pattern: `^[A-Z][A-Za-z0-9]*$`, max: 63,
		why: "it must be a kind of the Kubernetes API", remedy: `write it like "ClusterRole"`},
	"kinds": {pattern: `^([A-Z][A-Za-z0-9]*|\*)$`, max: 63,
		why: `it must be a kind of the Kubernetes API, or "*"`, remedy: `write it like "Deployment"`},
	"branch": {pattern: `^[^-/.\x00-\x20~^:?*\[\\][^\x00-\x20\x7f~^:?*\[\\]*$`, max: 200,
		why: "it must be the name of a branch", remedy: `write it like "main" or "release/18", without "refs/heads/"`, check: checkBranch},
	"path": {pattern: `^[^/\\\x00-\x1f][^\\\x00-\x1f]*$`, max: 1024,
		why: `it must be a folder below the root of the repository`, remedy: `write it like "apps/odoo/overlays/dev"`, check: checkPath},
	"http": {pattern: `^https?://[^/]`, max: 2048,
		why: "it must be an http or https address", remedy: `write it like "https://odoo.example/web/health"`, check: checkHTTP},
	"regexp": {max: 1024,
		why: "it must be a regular expression", remedy: "correct the expression (RE2 syntax)", check: checkRegexp},
	"repository": {pattern: `^(https?://|ssh://|file:///|/|[^@/:\s]+@[^@/:\s]+:)[^\s]+$`, max: 2048,
		why:    "it must be the address of a Git repository",
		remedy: `write it like "https://git.example/estate.git", "ssh://git@git.example/estate.git" or "file:///srv/git/estate.git"`, check: checkRepository},
	"file": {pattern: `^[^~\x00-\x1f][^\x00-\x1f]*$`, max: 4096,
		why: "it must be the name of a file or folder", remedy: `write it absolute, or relative to the folder of this file; "~" is not expanded`},
	"email": {pattern: `^[^@\s<>,]+@[^@\s<>,]+$`, max: 254,
		why: "it must be the address of a mailbox, alone", remedy: `write it like "developer-1@example.com"`},
	"login": {pattern: `^[A-Za-z0-9][-A-Za-z0-9_.]*(\[bot\])?$`, max: 255,
		why: "it must be the login name of an account", remedy: `write it as the forge shows it, without "@"`},
	"uri": {pattern: `^[a-z][a-z0-9+.-]*:[^\s]+$`, max: 512,
		why: "it must be a URI", remedy: `write it like "https://in-toto.io/attestation/test-result/v0.1"`},
	"local": {pattern: `^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}$`,
		why: "it must be a day and a time of day, local and so without a zone", remedy: `write it like 2026-11-26T00:00; the zone is the calendar's`},
	"clock": {pattern: `^([01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$`,
		why: "it must be a time of day", remedy: `write it like "09:00"; a day ends at "24:00"`},
	"module": {pattern: `^[A-Za-z0-9_]+$`, max: 128,
		why: "it must be the technical name of an Odoo module", remedy: `write it like "sale_pricing"`},
	"beside": {pattern: `^[^/\\\x00-\x1f][^\\\x00-\x1f]*$`, max: 1024,
		why: "it must be a file beside this one, or below its folder", remedy: `write it like "attestations/unit-tests.dsse.json"`, check: checkBeside},
	"commit": {pattern: `^[0-9a-f]{40}$`,
		why: "it must be the full id of a commit", remedy: `write its 40 hexadecimal digits, as "git rev-parse HEAD" prints them`},
	"address": {pattern: `^https?://[^/\s@?#]+(/[^\s@?#]*)?$`, max: 2048,
		why: "it must be an http or https address, without user name, password or query", remedy: `write it like "https://git.example"`},
	"project": {pattern: `^[^/\s?#]+(/[^/\s?#]+)+$`, max: 512,
		why: "it must be a repository with its owner", remedy: `write it like "retail/estate", without ".git"`, check: checkProject},
	"recipient": {pattern: `^age1[0-9a-z]+$`, max: 4096,
		why: "it must be one public age key", remedy: `write it like "age1…", as "age-keygen -y" prints it`, check: checkRecipient},
	"bucket": {pattern: `^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`,
		why: "it must be the name of a bucket", remedy: `write it like "shop-backups"`},
	"prefix": {pattern: `^([-_A-Za-z0-9][-_.A-Za-z0-9]*/)+$`, max: 200,
		why: `it must have "/" at its end, and between parts of letters, digits, "-", "_" and "." that do not begin with "."`, remedy: `write it like "estate/"`},
	"host": {pattern: `^([^-/,\s\x00-\x1f][^/,\s\x00-\x1f]*|/[^,\x00-\x1f]*)$`, max: 255,
		why: "it must be the name or address of one server, or the absolute path of the folder with its socket", remedy: `write it like "db.example" or "/run/postgresql"`},
	"cel": {}, // judged by sources/expression
	"listen": {pattern: `^.*:[0-9]{1,5}$`, max: 260,
		why: "it must be host:port", remedy: `write it like "127.0.0.1:8780"`, check: checkListen},
})

func compile(all map[string]*format) map[string]*format {
	for _, f := range all {
		f.regexp = regexp.MustCompile(f.pattern)
	}
	return all
}

// wrong says why text has not this form, "" when it has.
func (f *format) wrong(text string) string {
	if f.max > 0 && len(text) > f.max || !f.regexp.MatchString(text) {
		return f.why
	}
	if f.check != nil {
		return f.check(text)
	}
	return ""
}

// checkBranch follows git-check-ref-format(1) where the pattern cannot.
func checkBranch(text string) string {
	switch {
	case strings.HasPrefix(text, "refs/"):
		return "it must be the name of a branch, not of a ref"
	case strings.Contains(text, ".."), strings.Contains(text, "@{"), strings.Contains(text, "//"), strings.Contains(text, "/."),
		strings.HasSuffix(text, "/"), strings.HasSuffix(text, "."), strings.HasSuffix(text, ".lock"), strings.Contains(text, ".lock/"), text == "@":
		return "Git allows no branch of that name"
	}
	return ""
}

func checkPath(text string) string {
	switch {
	case text == ".." || strings.HasPrefix(path.Clean(text), "../"):
		return "it leaves the repository"
	case path.Clean(text) != text:
		return `it has superfluous parts ("./", "//", ".." or a "/" at the end)`
	case text == ".git" || strings.HasPrefix(text, ".git/"):
		return "it is Git's own folder"
	}
	return ""
}

func checkBeside(text string) string {
	switch {
	case text == ".." || strings.HasPrefix(path.Clean(text), "../"):
		return "it leaves the folder of this file"
	case path.Clean(text) != text || text == ".":
		return `it has superfluous parts ("./", "//", ".." or a "/" at the end)`
	}
	return ""
}

func checkProject(text string) string {
	if strings.HasSuffix(text, ".git") {
		return "it must be the name that the forge shows"
	}
	return ""
}

func checkHTTP(text string) string {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "":
		return "it is not an address"
	case u.User != nil:
		return "it has a user name or password in it"
	}
	return ""
}

func checkRegexp(text string) string {
	if _, err := regexp.Compile(text); err != nil {
		return "it cannot be compiled: " + strings.TrimPrefix(err.Error(), "error parsing regexp: ")
	}
	return ""
}

// checkRepository refuses credentials, which belong into files: a user name
// other than SSH's, because tokens are passed as user names too, and a query.
func checkRepository(text string) string {
	if strings.HasPrefix(text, "/") || !strings.Contains(text, "://") {
		return "" // a path, or user@host:path, which has no place for a password
	}
	u, err := url.Parse(text)
	if err != nil {
		return "it is not an address"
	}
	_, password := u.User.Password()
	switch {
	case password, u.User != nil && u.Scheme != "ssh":
		return "it has a user name or password in it, and credentials are given as files only (auth)"
	case u.RawQuery != "" || u.Fragment != "":
		return `it has a "?" or "#" part, where tokens leak into logs`
	case u.Scheme != "file" && u.Hostname() == "", strings.Trim(u.Path, "/") == "":
		return "it lacks a host or a path"
	}
	return ""
}

func checkListen(text string) string {
	_, port, err := net.SplitHostPort(text)
	if err != nil {
		return "it must be host:port"
	}
	if n, err := strconv.Atoi(port); err != nil || n > 65535 {
		return "a port is a number from 0 to 65535"
	}
	return ""
}

// checkRecipient refuses what is no public age key, or several.
func checkRecipient(text string) string {
	if list, err := age.ParseRecipients(strings.NewReader(text)); err != nil || len(list) != 1 {
		return "it must be one public age key"
	}
	return ""
}
