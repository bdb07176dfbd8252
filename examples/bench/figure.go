package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
)

// figure is one measured number and the least it could be.
type figure struct {
	Name    string  `json:"name"`
	Value   float64 `json:"value"` // median of the samples, unless the name says another quantile
	Unit    string  `json:"unit"`
	Floor   float64 `json:"floor"`   // in the same unit
	Ratio   float64 `json:"ratio"`   // how many times worse than the floor; below 1 it is better
	Samples int     `json:"samples"` // of value
	Note    string  `json:"note"`    // what was done and what the floor is

	mayBeNothing bool // 0 is a measurement and no lack of one
}

// rate is a figure of which more is better: samples of value and floor are per second.
func rate(name string, value, floor []float64, note string) figure {
	v, f := median(value), median(floor)
	return figure{Name: name, Value: round(v), Unit: "1/s", Floor: round(f), Ratio: round(f / v), Samples: len(value), Note: note}
}

// cost is a figure of which less is better: seconds, bytes, requests.
func cost(name, unit string, value, floor float64, samples int, note string) figure {
	return figure{Name: name, Value: round(value), Unit: unit, Floor: round(floor), Ratio: round(value / floor), Samples: samples, Note: note}
}

// spare is a cost that is best when it is nothing at all. A floor of nothing counts as the least that can be seen, in
// the unit of the figure: the ratio of nothing to nothing is 1, and that of a value to nothing is how often it holds
// the least.
func spare(name, unit string, value, floor, least float64, samples int, note string) figure {
	return figure{
		Name: name, Value: round(value), Unit: unit, Floor: round(floor), Samples: samples, Note: note,
		Ratio: round(max(value, least) / max(floor, least)), mayBeNothing: true,
	}
}

// check refuses a figure that says nothing.
func (f figure) check() error {
	for _, n := range []float64{f.Value, f.Floor, f.Ratio} {
		if n < 0 || n == 0 && !f.mayBeNothing || math.IsInf(n, 0) || math.IsNaN(n) {
			return fmt.Errorf("%s was not measured: value %g, floor %g", f.Name, f.Value, f.Floor)
		}
	}
	return nil
}

// median is NaN of no samples.
func median(samples []float64) float64 {
	if len(samples) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(samples))
	middle := len(sorted) / 2
	if len(sorted)%2 == 0 {
		return (sorted[middle-1] + sorted[middle]) / 2
	}
	return sorted[middle]
}

// quantile is the smallest sample that at least the share q of all samples does not exceed; NaN of no samples.
func quantile(samples []float64, q float64) float64 {
	if len(samples) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(samples))
	return sorted[min(max(int(math.Ceil(q*float64(len(sorted))))-1, 0), len(sorted)-1)]
}

// round keeps four significant digits: more would be noise.
func round(n float64) float64 {
	rounded, err := strconv.ParseFloat(strconv.FormatFloat(n, 'g', 4, 64), 64)
	if err != nil {
		return n
	}
	return rounded
}
