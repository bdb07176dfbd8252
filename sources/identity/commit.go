package identity

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// MaxCommit is the largest commit object that is read, in bytes.
const MaxCommit = 1 << 20

// commitObject is a commit in its parts. Git's grammar: https://git-scm.com/docs/gitformat-signature.
type commitObject struct {
	author, committer string // as in the headers, without their names
	message           []byte
	signature         string // armored, with a newline at the end; "" when there is none
	payload           []byte // what the signature covers: the object without the signature's header
}

// Commit is a commit object as it was read. It is immutable and safe for concurrent use.
type Commit struct {
	object commitObject
	err    error      // why it cannot be read
	ssh    *sshSigned // nil: it has no SSH signature
}

// ReadCommit reads a commit object, given as its bytes without Git's object header. What is wrong with it is told when it
// is asked about.
func ReadCommit(raw []byte) *Commit {
	c := &Commit{}
	if c.object, c.err = parseCommit(raw); c.err == nil && strings.HasPrefix(c.object.signature, sshPrefix) {
		c.ssh = readSSH(gitNamespace, c.object.payload, []byte(c.object.signature))
	}
	return c
}

// parseCommit reads a commit object as Git's parse_signed_commit does, but refuses what Git lets pass or hides from the
// signature: headers out of order or twice, more than one signature, unknown headers whose names begin like a
// signature's, NUL.
func parseCommit(raw []byte) (commitObject, error) {
	var c commitObject
	if len(raw) > MaxCommit {
		return c, fmt.Errorf("the commit has %d bytes, more than %d", len(raw), MaxCommit)
	}
	if bytes.IndexByte(raw, 0) >= 0 {
		return c, errors.New("the commit holds a NUL byte")
	}
	head, message, ok := bytes.Cut(raw, []byte("\n\n"))
	if !ok {
		return c, errors.New("the commit has no end of headers")
	}
	c.message = message
	h := headers{lines: strings.Split(string(head), "\n")}
	if err := h.standard(&c); err != nil {
		return c, err
	}
	payload := []byte(strings.Join(h.lines[:h.next], "\n") + "\n")
	signed := false
	for name := ""; h.next < len(h.lines); h.next++ {
		line := h.lines[h.next]
		if value, ok := strings.CutPrefix(line, " "); ok { // continues the header before
			if name == "" {
				return c, errors.New("the commit has a continuation line after none")
			}
			if name == h.signature() {
				c.signature += value + "\n"
				continue
			}
			payload = append(append(payload, line...), '\n')
			continue
		}
		var value string
		name, value, ok = strings.Cut(line, " ")
		switch {
		case !ok || name == "":
			return c, errors.New("the commit has a malformed header")
		case name == h.signature() && signed:
			return c, errors.New("the commit has more than one signature")
		case name == h.signature():
			c.signature, signed = value+"\n", true
			continue
		case strings.HasPrefix(name, "gpgsig"):
			return c, fmt.Errorf("the commit has a header %.40q, which no signature of it covers", name)
		case name == "tree" || name == "parent" || name == "author" || name == "committer":
			return c, fmt.Errorf("the commit's header %s is out of place", name)
		}
		payload = append(append(payload, line...), '\n')
	}
	c.payload = append(append(payload, '\n'), message...)
	return c, nil
}

type headers struct {
	lines  []string
	next   int // the first line not read yet
	digits int // of an object id: 40 for SHA-1, 64 for SHA-256
}

// signature is the name of the header that signs a commit of this object format.
func (h *headers) signature() string {
	if h.digits == 64 {
		return "gpgsig-sha256"
	}
	return "gpgsig"
}

// standard reads the headers every commit begins with.
func (h *headers) standard(c *commitObject) error {
	take := func(name string) (string, bool) {
		if h.next == len(h.lines) {
			return "", false
		}
		value, ok := strings.CutPrefix(h.lines[h.next], name+" ")
		if ok {
			h.next++
		}
		return value, ok
	}
	tree, ok := take("tree")
	h.digits = len(tree)
	if !ok || !h.isID(tree) {
		return errors.New("the commit does not begin with its tree")
	}
	for {
		parent, ok := take("parent")
		if !ok {
			break
		}
		if !h.isID(parent) {
			return errors.New("the commit has a malformed parent")
		}
	}
	var okAuthor, okCommitter bool
	c.author, okAuthor = take("author")
	c.committer, okCommitter = take("committer")
	if !okAuthor || !okCommitter {
		return errors.New("the commit has no author or no committer where they belong")
	}
	return nil
}

func (h *headers) isID(id string) bool {
	return len(id) == h.digits && (h.digits == 40 || h.digits == 64) && strings.Trim(id, "0123456789abcdef") == ""
}
