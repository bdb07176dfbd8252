package backup

import (
	"crypto/rand"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// An ID names a backup: 20261122T101500Z-ENV-RANDOM8.
type ID string

const (
	idTime   = "20060102T150405Z"
	idRandom = 8
	alphabet = "abcdefghijklmnopqrstuvwxyz234567"
)

var (
	environmentForm = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	generationForm  = regexp.MustCompile(`^[0-9]{4}-(0[1-9]|1[0-2])$`)
	packForm        = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)
)

// NewID names a backup of an environment that begins now.
func NewID(environment string, now time.Time) ID {
	random := make([]byte, idRandom)
	_, _ = rand.Read(random) // never fails
	for i, b := range random {
		random[i] = alphabet[int(b)%len(alphabet)]
	}
	return ID(fmt.Sprintf("%s-%s-%s", now.UTC().Format(idTime), environment, random))
}

// parse takes an ID apart.
func (id ID) parse() (began time.Time, environment string, err error) {
	fail := func(why string) (time.Time, string, error) {
		return time.Time{}, "", fmt.Errorf("%.100q is not the ID of a backup: %s", string(id), why)
	}
	text := string(id)
	if len(text) < len(idTime)+idRandom+3 {
		return fail("it is too short")
	}
	began, err = time.Parse(idTime, text[:len(idTime)])
	if err != nil || began.Format(idTime) != text[:len(idTime)] {
		return fail("it does not begin with a time like 20261122T101500Z")
	}
	rest := text[len(idTime):]
	environment, random := rest[1:max(len(rest)-idRandom-1, 1)], rest[len(rest)-idRandom:]
	switch {
	case rest[0] != '-' || rest[len(rest)-idRandom-1] != '-' || strings.Trim(random, alphabet) != "":
		return fail("it does not end with eight random characters")
	case !environmentForm.MatchString(environment):
		return fail("it does not name an environment")
	}
	return began, environment, nil
}

// Began is when the backup began, in whole seconds; zero if id is none.
func (id ID) Began() time.Time {
	began, _, _ := id.parse()
	return began
}

// check refuses what is not the ID of a backup of that environment.
func (id ID) check(environment string) error {
	_, of, err := id.parse()
	if err != nil {
		return err
	}
	if of != environment {
		return fmt.Errorf("backup %s is of environment %q, not of %q", id, of, environment)
	}
	return nil
}

// Names of the objects of a backup.
const (
	DatabaseName      = "database"
	RolesName         = "roles"
	ConfigurationName = "configuration"
	AttachmentsName   = "attachments"
	manifestName      = "manifest.json"
)

// Key is that of an object of a backup.
func Key(environment string, id ID, name string) string {
	return backupsPrefix(environment) + string(id) + "/" + name
}

// ManifestKey is that of the manifest of a backup.
func ManifestKey(environment string, id ID) string { return Key(environment, id, manifestName) }

// PackKey is that of a pack, from its name GENERATION/NAME.
func PackKey(environment, pack string) string { return packsPrefix(environment) + pack }

func backupsPrefix(environment string) string { return environment + "/backups/" }

func packsPrefix(environment string) string { return environment + "/filestore/" }

// Generation is that of packs which are begun at a time.
func Generation(t time.Time) string { return t.UTC().Format("2006-01") }

// packName is the name of the pack that an environment has under a key; "" if the key is not that of one.
func packName(environment, key string) string {
	name, ok := strings.CutPrefix(key, packsPrefix(environment))
	generation, last, whole := strings.Cut(name, "/")
	if !ok || !whole || !generationForm.MatchString(generation) || !packForm.MatchString(last) {
		return ""
	}
	return name
}
