package backup

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

const (
	// mostJournals is of how many backups in a row that were broken off the packs are used again.
	mostJournals = 8
	// maxJournalLines bounds the lines of one pack, in bytes.
	maxJournalLines = 32 << 20
	maxJournalHead  = 64 << 10
)

// A journal is a file that says which packs a backup has stored, for the next one should this be broken off. It is of use
// as far as it is whole, so it is not synced; what it says is compared with the store.
type journal struct {
	dir         string // of the environment's journals
	environment string
	id          ID
	recipients  []string
	file        *os.File // nil until there is something to say
	old         []string // names of earlier ones
}

// A note is a line of a journal, which so many bytes of lines of a stream of attachments follow.
type note struct {
	Pack       string   `json:"pack"`
	Entry      Entry    `json:"entry"`
	Recipients []string `json:"recipients"`
	Contents   int64    `json:"contents"`
	Bytes      int64    `json:"bytes"`
	SHA256     string   `json:"sha256"` // of the lines
}

// journaled is what an earlier journal says.
type journaled struct {
	packs    map[string]Entry
	lines    *os.File
	bytes    int64
	contents int64
}

func openJournal(scratch, environment string, id ID, recipients []string) (*journal, error) {
	dir := filepath.Join(scratch, "packs-of-"+environment)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	return &journal{dir: dir, environment: environment, id: id, recipients: recipients}, nil
}

// add writes down that a pack was stored.
func (j *journal) add(entry Entry, pack string, lines []byte, contents int64) (err error) {
	if j.file == nil {
		if j.file, err = os.OpenFile(filepath.Join(j.dir, string(j.id)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
			return fmt.Errorf("write journal: %w", err)
		}
	}
	sum := sha256.Sum256(lines)
	head, err := json.Marshal(note{pack, entry, j.recipients, contents, int64(len(lines)), hex.EncodeToString(sum[:])})
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	if _, err := j.file.Write(slices.Concat(head, []byte("\n"), lines)); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

// earlier reads the newest journals of backups that were broken off.
func (j *journal) earlier() ([]journaled, error) {
	entries, err := os.ReadDir(j.dir) // sorted, and so by time
	if err != nil {
		return nil, fmt.Errorf("read journals: %w", err)
	}
	for _, e := range entries {
		j.old = append(j.old, e.Name())
	}
	var list []journaled
	for _, e := range entries[max(0, len(entries)-mostJournals):] {
		read, err := j.read(filepath.Join(j.dir, e.Name()))
		if err != nil {
			for _, r := range list {
				_ = r.lines.Close()
			}
			return nil, fmt.Errorf("read journal: %w", err)
		}
		list = append(list, read)
	}
	return list, nil
}

// read reads a journal as far as it is whole.
func (j *journal) read(name string) (r journaled, err error) {
	file, err := os.Open(name)
	if err != nil {
		return r, err
	}
	defer file.Close()
	if r.lines, err = namelessFile(filepath.Dir(j.dir)); err != nil {
		return r, err
	}
	r.packs = map[string]Entry{}
	in := bufio.NewReaderSize(file, maxJournalHead)
	for {
		head, err := in.ReadSlice('\n')
		var n note
		if err != nil || json.Unmarshal(head, &n) != nil || n.Bytes < 0 || n.Bytes > maxJournalLines {
			return r, nil // broken off, or at its end
		}
		lines, err := io.ReadAll(io.LimitReader(in, n.Bytes))
		if sum := sha256.Sum256(lines); err != nil || hex.EncodeToString(sum[:]) != n.SHA256 {
			return r, nil
		}
		if !slices.Equal(n.Recipients, j.recipients) || n.Entry.Key != PackKey(j.environment, n.Pack) {
			continue
		}
		if _, err := io.Copy(r.lines, bytes.NewReader(lines)); err != nil {
			return r, errors.Join(err, r.lines.Close())
		}
		r.packs[n.Pack] = n.Entry
		r.bytes, r.contents = r.bytes+n.Bytes, r.contents+n.Contents
	}
}

// done forgets this journal and the earlier ones: there is a backup that says what they say.
func (j *journal) done() error {
	if j.file != nil {
		j.old = append(j.old, string(j.id))
	}
	for _, name := range j.old {
		if err := os.Remove(filepath.Join(j.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove journal: %w", err)
		}
	}
	return nil
}

func (j *journal) close() {
	if j.file != nil {
		_ = j.file.Close() // what is not in it is copied again
	}
}
