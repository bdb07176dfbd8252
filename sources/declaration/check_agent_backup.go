package declaration

import (
	"fmt"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"strings"

	"filippo.io/age"
)

// mostScratch is the longest path, in bytes, of a folder in which a scratch server finds room for its Unix socket (unix(7)).
const mostScratch = 70

// check judges the parts of what is configured for backups against each other. Relative paths are below dir.
func (b *AgentBackup) check(doc *document, dir string, errs *Errors) {
	const path = "spec.backup"
	var names []string
	for i, s := range b.Stores {
		at := fmt.Sprintf("%s.stores[%d]", path, i)
		names = distinct(names, s.Name, "store", doc.mark(at+".name"), errs)
		s.check(doc, at, errs)
		b.apart(doc, i, dir, errs)
	}
	first := map[string]Position{} // database of each environment
	for i, d := range b.Databases {
		at := fmt.Sprintf("%s.databases[%d]", path, i)
		here := doc.mark(at + ".environment")
		if other, twice := first[d.Environment]; twice && d.Environment != "" {
			errs.add(here, fmt.Sprintf("environment %q has two databases", d.Environment), "it is backed up as one database with its attachments, and that is at "+other.String(), "remove one of the two")
		} else {
			first[d.Environment] = here
		}
		d.check(doc, at, errs)
		for _, other := range b.Databases[:i] {
			d.apart(doc, at, dir, other, errs)
		}
	}
	b.recipients(doc, errs)
	if scratch := below(dir, b.ScratchDir); len(scratch) > mostScratch {
		errs.add(doc.mark(path+".scratchDir"), "path of scratchDir is too long", fmt.Sprintf("it has %d bytes, and the socket of a scratch server leaves room for %d", len(scratch), mostScratch), "name another folder")
	}
	for _, field := range []string{"stores", "recipients", "identityFile"} {
		if len(b.Databases) > 0 && !given(doc, path+"."+field) {
			errs.add(doc.mark(path), fmt.Sprintf("missing field %q", field), "there are databases to back up", fmt.Sprintf(`add "%s:"`, field))
		}
	}
}

// apart refuses data that is that of another environment as well: a backup of the one would count for the other, and a restore of
// the one would take the other's place.
func (d AgentDatabase) apart(doc *document, at, dir string, other AgentDatabase, errs *Errors) {
	const why, remedy = "each environment has data of its own, or a restore of one would take the place of the other's", "name the right one, or remove one of the two environments"
	if d.Database != "" && d.Database == other.Database && d.Host == other.Host && d.Port == other.Port {
		errs.add(doc.mark(at+".database"), fmt.Sprintf("environments %q and %q have one database", other.Environment, d.Environment), why, remedy)
	}
	if d.Filestore != "" && filepath.Clean(below(dir, d.Filestore)) == filepath.Clean(below(dir, other.Filestore)) {
		errs.add(doc.mark(at+".filestore"), fmt.Sprintf("environments %q and %q have one filestore", other.Environment, d.Environment), why, remedy)
	}
}

// check refuses a store that is nowhere or in two places, and one that others can read along with or delete from.
func (s AgentStore) check(doc *document, at string, errs *Errors) {
	bucket, folder := given(doc, at+".s3"), given(doc, at+".directory")
	switch {
	case bucket && folder:
		errs.add(doc.mark(at+".directory"), fmt.Sprintf("store %q is in two places", s.Name), "a store is a bucket or a folder", "keep one of s3 and directory, or make two stores of it")
	case !bucket && !folder && !doc.broken:
		errs.add(doc.mark(at), fmt.Sprintf("store %q is in no place", s.Name), "a store is a bucket or a folder", `add "s3:" or "directory:"`)
	}
	if u, err := url.Parse(s.S3.Endpoint); err == nil && u.Scheme == "http" {
		if ip := net.ParseIP(u.Hostname()); ip == nil || !ip.IsLoopback() {
			errs.add(doc.mark(at+".s3.endpoint"), fmt.Sprintf("store %q is reached without TLS", s.Name), "whoever is on the way could change what is stored, or pretend to be the store", "write an https address; http is for loopback addresses such as 127.0.0.1")
		}
	}
	if file := s.S3.Expiry.CredentialsFile; file != "" && filepath.Clean(file) == filepath.Clean(s.S3.CredentialsFile) {
		errs.add(doc.mark(at+".s3.expiry.credentialsFile"), fmt.Sprintf("store %q has one identity for everything", s.Name), "whoever writes backups must not be able to delete them", "name a file with the credentials of another identity, or remove expiry")
	}
}

// apart refuses two stores of which one is, or is in, the other: a copy there would be lost with the original.
func (b *AgentBackup) apart(doc *document, i int, dir string, errs *Errors) {
	s, path := b.Stores[i], fmt.Sprintf("spec.backup.stores[%d]", i)
	at := path + ".directory.path"
	if s.S3.Bucket != "" {
		at = path + ".s3.bucket"
	}
	for _, other := range b.Stores[:i] {
		if s.overlaps(other, dir) {
			errs.add(doc.mark(at), fmt.Sprintf("stores %q and %q are in the same place", other.Name, s.Name), "copies that lie together are lost together", "choose another place for one of the two")
			return
		}
	}
}

func (s AgentStore) overlaps(o AgentStore, dir string) bool {
	if s.S3.Bucket != "" && o.S3.Bucket != "" {
		same := strings.TrimRight(s.S3.Endpoint, "/") == strings.TrimRight(o.S3.Endpoint, "/") && s.S3.Bucket == o.S3.Bucket
		return same && (strings.HasPrefix(s.S3.Prefix, o.S3.Prefix) || strings.HasPrefix(o.S3.Prefix, s.S3.Prefix))
	}
	if s.Directory.Path == "" || o.Directory.Path == "" {
		return false
	}
	one, two := filepath.Clean(below(dir, s.Directory.Path))+"/", filepath.Clean(below(dir, o.Directory.Path))+"/"
	return strings.HasPrefix(one, two) || strings.HasPrefix(two, one)
}

// check refuses a connection that cannot be made as it says.
func (d AgentDatabase) check(doc *document, at string, errs *Errors) {
	socket := strings.HasPrefix(d.Host, "/")
	for _, field := range []string{"tls", "caFile"} {
		if socket && given(doc, at+"."+field) {
			errs.add(doc.mark(at+"."+field), fmt.Sprintf("%s has no effect", field), "the host is the folder of a Unix socket, which nothing is encrypted on", "remove it")
		}
	}
	if !doc.broken && !socket && strings.HasPrefix(d.TLS, "verify-") && d.CAFile == "" {
		errs.add(doc.mark(at), `missing field "caFile"`, fmt.Sprintf("the database of environment %q is reached with tls: %s, and somebody has to vouch for its server", d.Environment, d.TLS), `add "caFile:" with the certificates of the server's authorities`)
	}
}

// recipients refuses public keys that nothing can be sealed to together, as age has it of keys that withstand quantum
// computers and others that do not.
func (b *AgentBackup) recipients(doc *document, errs *Errors) {
	if len(b.Recipients) == 0 || doc.broken {
		return
	}
	list, err := age.ParseRecipients(strings.NewReader(strings.Join(b.Recipients, "\n")))
	if err == nil {
		_, err = age.Encrypt(io.Discard, list...)
	}
	if err != nil {
		errs.add(doc.mark("spec.backup.recipients"), "recipients do not go together", "age seals nothing to keys of both kinds, those for after quantum computers and others", "name keys of one kind")
	}
}
