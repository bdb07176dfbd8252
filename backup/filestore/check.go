package filestore

import (
	"context"
	"fmt"
	"iter"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Checked says what a folder was found to hold.
type Checked struct {
	Amount  // contents that are what they should be
	Listing // with the problems of rows and of files
}

// Check compares the files of a folder with a list of attachments, sorted by the bytes of store_fname: every file that a
// row names is there, with its length and SHA-1. An error is about the list or the folder; what files are wrong is in the
// result.
func Check(ctx context.Context, list iter.Seq2[Attachment, error], dir string) (Checked, error) {
	root, err := openFilestore(dir)
	if err != nil {
		return Checked{}, fmt.Errorf("check filestore: %w", err)
	}
	defer root.Close()
	var done Checked
	var mu sync.Mutex // of good and wrong
	var good Amount
	var wrong Problems
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0) + 1)
	for c, listErr := range done.Listing.contents(ctx, list) {
		if listErr != nil {
			err = listErr
			break
		}
		group.Go(func() error {
			l := lookAt(root, c, false)
			mu.Lock()
			defer mu.Unlock()
			if l.problem != nil {
				wrong.add(l.problem)
			} else {
				good.Contents++
				good.Bytes += l.length
			}
			return nil
		})
	}
	_ = group.Wait() // its functions never fail
	if err != nil {
		return Checked{}, fmt.Errorf("check filestore: %w", err)
	}
	done.Amount = good
	done.Problems.Merge(wrong)
	return done, nil
}
