package evidence

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
)

// object is one Git object to be sent. A tree that grew out of one the remote
// has is sent as a difference to it.
type object struct {
	typ  plumbing.ObjectType
	hash plumbing.Hash
	data []byte
	base *object // nil: send whole
}

func newObject(typ plumbing.ObjectType, data []byte) object {
	return object{typ: typ, hash: plumbing.ComputeHash(typ, data), data: data}
}

// treeEntry is one line of a Git tree.
type treeEntry struct {
	name string
	dir  bool
	hash plumbing.Hash
}

// encodeTree writes entries in the order given, which must be Git's.
func encodeTree(entries []treeEntry) object {
	var buf bytes.Buffer
	for _, e := range entries {
		mode := "100644 "
		if e.dir {
			mode = "40000 "
		}
		buf.WriteString(mode)
		buf.WriteString(e.name)
		buf.WriteByte(0)
		buf.Write(e.hash[:])
	}
	return newObject(plumbing.TreeObject, buf.Bytes())
}

// parseTree reads a Git tree's entries.
func parseTree(data []byte) ([]treeEntry, error) {
	var entries []treeEntry
	for len(data) > 0 {
		mode, rest, ok := bytes.Cut(data, []byte{' '})
		name, hash, ok2 := bytes.Cut(rest, []byte{0})
		if !ok || !ok2 || len(hash) < 20 {
			return nil, errors.New("parse tree: cut short")
		}
		e := treeEntry{name: string(name), dir: string(mode) == "40000"}
		copy(e.hash[:], hash)
		entries = append(entries, e)
		data = hash[20:]
	}
	return entries, nil
}

// fileTree builds the trees and blobs of a few files with slash-separated
// paths. The last object is the root tree.
func fileTree(files map[string][]byte) ([]object, error) {
	var objects []object
	var entries []treeEntry
	dirs := map[string]map[string][]byte{}
	for path, data := range files {
		if first, rest, nested := strings.Cut(path, "/"); nested {
			if dirs[first] == nil {
				dirs[first] = map[string][]byte{}
			}
			dirs[first][rest] = data
			continue
		}
		blob := newObject(plumbing.BlobObject, data)
		objects = append(objects, blob)
		entries = append(entries, treeEntry{name: path, hash: blob.hash})
	}
	for name, sub := range dirs {
		if _, file := files[name]; file {
			return nil, fmt.Errorf("%q is both a file and a directory", name)
		}
		below, err := fileTree(sub)
		if err != nil {
			return nil, err
		}
		objects = append(objects, below...)
		entries = append(entries, treeEntry{name: name, dir: true, hash: below[len(below)-1].hash})
	}
	slices.SortFunc(entries, func(a, b treeEntry) int { return strings.Compare(a.sortKey(), b.sortKey()) })
	return append(objects, encodeTree(entries)), nil
}

// sortKey is Git's order: a directory sorts as if its name ended in a slash.
func (e treeEntry) sortKey() string {
	if e.dir {
		return e.name + "/"
	}
	return e.name
}

// commit is what this package writes and reads of Git commits.
type commit struct {
	tree    plumbing.Hash
	parents []plumbing.Hash
	writer  string
	when    time.Time // to the second, UTC
	message string
}

// encode gives the commit without signature: the text that is signed.
func (c commit) encode() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "tree %s\n", c.tree)
	for _, p := range c.parents {
		fmt.Fprintf(&b, "parent %s\n", p)
	}
	who := fmt.Sprintf("Purser <%s@purser.invalid> %d +0000", c.writer, c.when.Unix())
	fmt.Fprintf(&b, "author %s\ncommitter %s\n\n%s", who, who, c.message)
	return b.Bytes()
}

// sign gives the commit object, signed as `git commit -S` does with
// gpg.format=ssh.
func (c commit) sign(key *Key) (object, error) {
	text := c.encode()
	sig, err := key.signSSH(text, "git")
	if err != nil {
		return object{}, err
	}
	head, message, _ := bytes.Cut(text, []byte("\n\n"))
	var b bytes.Buffer
	b.Write(head)
	b.WriteString("\ngpgsig ")
	b.WriteString(strings.ReplaceAll(strings.TrimSpace(string(sig)), "\n", "\n "))
	b.WriteString("\n\n")
	b.Write(message)
	return newObject(plumbing.CommitObject, b.Bytes()), nil
}

// signedCommit is a parsed commit object.
type signedCommit struct {
	commit
	signature []byte // armored; empty when unsigned
	payload   []byte // what the signature covers
}

// parseCommit reads a commit object. Headers this package does not write are
// left alone.
func parseCommit(data []byte) (signedCommit, error) {
	var c signedCommit
	head, message, ok := bytes.Cut(data, []byte("\n\n"))
	if !ok {
		return c, errors.New("parse commit: no message")
	}
	c.message = string(message)
	var payload bytes.Buffer
	inSignature := false
	for _, line := range strings.Split(string(head), "\n") {
		name, value, _ := strings.Cut(line, " ")
		switch {
		case name == "gpgsig":
			c.signature = append([]byte(value), '\n')
			inSignature = true
			continue
		case name == "" && inSignature: // continuation
			c.signature = append(append(c.signature, value...), '\n')
			continue
		}
		inSignature = false
		payload.WriteString(line + "\n")
		switch name {
		case "tree":
			c.tree = plumbing.NewHash(value)
		case "parent":
			c.parents = append(c.parents, plumbing.NewHash(value))
		}
	}
	payload.WriteByte('\n')
	payload.Write(message)
	c.payload = payload.Bytes()
	return c, nil
}

// trailer gives the value of a "Name: value" line of the message's last
// paragraph.
func (c commit) trailer(name string) (string, bool) {
	paragraphs := strings.Split(strings.TrimSpace(c.message), "\n\n")
	for _, line := range strings.Split(paragraphs[len(paragraphs)-1], "\n") {
		if value, ok := strings.CutPrefix(line, name+": "); ok {
			return value, true
		}
	}
	return "", false
}

// position reads the trailers that say which record a commit belongs to.
func (c commit) position() (branch string, seq uint64, ok bool) {
	branch, ok = c.trailer("Branch")
	if !ok {
		return "", 0, false
	}
	value, ok := c.trailer("Log-Index")
	if !ok {
		return "", 0, false
	}
	_, last, ranged := strings.Cut(value, "-")
	if !ranged {
		last = value
	}
	seq, err := strconv.ParseUint(last, 10, 63)
	return branch, seq, err == nil
}
