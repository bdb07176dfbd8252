package evidence

import (
	"crypto/sha256"
	"encoding/hex"
)

// recordID is a record's ID in binary, see [eventID].
type recordID [sha256.Size]byte

func (id recordID) String() string { return hex.EncodeToString(id[:]) }

// idWindowSize is how many records back an ID is recognised: the newest 65,536
// of the writer, spooled ones included. An agent repeats a happening right away
// or after a restart, so this is far more than it needs, and it keeps memory
// flat.
const idWindowSize = 1 << 16

// idWindow remembers the newest IDs. The zero value is empty.
type idWindow struct {
	index map[recordID]uint64
	order []recordID // ring once full
	next  int
}

func (w *idWindow) add(id recordID, index uint64) {
	if w.index == nil {
		w.index = map[recordID]uint64{}
	}
	if len(w.order) < idWindowSize {
		w.order = append(w.order, id)
	} else {
		if old := w.order[w.next]; w.index[old] != index {
			delete(w.index, old)
		}
		w.order[w.next] = id
		w.next = (w.next + 1) % idWindowSize
	}
	w.index[id] = index
}

func (w *idWindow) find(id recordID) (uint64, bool) {
	index, ok := w.index[id]
	return index, ok
}
