package backup

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/purser-gitops/purser/backup/postgres"
	"github.com/purser-gitops/purser/backup/store"
)

// progressEvery is how often progress is told.
const progressEvery = time.Second

// Progress is how far a backup is.
type Progress struct {
	Segment     string  `json:"segment"`     // see the names of segments
	Bytes       int64   `json:"bytes"`       // read so far, of database and filestore
	Total       int64   `json:"total"`       // about as many will be; 0 as long as that is not known
	Rate        float64 `json:"rate"`        // bytes per second, of the last seconds
	LeftSeconds float64 `json:"leftSeconds"` // about, for reading; negative if that is not known
}

// A meter knows how far a backup is.
type meter struct {
	mu      sync.Mutex
	segment string
	bytes   int64
	total   int64
	sealed  int64
	rate    float64
}

func (m *meter) begin(segment string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.segment = segment
}

func (m *meter) passed(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bytes += int64(n)
}

func (m *meter) expect(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total += n
}

func (m *meter) stored(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sealed += n
}

func (m *meter) totals() (plain, sealed int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bytes, m.sealed
}

// smooth is the part of the latest rate in the one that is told.
const smooth = 0.3

// progress tells how far it is, passed after the last time that so many bytes were read.
func (m *meter) progress(last int64, passed time.Duration) Progress {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := float64(m.bytes-last) / passed.Seconds(); m.rate == 0 {
		m.rate = now
	} else {
		m.rate += smooth * (now - m.rate)
	}
	p := Progress{Segment: m.segment, Bytes: m.bytes, Rate: m.rate, LeftSeconds: -1}
	if m.total > 0 {
		p.Total = max(m.total, m.bytes)
		if m.rate > 0 {
			p.LeftSeconds = float64(p.Total-p.Bytes) / m.rate
		}
	}
	return p
}

// report tells the progress until the returned function is called.
func (m *meter) report(to func(Progress), every time.Duration) (stop func()) {
	if to == nil {
		return func() {}
	}
	if every <= 0 {
		every = progressEvery
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		last, at := int64(0), time.Now()
		for {
			select {
			case now := <-ticker.C:
				p := m.progress(last, now.Sub(at))
				last, at = p.Bytes, now
				to(p)
			case <-quit:
				return
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}

// measure does a part of something, and notes how long that took. An error says in which part something hung.
func measure(name string, m *meter, now func() time.Time, to *[]Segment, do func() error) error {
	began := now()
	m.begin(name)
	err := do()
	*to = append(*to, Segment{name, began.UTC(), now().Sub(began)})
	if errors.Is(err, postgres.ErrStalled) || errors.Is(err, store.ErrUnanswered) {
		return fmt.Errorf("in segment %s: %w", name, err)
	}
	return err
}
