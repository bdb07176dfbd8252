package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	// records has a record for each object, KEY.json. An object without one does not exist.
	records = ".objects"
	// partial has what is being written.
	partial = ".partial"
	// lockFile is locked, with flock(2), while records change.
	lockFile = ".lock"
	// maxRecord bounds a record, in bytes.
	maxRecord = 64 << 10
	// lockLimit bounds how long one waits for others who change records.
	lockLimit = time.Minute
)

// Directory is a store in a folder, also of several processes at a time: contents under their keys, and beside them a
// folder with records. Locks are kept by what uses the folder through this package; who can write there can break them, so
// that it is a place for copies and for tests, and not the only one. It is safe for concurrent use.
type Directory struct {
	root   *os.Root
	opened os.FileInfo // the folder
	now    func() time.Time
}

// A record says what there is under a key.
type record struct {
	Version string    `json:"version"`
	Size    int64     `json:"size"`
	SHA256  string    `json:"sha256"`
	Created time.Time `json:"created"`
	Lock    Lock      `json:"lock,omitzero"`
}

func (r record) object(key string) Object {
	return Object{Key: key, Version: r.Version, Size: r.Size, SHA256: r.SHA256, LockedUntil: r.Lock.Until}
}

// OpenDirectory opens the folder, which exists, as a store. A nil clock means time.Now.
func OpenDirectory(folder string, now func() time.Time) (*Directory, error) {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	for _, name := range []string{records, partial} {
		if err := root.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("open store: %w", errors.Join(err, root.Close()))
		}
	}
	if now == nil {
		now = time.Now
	}
	opened, err := root.Stat(".")
	if err != nil {
		return nil, fmt.Errorf("open store: %w", errors.Join(err, root.Close()))
	}
	return &Directory{root: root, opened: opened, now: now}, nil
}

// Attached says whether the folder is still the one that its path leads to, by device and inode. It fails with [ErrDetached] if
// it is not, as after its disk was unmounted: what is open then is a tree that nobody finds.
func (d *Directory) Attached() error {
	there, err := os.Stat(d.root.Name())
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDetached, err)
	}
	if !os.SameFile(there, d.opened) {
		return fmt.Errorf("%w: %s is another one", ErrDetached, d.root.Name())
	}
	return nil
}

// Close closes the folder.
func (d *Directory) Close() error { return d.root.Close() }

// Now returns the time by which locks end.
func (d *Directory) Now(context.Context) (time.Time, error) { return d.now(), nil }

// exclusive runs a change of records while nobody else does.
func (d *Directory) exclusive(ctx context.Context, change func() error) error {
	if err := d.Attached(); err != nil {
		return err
	}
	f, err := d.root.OpenFile(lockFile, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close() // unlocks
	ctx, cancel := within(ctx, lockLimit)
	defer cancel()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return change()
		}
		if err != syscall.EWOULDBLOCK && err != syscall.EINTR {
			return fmt.Errorf("lock %s: %w", lockFile, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("lock %s, which another process holds: %w", lockFile, context.Cause(ctx))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func recordName(key string) string { return path.Join(records, key+".json") }

// record reads the record of a key; it fails with [ErrMissing] if there is none.
func (d *Directory) record(key string) (record, error) {
	f, err := d.root.Open(recordName(key))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return record{}, ErrMissing
	}
	if err != nil {
		return record{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxRecord+1))
	if err != nil {
		return record{}, err
	}
	var r record
	if len(data) > maxRecord {
		err = errors.New("it is too long")
	} else {
		err = json.Unmarshal(data, &r)
	}
	if err == nil && (r.Version == "" || r.SHA256 == "" || r.Size < 0) {
		err = errors.New("it says no version, size and checksum")
	}
	if err != nil {
		return record{}, fmt.Errorf("%w: record of %s: %w", ErrChanged, key, err)
	}
	return r, nil
}

// version reads the record of a version.
func (d *Directory) version(o Object) (record, error) {
	if err := errors.Join(checkObject(o), d.Attached()); err != nil {
		return record{}, err
	}
	r, err := d.record(o.Key)
	if err == nil && r.Version != o.Version {
		err = fmt.Errorf("%w: version %s is in its place", ErrMissing, r.Version)
	}
	return r, err
}

// writeRecord replaces the record of a key at once and for good.
func (d *Directory) writeRecord(key string, r record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	name := path.Join(partial, rand.Text())
	f, err := d.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o400)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = d.publish(name, recordName(key))
	}
	if err != nil {
		return errors.Join(err, d.forget(name))
	}
	return nil
}

// publish gives a file that is on disk its name for good.
func (d *Directory) publish(from, to string) error {
	if err := d.folder(path.Dir(to)); err != nil {
		return err
	}
	if err := d.root.Rename(from, to); err != nil {
		return err
	}
	return d.sync(path.Dir(to))
}

// folder creates a folder and those above it for good.
func (d *Directory) folder(name string) error {
	if name == "." {
		return nil
	}
	err := d.root.Mkdir(name, 0o700)
	if errors.Is(err, fs.ErrNotExist) {
		if err := d.folder(path.Dir(name)); err != nil {
			return err
		}
		err = d.root.Mkdir(name, 0o700)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return d.sync(path.Dir(name))
}

// sync writes the names in a folder to disk.
func (d *Directory) sync(name string) error {
	f, err := d.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// forget removes a file that may be there.
func (d *Directory) forget(name string) error {
	if err := d.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
		return err
	}
	return nil
}

// Create writes an object as [S3.Create] does.
func (d *Directory) Create(ctx context.Context, key string, r io.Reader, lock Lock) (Object, error) {
	o, err := d.create(ctx, key, r, lock)
	if err != nil {
		return Object{}, fmt.Errorf("create object %s: %w", key, err)
	}
	return o, nil
}

func (d *Directory) create(ctx context.Context, key string, r io.Reader, lock Lock) (o Object, err error) {
	if err := errors.Join(checkKey(key), d.Attached()); err != nil {
		return Object{}, err
	}
	if lock, err = lock.whole(d.now()); err != nil {
		return Object{}, err
	}
	name := path.Join(partial, strings.ReplaceAll(key, "/", "+")+"+"+rand.Text())
	if len(name) > 240 { // a file's name is shorter than a key may be
		name = path.Join(partial, rand.Text())
	}
	sum, size, err := d.write(ctx, name, r)
	if err == nil {
		made := record{Version: rand.Text(), Size: size, SHA256: sum, Created: d.now().UTC(), Lock: lock}
		err = d.exclusive(ctx, func() error {
			if _, err := d.record(key); !errors.Is(err, ErrMissing) {
				if err == nil || errors.Is(err, ErrChanged) {
					err = ErrExists
				}
				return err
			}
			// The content first: without a record it is what a crash has left, and is replaced.
			if err := d.publish(name, key); err != nil {
				return err
			}
			return d.writeRecord(key, made)
		})
		if err == nil {
			return made.object(key), nil
		}
	}
	return Object{}, errors.Join(err, d.forget(name))
}

// write writes a file to disk and returns SHA-256 and size of its content.
func (d *Directory) write(ctx context.Context, name string, r io.Reader) (sum string, size int64, err error) {
	f, err := d.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o400)
	if err != nil {
		return "", 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	content := sha256.New()
	if size, err = io.CopyBuffer(io.MultiWriter(plainWriter{f}, content), &contextReader{ctx, r}, make([]byte, 256<<10)); err != nil {
		return "", 0, err
	}
	return hex.EncodeToString(content.Sum(nil)), size, f.Sync()
}

// A plainWriter hides that files read from readers themselves, by which a copy would pass the hash.
type plainWriter struct{ io.Writer }

// A contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *contextReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	n, err := r.r.Read(p)
	if r.ctx.Err() != nil {
		return n, context.Cause(r.ctx)
	}
	if err != nil && err != io.EOF {
		err = fmt.Errorf("read its content: %w", err)
	}
	return n, err
}

// Open returns the content of a version as [S3.Open] does.
func (d *Directory) Open(ctx context.Context, o Object) (io.ReadCloser, error) {
	r, err := d.open(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("open object %s: %w", o.Key, err)
	}
	return r, nil
}

func (d *Directory) open(ctx context.Context, o Object) (io.ReadCloser, error) {
	r, err := d.version(o)
	if err != nil {
		return nil, err
	}
	if o.SHA256 == "" {
		o.SHA256 = r.SHA256
	}
	f, err := d.root.Open(o.Key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrMissing
	}
	if err != nil {
		return nil, err
	}
	state, err := f.Stat()
	if err == nil && (!state.Mode().IsRegular() || state.Size() != o.Size) {
		err = fmt.Errorf("%w: it has %d bytes instead of %d", ErrChanged, state.Size(), o.Size)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &checked{r: struct {
		io.Reader
		io.Closer
	}{&contextReader{ctx, f}, f}, object: o, hash: sha256.New()}, nil
}

// Stat reads what there is as [S3.Stat] does. It reads no content: only Open finds a change that leaves the size.
func (d *Directory) Stat(_ context.Context, o Object) (Info, error) {
	info, err := d.stat(o)
	if err != nil {
		return info, fmt.Errorf("look at object %s: %w", o.Key, err)
	}
	return info, nil
}

func (d *Directory) stat(o Object) (Info, error) {
	r, err := d.version(o)
	if err != nil {
		return Info{}, err
	}
	state, err := d.root.Lstat(o.Key)
	if errors.Is(err, fs.ErrNotExist) {
		return Info{}, ErrMissing
	}
	if err != nil {
		return Info{}, err
	}
	if !state.Mode().IsRegular() {
		return Info{}, fmt.Errorf("%w: it is no file", ErrChanged)
	}
	o.Parts = "" // says how S3 sums it up
	info := Info{Size: state.Size(), SHA256: r.SHA256, Lock: r.Lock}
	return info, info.differs(o)
}

// List returns all objects whose keys begin with prefix as [S3.List] does, but complete with checksum and lock.
func (d *Directory) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		list, err := d.list(ctx, prefix)
		if err != nil {
			yield(Object{}, fmt.Errorf("list objects %s: %w", prefix, err))
			return
		}
		for _, key := range slices.Sorted(maps.Keys(list)) {
			if !yield(list[key].object(key), nil) {
				return
			}
		}
	}
}

func (d *Directory) list(ctx context.Context, prefix string) (map[string]record, error) {
	if err := errors.Join(checkPrefix(prefix), d.Attached()); err != nil {
		return nil, err
	}
	list := map[string]record{}
	top := path.Join(records, prefix[:strings.LastIndexByte(prefix, '/')+1])
	err := fs.WalkDir(d.root.FS(), top, func(name string, entry fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || entry.IsDir() {
			return err
		}
		key, ok := strings.CutSuffix(strings.TrimPrefix(name, records+"/"), ".json")
		if !ok || !strings.HasPrefix(key, prefix) || checkKey(key) != nil {
			return nil
		}
		r, err := d.record(key)
		if errors.Is(err, ErrMissing) { // deleted meanwhile
			return nil
		}
		list[key] = r
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		if _, topErr := d.root.Stat(top); errors.Is(topErr, fs.ErrNotExist) {
			return nil, nil // no object has ever been there
		}
	}
	return list, err
}

// Extend lets the lock of a version end later as [S3.Extend] does.
func (d *Directory) Extend(ctx context.Context, o Object, until time.Time) (Object, error) {
	err := d.exclusive(ctx, func() error {
		r, err := d.version(o)
		if err != nil {
			return err
		}
		if r.Lock.Mode == Unlocked {
			return fmt.Errorf("%w: it has no lock", ErrChanged)
		}
		if until := ceil(until); r.Lock.Until.Before(until) {
			r.Lock.Until = until
			if err := d.writeRecord(o.Key, r); err != nil {
				return err
			}
		}
		o.LockedUntil = r.Lock.Until
		return nil
	})
	if err != nil {
		return o, fmt.Errorf("extend the lock of object %s: %w", o.Key, err)
	}
	return o, nil
}

// Delete deletes a version for good as [S3.Delete] does.
func (d *Directory) Delete(ctx context.Context, o Object) error {
	err := d.exclusive(ctx, func() error {
		r, err := d.version(o)
		if errors.Is(err, ErrMissing) {
			return nil
		}
		if err != nil {
			return err
		}
		if r.Lock.Until.After(d.now()) {
			return fmt.Errorf("%w until %s", ErrLocked, r.Lock.Until.Format(time.RFC3339))
		}
		// The record first: without it the content is none.
		if err := d.forget(recordName(o.Key)); err != nil {
			return err
		}
		if err := d.sync(path.Dir(recordName(o.Key))); err != nil {
			return err
		}
		return d.forget(o.Key)
	})
	if err != nil {
		return fmt.Errorf("delete object %s: %w", o.Key, err)
	}
	return nil
}

// Probe proves that objects can be written now, and leaves nothing behind.
func (d *Directory) Probe(ctx context.Context) error {
	if err := d.Attached(); err != nil {
		return fmt.Errorf("probe store: %w", err)
	}
	name := path.Join(partial, "probe+"+rand.Text())
	_, _, err := d.write(ctx, name, strings.NewReader(strings.Repeat("purser", 1000)))
	if err == nil {
		err = d.exclusive(ctx, func() error { return nil })
	}
	if err = errors.Join(err, d.forget(name)); err != nil {
		return fmt.Errorf("probe store: %w", err)
	}
	return nil
}

// Abandoned removes what writers under the prefix have left that wrote last before the given time ago, by the clock of the
// machine that they wrote on, and returns how many files there were.
func (d *Directory) Abandoned(ctx context.Context, prefix string, age time.Duration) (int, error) {
	removed, err := 0, errors.Join(checkPrefix(prefix), d.Attached())
	if err == nil {
		removed, err = d.abandoned(ctx, prefix, time.Now().Add(-age)) // as files have it
	}
	if err != nil {
		return removed, fmt.Errorf("remove abandoned uploads: %w", err)
	}
	return removed, nil
}

func (d *Directory) abandoned(ctx context.Context, prefix string, before time.Time) (int, error) {
	entries, err := fs.ReadDir(d.root.FS(), partial)
	if err != nil {
		return 0, err
	}
	removed := 0
	for _, entry := range entries {
		state, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return removed, err
		}
		// A name that was too long to tell its key belongs to every prefix.
		name := entry.Name()
		other := strings.Contains(name, "+") && !strings.HasPrefix(name, strings.ReplaceAll(prefix, "/", "+"))
		if other || !state.ModTime().Before(before) {
			continue
		}
		if err := d.forget(path.Join(partial, entry.Name())); err != nil {
			return removed, err
		}
		removed++
	}
	strays, err := d.strays(ctx, prefix, before)
	return removed + strays, err
}

// strays removes contents without a record: what a crash has left in the middle of Create or Delete.
func (d *Directory) strays(ctx context.Context, prefix string, before time.Time) (int, error) {
	removed := 0
	err := fs.WalkDir(d.root.FS(), ".", func(key string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case key != "." && key[0] == '.' && entry.IsDir():
			return fs.SkipDir
		case entry.IsDir() || !strings.HasPrefix(key, prefix) || checkKey(key) != nil:
			return nil
		}
		return d.exclusive(ctx, func() error {
			state, err := d.root.Lstat(key)
			if errors.Is(err, fs.ErrNotExist) || err == nil && !state.ModTime().Before(before) {
				return nil
			}
			if err != nil {
				return err
			}
			if _, err := d.record(key); !errors.Is(err, ErrMissing) {
				return nil // it is an object, if a bad one
			}
			removed++
			return d.forget(key)
		})
	})
	return removed, err
}
