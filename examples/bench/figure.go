package main

import (
	"fmt"
	"math"
	"slices"
)

// figure is one measured number and the least it could be.
type figure struct {
	Name    string  `json:"name"`
	Value   float64 `json:"value"` // median of the samples
	Unit    string  `json:"unit"`
	Floor   float64 `json:"floor"`   // in the same unit
	Ratio   float64 `json:"ratio"`   // how many times worse than the floor; below 1 it is better
	Samples int     `json:"samples"` // of value
	Note    string  `json:"note"`    // what was done and what the floor is
}

// rate is a figure of which more is better: samples of value and floor are per second.
func rate(name string, value, floor []float64, note string) figure {
	v, f := median(value), median(floor)
	return figure{Name: name, Value: round(v), Unit: "1/s", Floor: round(f), Ratio: round(f / v), Samples: len(value), Note: note}
}

// check refuses a figure that says nothing.
func (f figure) check() error {
	for _, n := range []float64{f.Value, f.Floor, f.Ratio} {
		if n <= 0 || math.IsInf(n, 0) || math.IsNaN(n) {
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

// round keeps four significant digits: more would be noise.
func round(n float64) float64 {
	if n == 0 || math.IsInf(n, 0) || math.IsNaN(n) {
		return n
	}
	scale := math.Pow(10, 3-math.Floor(math.Log10(math.Abs(n))))
	return math.Round(n*scale) / scale
}
