package evidence

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
)

const (
	yearWord    = "<year>"
	writerWord  = "<writer>"
	stateFormat = 2
)

// branchNames turns years into branch names and back.
type branchNames struct {
	template string
	writer   string
}

func (b branchNames) check() error {
	if !validRef(b.name(2000)) || strings.Count(b.template, yearWord) > 1 || !strings.HasPrefix(b.template, logPrefix) {
		return fmt.Errorf("audit branch %q: want a branch name that begins with %s, with %s once at most", b.template, logPrefix, yearWord)
	}
	return nil
}

func (b branchNames) yearly() bool { return strings.Contains(b.template, yearWord) }

func (b branchNames) name(year int) string {
	return strings.NewReplacer(yearWord, fmt.Sprintf("%04d", year), writerWord, b.writer).Replace(b.template)
}

// year is 0 for a branch that is never left.
func (b branchNames) year(branch string) (int, bool) {
	before, after, yearly := strings.Cut(strings.ReplaceAll(b.template, writerWord, b.writer), yearWord)
	if !yearly {
		return 0, branch == before
	}
	text, ok := strings.CutPrefix(branch, before)
	if ok {
		text, ok = strings.CutSuffix(text, after)
	}
	year, err := strconv.ParseUint(text, 10, 16)
	return int(year), ok && err == nil && len(text) == len("2006")
}

// position is a place in the log: after Frontier.Size records of Branch.
type position struct {
	Branch   string        `json:"branch"`
	Base     uint64        `json:"base"` // records in the writer's earlier branches
	Tip      plumbing.Hash `json:"-"`    // zero before the branch exists
	Frontier frontier      `json:"frontier"`
	Spine    spine         `json:"-"`
}

// index is the index of the next record.
func (p position) index() uint64 { return p.Base + p.Frontier.Size }

// pendingPush is the one commit that may be on its way. It is written down
// before it is sent and sent again unchanged until the remote shows it: so the
// remote's tip is always the last acknowledged commit or this one, and anything
// else is somebody else's.
type pendingPush struct {
	Records    int    `json:"records"` // from the beginning of the spool
	Commit     []byte `json:"commit"`
	Checkpoint []byte `json:"checkpoint"`
}

func (p *pendingPush) hash() plumbing.Hash {
	return plumbing.ComputeHash(plumbing.CommitObject, p.Commit)
}

// state is what is known of the remote, kept in state.json.
type state struct {
	Writer     string
	Epoch      int
	EpochStart uint64 // index of the epoch's first record
	Published  position
	Branches   []branchStart // held locally, oldest first, the current one last
	Pending    *pendingPush
	Pinned     *checkpoint // the newest that was pinned and compared with the records; nil for none
}

type branchStart struct {
	Branch string `json:"branch"`
	Base   uint64 `json:"base"`
	// Checkpoint is the newest acknowledged one, signed: it proves what the
	// archive holds. Empty before the first.
	Checkpoint []byte `json:"checkpoint,omitempty"`
}

type stateFile struct {
	Format     int           `json:"format"`
	Writer     string        `json:"writer"`
	Epoch      int           `json:"epoch"`
	EpochStart uint64        `json:"epochStart"`
	Published  position      `json:"published"`
	Tip        string        `json:"tip"`
	Spine      spineJSON     `json:"spine"`
	Branches   []branchStart `json:"branches"`
	Pending    *pendingPush  `json:"pending,omitempty"`
	Pinned     *checkpoint   `json:"pinned,omitempty"`
}

func statePath(dir string) string { return filepath.Join(dir, "state.json") }

func (s state) save(dir string) error {
	data, err := json.Marshal(stateFile{
		Format: stateFormat, Writer: s.Writer, Epoch: s.Epoch, EpochStart: s.EpochStart,
		Published: s.Published, Tip: s.Published.Tip.String(), Spine: s.Published.Spine.encode(),
		Branches: s.Branches, Pending: s.Pending, Pinned: s.Pinned,
	})
	if err != nil {
		return fmt.Errorf("encode evidence state: %w", err)
	}
	if err := writeDurably(statePath(dir), data); err != nil {
		return fmt.Errorf("write evidence state: %w", err)
	}
	return nil
}

// loadState returns [fs.ErrNotExist] in a new directory.
func loadState(dir string) (state, error) {
	data, err := os.ReadFile(statePath(dir))
	if err != nil {
		return state{}, fmt.Errorf("read evidence state: %w", err)
	}
	s, err := parseState(data)
	if err != nil {
		return s, damaged(statePath(dir), err)
	}
	return s, nil
}

func parseState(data []byte) (state, error) {
	var f stateFile
	if err := json.Unmarshal(data, &f); err != nil {
		return state{}, fmt.Errorf("parse evidence state: %w", err)
	}
	s := state{
		Writer: f.Writer, Epoch: f.Epoch, EpochStart: f.EpochStart,
		Published: f.Published, Branches: f.Branches, Pending: f.Pending, Pinned: f.Pinned,
	}
	var err error
	if s.Published.Spine, err = f.Spine.decode(); err != nil {
		return s, err
	}
	s.Published.Tip = plumbing.NewHash(f.Tip)
	switch {
	case f.Format != stateFormat:
		return s, fmt.Errorf("parse evidence state: format %d, this version reads %d", f.Format, stateFormat)
	case !plumbing.IsHash(f.Tip), !s.Published.Frontier.valid(), s.Published.Spine.size() != s.Published.Frontier.Size, s.Epoch < 1, len(s.Branches) == 0:
		return s, errors.New("parse evidence state: its parts disagree")
	}
	return s, nil
}

// lockPatience is how long a lock is waited for: that of a process that was killed ends when the kernel has taken it apart.
const lockPatience = time.Second

// lockDir makes sure that one process at a time uses the directory. The lock
// ends with the process.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open evidence lock: %w", err)
	}
	err = syscall.EWOULDBLOCK
	for deadline := time.Now().Add(lockPatience); errors.Is(err, syscall.EWOULDBLOCK) && time.Now().Before(deadline); {
		if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); errors.Is(err, syscall.EWOULDBLOCK) {
			time.Sleep(20 * time.Millisecond)
		}
	}
	if err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", dir, ErrLocked)
		}
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return f, nil
}

// sweep removes what a crash left half-written.
func sweep(dir string) error {
	leftovers, err := filepath.Glob(filepath.Join(dir, "tmp-*"))
	if err != nil {
		return fmt.Errorf("list leftovers: %w", err)
	}
	for _, path := range leftovers {
		if err := os.RemoveAll(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove leftover: %w", err)
		}
	}
	return nil
}
