package filestore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
)

// ErrOrder says that a list of attachments is not sorted by name.
var ErrOrder = errors.New("the list of attachments is not sorted by the bytes of store_fname")

// maxVariants bounds the contents that rows want of one file. Sound rows want one.
const maxVariants = 16

// An Amount is a number of contents and their length in bytes, as far as it is known.
type Amount struct {
	Contents int64 `json:"contents"`
	Bytes    int64 `json:"bytes"`
}

func (a *Amount) add(c content) {
	a.Contents++
	a.Bytes += max(c.size, 0)
}

// A Listing is what the rows of a list of attachments amount to.
type Listing struct {
	Rows       int64    `json:"rows"`
	InDatabase int64    `json:"inDatabase"` // rows whose content is in the database, or a URL
	Problems   Problems `json:"problems"`
}

// contents yields the contents of the list in order, each once.
func (l *Listing) contents(ctx context.Context, list iter.Seq2[Attachment, error]) iter.Seq2[content, error] {
	return func(yield func(content, error) bool) {
		var same []content // of the current name
		last := ""
		flush := func() bool {
			slices.SortFunc(same, content.compare)
			for _, c := range same {
				if !yield(c, nil) {
					return false
				}
			}
			same = same[:0]
			return true
		}
		for a, err := range list {
			if err == nil && l.Rows&1023 == 0 {
				err = ctx.Err()
			}
			if err == nil && a.Store < last {
				err = fmt.Errorf("%w: %.100q comes after %.100q", ErrOrder, a.Store, last)
			}
			if err != nil {
				yield(content{}, fmt.Errorf("list attachments: %w", err))
				return
			}
			if a.Store != last && !flush() {
				return
			}
			last = a.Store
			same = l.row(same, a)
		}
		flush()
	}
}

// row counts a row, and adds its content to those of the same name.
func (l *Listing) row(same []content, a Attachment) []content {
	l.Rows++
	if a.Store == "" {
		l.InDatabase++
		return same
	}
	c, problem := a.content()
	if problem != nil {
		l.Problems.add(problem)
		return same
	}
	for i := range same {
		if same[i].compare(c) == 0 {
			same[i].rows++
			same[i].id = min(same[i].id, c.id)
			return same
		}
	}
	if len(same) == maxVariants {
		l.Problems.add(c.problem(Refused, "rows want more than %d contents of that file", maxVariants))
		return same
	}
	return append(same, c)
}
