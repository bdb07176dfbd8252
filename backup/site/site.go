package site

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"filippo.io/age"

	"github.com/purser-gitops/purser/backup/postgres"
	"github.com/purser-gitops/purser/sources/declaration"
)

// ErrNotConfigured says that the agent's configuration does not name it.
var ErrNotConfigured = errors.New("it is not in the agent's configuration")

// Database is where an environment's data is.
type Database struct {
	postgres.Connection
	Filestore string // folder of the attachments
}

// Site is what one agent's configuration names. It is safe for concurrent use.
type Site struct {
	config    declaration.AgentBackup
	stores    map[string]*opened
	databases map[string]Database
}

// Open takes a configuration that was loaded from a file, a clock, nil for time.Now, and the log of stores that are silent, nil
// for none. It reads no file. What does not fit into memory goes below dataDir, unless the configuration names a folder for it.
// It fails if a database cannot be reached as it is described.
func Open(c declaration.AgentBackup, dataDir string, now func() time.Time, logger *slog.Logger) (*Site, error) {
	c.ScratchDir = cmp.Or(c.ScratchDir, filepath.Join(dataDir, "scratch"))
	s := &Site{config: c, stores: map[string]*opened{}, databases: map[string]Database{}}
	for _, o := range c.Stores {
		s.stores[o.Name] = &opened{config: o, now: now, logger: logger}
	}
	for _, d := range c.Databases {
		connection := postgres.Connection{
			Host: d.Host, Port: d.Port, User: d.User, Database: d.Database, PasswordFile: d.PasswordFile, TLS: d.TLS, CAFile: d.CAFile,
		}
		if err := connection.Validate(); err != nil {
			return nil, fmt.Errorf("read database of environment %q: %w", d.Environment, err)
		}
		s.databases[d.Environment] = Database{Connection: connection, Filestore: d.Filestore}
	}
	return s, nil
}

// Store returns a store with the rights of the identity that writes and reads. It fails with [ErrNotConfigured] if there is
// none of that name, and if its folder or CA file cannot be opened now.
func (s *Site) Store(name string) (Store, error) {
	o := s.stores[name]
	if o == nil {
		return nil, fmt.Errorf("open store %q: %w", name, ErrNotConfigured)
	}
	writer, _, err := o.open()
	if err != nil {
		return nil, err
	}
	return writer, nil
}

// Address says which database it is, as records name it: host:port/database.
func (d Database) Address() string {
	return net.JoinHostPort(d.Host, strconv.Itoa(cmp.Or(d.Port, 5432))) + "/" + d.Connection.Database
}

// Names reports whether the configuration has a store of that name. It opens nothing.
func (s *Site) Names(store string) bool { return s.stores[store] != nil }

// Expirer deletes in a store, with the rights of the identity that expires; false where the configuration names none. If the
// store cannot be opened, deleting says so.
func (s *Site) Expirer(name string) (Deleter, bool) {
	o := s.stores[name]
	if o == nil || !o.expires() {
		return nil, false
	}
	_, expirer, err := o.open()
	if err != nil {
		return closed{err}, true
	}
	return expirer, true
}

// Database is that of an environment; false where the configuration names none.
func (s *Site) Database(environment string) (Database, bool) {
	d, configured := s.databases[environment]
	return d, configured
}

// Recipients are the public keys that backups are sealed to.
func (s *Site) Recipients() []string { return s.config.Recipients }

// Identities open backups. The file is read anew.
func (s *Site) Identities() ([]age.Identity, error) {
	return identities(s.config.IdentityFile, "identityFile")
}

// DrillIdentities open backups in drills. The file is read anew.
func (s *Site) DrillIdentities() ([]age.Identity, error) {
	if s.config.DrillIdentityFile == "" {
		return s.Identities()
	}
	return identities(s.config.DrillIdentityFile, "drillIdentityFile")
}

// Scratch is the folder for what does not fit into memory. It is created unless it is there, so that every user may pass
// through it, as scratch servers must; if it cannot be, those say so that need it.
func (s *Site) Scratch() string {
	folder := s.config.ScratchDir
	if os.MkdirAll(filepath.Dir(folder), 0o711) == nil && os.Mkdir(folder, 0o711) == nil {
		_ = os.Chmod(folder, 0o711) // whatever the umask
	}
	return folder
}

// Programs are PostgreSQL's.
func (s *Site) Programs() postgres.Tools { return postgres.Tools{Folders: s.config.Programs} }

// Close closes the stores. Nothing else of the site is used any more.
func (s *Site) Close() error {
	var errs []error
	for _, o := range s.stores {
		errs = append(errs, o.close())
	}
	return errors.Join(errs...)
}
