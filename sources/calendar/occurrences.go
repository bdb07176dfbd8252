package calendar

import (
	"math"
	"sort"
	"time"
)

// Times are seconds since 1970 in UTC here: edges are whole minutes, and comparing numbers is cheap.
const (
	never   = math.MinInt64 // before all time
	forever = math.MaxInt64 // after all time
)

// span is one occurrence.
type span struct{ start, end int64 }

// resolver gives the instants of an occurrence from its wall times.
type resolver func(zone *time.Location, start, end time.Time) span

// resolveFreeze gives the longer span where a wall time exists twice.
func resolveFreeze(zone *time.Location, start, end time.Time) span {
	from, _ := Instants(zone, start)
	_, to := Instants(zone, end)
	return span{from.Unix(), to.Unix()}
}

// resolveWindow gives the shorter span where a wall time exists twice, and the first of two if both do.
func resolveWindow(zone *time.Location, start, end time.Time) span {
	first, from := Instants(zone, start)
	to, _ := Instants(zone, end)
	if !from.Before(to) {
		from = first
	}
	return span{from.Unix(), to.Unix()}
}

// occurrences are the spans of one freeze or window, computed from the first on as far as they are asked for and never
// forgotten: what was asked before changes no answer. Not safe for concurrent use.
type occurrences struct {
	zone    *time.Location
	resolve resolver
	next    next
	length  time.Duration // in wall time
	done    bool
	spans   []span // starts and ends ascend; two spans may share a repeated hour
}

// until computes all spans that start at t or earlier, and one that starts later, if there is one.
func (o *occurrences) until(t int64) {
	for !o.done && (len(o.spans) == 0 || o.spans[len(o.spans)-1].start <= t) {
		start, ok := o.next()
		if !ok {
			o.done = true
			return
		}
		s := o.resolve(o.zone, start, start.Add(o.length))
		if s.start < s.end {
			o.spans = append(o.spans, s)
		}
	}
}

// at gives the index of the first span that ends after t. It is the length of spans when none does.
func (o *occurrences) at(t int64) int {
	o.until(t)
	return sort.Search(len(o.spans), func(i int) bool { return o.spans[i].end > t })
}

// active gives the span in force at t.
func (o *occurrences) active(t int64) (span, bool) {
	i := o.at(t)
	if i == len(o.spans) || o.spans[i].start > t {
		return span{}, false
	}
	return o.spans[i], true
}

// startAfter gives the first start after t, or forever.
func (o *occurrences) startAfter(t int64) int64 {
	for i := o.at(t); i < len(o.spans); i++ {
		if o.spans[i].start > t {
			return o.spans[i].start
		}
	}
	return forever
}

// edges gives the last edge at t or earlier, and the first after it.
func (o *occurrences) edges(t int64) (before, after int64) {
	before, after = never, forever
	i := o.at(t)
	if i > 0 {
		before = o.spans[i-1].end
	}
	if i < len(o.spans) {
		if s := o.spans[i]; s.start <= t {
			before, after = s.start, s.end
		} else {
			after = s.start
		}
	}
	return before, after
}
