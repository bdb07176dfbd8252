package store

import "testing"

// Parts grow so that S3's ten thousand hold almost a tebibyte, and their memory is bounded.
func TestPartSizes(t *testing.T) {
	t.Parallel()
	total := 0
	for number := 1; number <= maxParts; number++ {
		size := partSize(firstPart, number)
		total += size
		if memory := size * partsAtOnce(size); memory > partMemory && memory != size || memory > 256<<20 {
			t.Errorf("part %d: %d bytes of memory", number, memory)
		}
	}
	if want := 968 << 30; total < want {
		t.Errorf("%d bytes fit, want %d", total, want)
	}
}
