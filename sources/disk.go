package sources

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
)

const (
	headsPrefix  = "refs/heads/"
	seenPrefix   = "refs/purser/seen/"
	remotePrefix = "refs/purser/remote/" // other refs of the remote, without their own "refs/"
	refsFile     = "packed-refs"
)

// bareConfig keeps an operator's own git command from repacking under Purser.
const bareConfig = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n"

// initBare makes dir a bare repository when it is not one yet, and removes what
// a process that was killed left behind.
func initBare(dir string) error {
	for _, d := range []string{packDir(dir), filepath.Join(dir, "objects", "info"), filepath.Join(dir, "refs", "heads")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
	}
	for name, content := range map[string]string{"HEAD": "ref: refs/heads/main\n", "config": bareConfig} {
		_, err := os.Stat(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			err = replaceFile(filepath.Join(dir, name), []byte(content))
		}
		if err != nil {
			return err
		}
	}
	return clean(dir)
}

func packDir(dir string) string { return filepath.Join(dir, "objects", "pack") }

// clean removes temporary files, stale locks and halves of packs. Nobody else
// writes to the repository.
func clean(dir string) error {
	var stale []string
	for _, pattern := range []string{"*.lock", "*.new", "objects/pack/tmp_*", "refs/heads/*.lock"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		stale = append(stale, found...)
	}
	for suffix, other := range map[string]string{".pack": ".idx", ".idx": ".pack"} {
		found, err := filepath.Glob(filepath.Join(packDir(dir), "pack-*"+suffix))
		if err != nil {
			return err
		}
		for _, f := range found {
			if _, err := os.Stat(strings.TrimSuffix(f, suffix) + other); errors.Is(err, fs.ErrNotExist) {
				stale = append(stale, f)
			}
		}
	}
	for _, f := range stale {
		if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// readRefs reads packed-refs, the only place refs are kept: one file is replaced
// in one step, so several branches move together or not at all.
func readRefs(dir string) (map[string]plumbing.Hash, error) {
	raw, err := os.ReadFile(filepath.Join(dir, refsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]plumbing.Hash{}, nil
	}
	if err != nil {
		return nil, err
	}
	refs := map[string]plumbing.Hash{}
	for sc := bufio.NewScanner(bytes.NewReader(raw)); sc.Scan(); {
		line := sc.Text()
		if line == "" || line[0] == '#' || line[0] == '^' {
			continue
		}
		hash, name, ok := strings.Cut(line, " ")
		if !ok || !isHash(hash) {
			return nil, fmt.Errorf("%w: %s has the malformed line %q", ErrDamaged, refsFile, line)
		}
		refs[name] = plumbing.NewHash(hash)
	}
	return refs, nil
}

func writeRefs(dir string, refs map[string]plumbing.Hash) error {
	var buf bytes.Buffer
	buf.WriteString("# pack-refs with: peeled fully-peeled sorted \n")
	for _, name := range slices.Sorted(maps.Keys(refs)) {
		fmt.Fprintf(&buf, "%s %s\n", refs[name], name)
	}
	return replaceFile(filepath.Join(dir, refsFile), buf.Bytes())
}

// replaceFile writes temp, syncs, renames, syncs the directory.
func replaceFile(name string, data []byte) (err error) {
	f, err := os.OpenFile(name+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), name); err != nil {
		return err
	}
	return syncDir(filepath.Dir(name))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
