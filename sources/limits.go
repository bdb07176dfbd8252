package sources

// Limits bounds what is read from a repository. A zero field takes its default.
type Limits struct {
	FileBytes   int64 // largest file that is read; default 1 MiB
	TreeEntries int64 // most files and directories in one commit; default 100 000
	PackBytes   int64 // most bytes that one fetch may bring; default 512 MiB
	PackObjects int64 // most objects that one fetch may bring; default 1 000 000
	ObjectBytes int64 // largest object, inflated, in a fetched history; default 128 MiB
	CacheBytes  int64 // memory for recently read objects, per repository; default 16 MiB
}

func (l Limits) withDefaults() Limits {
	set := func(v *int64, d int64) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&l.FileBytes, 1<<20)
	set(&l.TreeEntries, 100_000)
	set(&l.PackBytes, 512<<20)
	set(&l.PackObjects, 1_000_000)
	set(&l.ObjectBytes, 128<<20)
	set(&l.CacheBytes, 16<<20)
	return l
}

const (
	maxPathBytes = 4096
	maxRefsBytes = 64 << 20 // what a remote may say about its branches
	maxKeyBytes  = 64 << 10 // a credential file
	maxCABytes   = 1 << 20  // a CA file
	maxLinks     = 16       // links followed in one lookup
	maxLinkBytes = 4096     // longest link target
	maxDepth     = 128      // directories below each other
	maxSizes     = 100_000  // directories remembered as complete
)
