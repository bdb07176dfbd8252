package filestore

import (
	"cmp"
	"path"
	"strings"
)

// An Attachment is a row of ir_attachment.
type Attachment struct {
	ID       int64
	Store    string // store_fname; "" for a content in the database, or a URL
	Checksum string // SHA-1 of the content, hexadecimal; "" if the row has none
	Size     int64  // of the content, in bytes; 0 or less if the row does not say
}

// A content is what some attachments have in common: a file that is to be so and no other.
type content struct {
	store string
	sha1  string
	size  int64  // -1 for unknown
	pack  string // its name; "" for none
	rows  int64
	id    int64 // of the first row
}

// compare orders contents as the stream of attachments has them.
func (c content) compare(d content) int {
	return cmp.Or(cmp.Compare(c.store, d.store), cmp.Compare(c.sha1, d.sha1), cmp.Compare(c.size, d.size))
}

// maxName bounds a name in bytes. Odoo's have 43 or 44.
const maxName = 255

// content returns what the row says of its content, or what is wrong with it.
func (a Attachment) content() (content, *Problem) {
	c := content{store: a.Store, sha1: a.Checksum, size: a.Size, rows: 1, id: a.ID}
	if strings.Contains(a.Store, "://") {
		return c, c.problem(Elsewhere, "it is not in the filestore")
	}
	if !localName(a.Store) {
		return c, c.problem(Refused, "that is no name of a file in the filestore")
	}
	if c.sha1 == "" { // files are named by their checksum
		c.sha1 = path.Base(a.Store)
	}
	if !isSHA1(c.sha1) {
		return c, c.problem(Refused, "its row has no SHA-1")
	}
	if c.size <= 0 { // Odoo writes no file for an empty content
		c.size = -1
	}
	return c, nil
}

// localName says whether a file of that name is in the filestore. Odoo drops dots and colons of names before it opens them,
// so that names with either are not the names of files.
func localName(name string) bool {
	if len(name) > maxName {
		return false
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || strings.Trim(part, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-") != "" {
			return false
		}
	}
	return true
}

func isSHA1(s string) bool {
	return len(s) == 40 && strings.Trim(s, "0123456789abcdef") == ""
}
