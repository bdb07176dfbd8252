package filestore

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

const (
	defaultPackBytes = 128 << 20
	maxPackContents  = 50_000 // bounds what is known of a pack at a time: some 10 MiB
	packTries        = 3
	settle           = time.Minute // a file that changed less than that ago may be in the making
	settlePause      = 250 * time.Millisecond
	settleLooks      = 40
)

// errChanged says that a file changed between two readings.
var errChanged = errors.New("a file changed while it was copied")

// A packWriter stores packs.
type packWriter interface {
	// WritePack stores what fill writes, whole or not at all, and returns the pack's name, of printable characters without
	// spaces. It calls fill once; if fill fails, so does WritePack, and its error wraps fill's.
	WritePack(ctx context.Context, fill func(io.Writer) error) (name string, err error)
}

// CopyOptions may be zero.
type CopyOptions struct {
	PackBytes int64 // about the length of a full pack; default 128 MiB. A larger content has a pack of its own.
	// Stored, if there is one, is called with each pack that has been stored, and with the lines that the stream of
	// attachments will have of its contents. The lines of later packs come after those of earlier ones.
	Stored func(pack string, lines []byte, contents int64) error

	now   func() time.Time
	pause func(context.Context) error // before another look at a file in the making
}

// Copied says what was copied.
type Copied struct {
	Amount
	Packs    []string `json:"packs,omitempty"`
	Problems Problems `json:"problems"` // contents that are in no pack now
}

// Copy copies the new contents from the folder of the filestore into packs. A file that is missing or wrong is a problem
// of the result and stops nothing: such files are usual, and a backup without them is better than none. The snapshot from
// which the list came must be older than the copy, and nothing may collect files until Copy has returned.
func (p *Plan) Copy(ctx context.Context, dir string, packs packWriter, o CopyOptions) (Copied, error) {
	if p.copied {
		return Copied{}, errors.New("copy filestore: it has been copied")
	}
	if o.PackBytes <= 0 {
		o.PackBytes = defaultPackBytes
	}
	if o.now == nil {
		o.now = time.Now
	}
	if o.pause == nil {
		o.pause = pause
	}
	root, err := openFilestore(dir)
	if err != nil {
		return Copied{}, err
	}
	defer root.Close()
	c := &copier{plan: p, root: root, packs: packs, o: o}
	if err := c.copyAll(ctx); err != nil {
		return Copied{}, fmt.Errorf("copy filestore: %w", err)
	}
	p.copied = true
	return c.copied, nil
}

func pause(ctx context.Context) error {
	select {
	case <-time.After(settlePause):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A copier carries out a plan.
type copier struct {
	plan     *Plan
	root     *os.Root
	packs    packWriter
	o        CopyOptions
	copied   Copied
	position int64 // of the next pack's first content among the new ones
}

func (c *copier) copyAll(ctx context.Context) error {
	c.plan.placed, c.plan.lost = nil, nil
	if c.plan.New.Contents == 0 {
		return nil
	}
	var batch []content
	var size int64
	for next, err := range c.plan.file.contents(ctx) {
		if err != nil {
			return err
		}
		if next.pack != "" {
			continue
		}
		needs := (max(next.size, 0)+511)/512*512 + 512 // in a tar archive
		if len(batch) > 0 && (size+needs > c.o.PackBytes || len(batch) == maxPackContents) {
			if err := c.copyPack(ctx, batch); err != nil {
				return err
			}
			batch, size = batch[:0], 0
		}
		batch, size = append(batch, next), size+needs
	}
	return c.copyPack(ctx, batch)
}

// copyPack copies contents into one pack. A file that changes meanwhile begins the pack anew.
func (c *copier) copyPack(ctx context.Context, batch []content) error {
	for try := 1; ; try++ {
		pack, err := c.try(ctx, batch)
		if errors.Is(err, errChanged) && try < packTries {
			continue
		}
		if err != nil {
			return err
		}
		if err := c.report(pack, batch); err != nil {
			return err
		}
		for _, lost := range pack.lost {
			c.plan.lost = append(c.plan.lost, c.position+lost.at)
			c.copied.Problems.add(lost.problem)
		}
		c.copied.Contents += pack.amount.Contents
		c.copied.Bytes += pack.amount.Bytes
		c.position += int64(len(batch))
		if pack.name != "" {
			c.copied.Packs = append(c.copied.Packs, pack.name)
			c.plan.placed = append(c.plan.placed, placement{pack.name, c.position})
		}
		return nil
	}
}

// report says what a stored pack holds.
func (c *copier) report(p *pack, batch []content) error {
	if p.name == "" || c.o.Stored == nil {
		return nil
	}
	var lines bytes.Buffer
	out, lost := &indexWriter{w: bufio.NewWriter(&lines)}, p.lost
	for i, held := range batch {
		if len(lost) > 0 && lost[0].at == int64(i) {
			lost = lost[1:]
			continue
		}
		held.pack = p.name
		if err := out.write(held); err != nil {
			return err
		}
	}
	if err := out.w.Flush(); err != nil {
		return err
	}
	return c.o.Stored(p.name, lines.Bytes(), out.contents)
}

// A pack in the making.
type pack struct {
	name   string
	amount Amount
	lost   []lostContent
	at     int64 // how many contents have been read
}

type lostContent struct {
	at      int64 // in the batch
	problem *Problem
}

func (c *copier) try(ctx context.Context, batch []content) (*pack, error) {
	ahead := c.readAhead(ctx, batch)
	defer ahead.close()
	p := &pack{}
	first, ok, err := p.good(ahead)
	if err != nil || !ok { // nothing to copy is no pack
		return p, err
	}
	p.name, err = c.packs.WritePack(ctx, func(w io.Writer) error { return p.write(w, first, ahead) })
	if err != nil {
		return nil, fmt.Errorf("write pack: %w", err)
	}
	if !packName(p.name) {
		return nil, fmt.Errorf("write pack: %.100q cannot be the name of a pack", p.name)
	}
	if p.at != int64(len(batch)) {
		return nil, fmt.Errorf("write pack %s: it was stored after %d of %d contents", p.name, p.at, len(batch))
	}
	return p, nil
}

// good returns the next content that is what it should be, false after the last.
func (p *pack) good(ahead *readAhead) (look, bool, error) {
	for {
		l, ok, err := ahead.next()
		if err != nil || !ok {
			return look{}, false, err
		}
		p.at++
		if l.problem == nil {
			return l, true, nil
		}
		p.lost = append(p.lost, lostContent{p.at - 1, l.problem})
	}
}

// write writes the archive.
func (p *pack) write(w io.Writer, l look, ahead *readAhead) error {
	out := tar.NewWriter(w)
	for ok := true; ok; {
		if err := writeContent(out, &l); err != nil {
			return fmt.Errorf("attachment %d (%s): %w", l.id, l.store, err)
		}
		p.amount.Contents++
		p.amount.Bytes += l.length
		var err error
		if l, ok, err = p.good(ahead); err != nil {
			return err
		}
	}
	return out.Close()
}

func writeContent(out *tar.Writer, l *look) error {
	defer l.close()
	header := &tar.Header{Typeflag: tar.TypeReg, Name: l.store, Size: l.length, Mode: 0o644, ModTime: l.changed.Truncate(time.Second)}
	if err := out.WriteHeader(header); err != nil {
		return err
	}
	if l.file == nil {
		_, err := out.Write(l.data)
		return err
	}
	sum := sha1.New()
	n, err := io.CopyBuffer(onlyWriter{io.MultiWriter(out, sum)}, onlyReader{io.LimitReader(l.file, l.length)}, make([]byte, copyBuffer))
	if err != nil {
		return err
	}
	if n != l.length || hex.EncodeToString(sum.Sum(nil)) != l.sha1 {
		return errChanged
	}
	return nil
}
