package filestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"slices"
)

// A Plan says which contents a backup of the filestore has to copy. It is kept in a file without a name, so that memory
// does not grow with the filestore. [Plan.Copy] carries it out; the caller closes it.
type Plan struct {
	Listing        // with the problems of rows that name no file of a filestore
	Kept    Amount // what packs hold already
	New     Amount // what is to be copied

	file   spool // a stream of attachments, in which the new contents have no pack
	placed []placement
	lost   []int64 // positions among the new contents of those that could not be copied
	copied bool
}

// A placement says that a pack holds the new contents up to a position, from where the placement before it ends.
type placement struct {
	pack string
	end  int64
}

// NewPlan compares a list of attachments, sorted by the bytes of store_fname, with the streams of attachments of earlier
// backups: there are none if a new generation begins. Contents whose pack usable denies are copied again. The list is read
// once and quickly, since it comes from a snapshot of the database that should not last. The folder scratch takes about 150
// bytes per content.
func NewPlan(ctx context.Context, scratch string, list iter.Seq2[Attachment, error], previous []io.Reader,
	usable func(pack string) bool) (*Plan, error) {
	p := &Plan{}
	if err := p.fill(ctx, scratch, list, previous, usable); err != nil {
		return nil, fmt.Errorf("plan copy of filestore: %w", errors.Join(err, p.Close()))
	}
	return p, nil
}

func (p *Plan) fill(ctx context.Context, scratch string, list iter.Seq2[Attachment, error], previous []io.Reader,
	usable func(string) bool) (err error) {
	if p.file, err = newSpool(scratch); err != nil {
		return err
	}
	known := make([]*knownContents, len(previous))
	for i, r := range previous {
		known[i] = &knownContents{usable: usable}
		if known[i].index, err = newIndexReader(r); err != nil {
			return err
		}
	}
	merged := newIndexWriter(p.file)
	for c, err := range p.Listing.contents(ctx, list) {
		if err != nil {
			return err
		}
		for _, k := range known {
			if c.pack, err = k.find(c); err != nil {
				return err
			}
			if c.pack != "" {
				break
			}
		}
		if c.pack == "" {
			p.New.add(c)
		} else {
			p.Kept.add(c)
		}
		if err := merged.write(c); err != nil {
			return err
		}
	}
	for _, k := range known {
		if err := k.finish(); err != nil {
			return err
		}
	}
	return merged.finish()
}

// knownContents looks up contents in the stream of an earlier backup, in order.
type knownContents struct {
	index  *indexReader
	usable func(string) bool
	next   content
	read   bool // next is valid
	ended  bool
}

// find returns the name of the pack that holds c, "" for none.
func (k *knownContents) find(c content) (string, error) {
	for !k.ended {
		if !k.read {
			if err := k.advance(); err != nil {
				return "", err
			}
			continue
		}
		switch order := k.next.compare(c); {
		case order > 0:
			return "", nil
		case order == 0 && k.next.pack != "" && (k.usable == nil || k.usable(k.next.pack)):
			return k.next.pack, nil
		}
		k.read = false
	}
	return "", nil
}

func (k *knownContents) advance() (err error) {
	k.next, err = k.index.next()
	k.read, k.ended = err == nil, err == io.EOF
	if k.ended {
		return nil
	}
	return err
}

// finish reads to the end, where the stream shows whether it is whole.
func (k *knownContents) finish() error {
	for !k.ended {
		if err := k.advance(); err != nil {
			return err
		}
	}
	return nil
}

// An Index says what a stream of attachments refers to.
type Index struct {
	Contents Amount   `json:"contents"`
	Absent   int64    `json:"absent"` // contents that are in no pack
	Packs    []string `json:"packs"`  // sorted
}

// Write writes the stream of attachments, once the new contents have been copied.
func (p *Plan) Write(ctx context.Context, w io.Writer) (Index, error) {
	if !p.copied && p.New.Contents > 0 {
		return Index{}, errors.New("write attachments: the new contents have not been copied")
	}
	var index Index
	packs := map[string]bool{}
	out := newIndexWriter(w)
	placed, lost, position := p.placed, p.lost, int64(0)
	for c, err := range p.file.contents(ctx) {
		if err != nil {
			return Index{}, err
		}
		if c.pack == "" {
			for len(placed) > 0 && placed[0].end <= position {
				placed = placed[1:]
			}
			if len(lost) > 0 && lost[0] == position {
				lost = lost[1:]
			} else {
				c.pack = placed[0].pack
			}
			position++
		}
		index.Contents.add(c)
		if c.pack == "" {
			index.Absent++
		} else {
			packs[c.pack] = true
		}
		if err := out.write(c); err != nil {
			return Index{}, fmt.Errorf("write attachments: %w", err)
		}
	}
	if err := out.finish(); err != nil {
		return Index{}, fmt.Errorf("write attachments: %w", err)
	}
	index.Packs = slices.Sorted(maps.Keys(packs))
	return index, nil
}

// Close gives back the scratch space.
func (p *Plan) Close() error { return p.file.Close() }

// A spool is a stream of attachments in a file without a name, which goes away with the process.
type spool struct{ *os.File }

func newSpool(dir string) (spool, error) {
	f, err := os.CreateTemp(dir, "attachments-*")
	if err != nil {
		return spool{}, fmt.Errorf("create scratch file: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return spool{}, errors.Join(fmt.Errorf("create scratch file: %w", err), f.Close())
	}
	return spool{f}, nil
}

// contents yields all that the spool holds.
func (s spool) contents(ctx context.Context) iter.Seq2[content, error] {
	return func(yield func(content, error) bool) {
		index, err := newIndexReader(io.NewSectionReader(s, 0, 1<<62))
		for n := 0; err == nil; n++ {
			if n&1023 == 0 {
				if err = ctx.Err(); err != nil {
					break
				}
			}
			var c content
			if c, err = index.next(); err == nil && !yield(c, nil) {
				return
			}
		}
		if err != io.EOF {
			yield(content{}, err)
		}
	}
}

// Close gives back the space.
func (s spool) Close() error {
	if s.File == nil {
		return nil
	}
	return s.File.Close()
}
