package main

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// maxMetrics bounds what is read of one scrape, in bytes. An API server's are some megabytes.
const maxMetrics = 64 << 20

// readSeries passes on every series of one metric in the text format of Prometheus.
// See https://prometheus.io/docs/instrumenting/exposition_formats/.
func readSeries(r io.Reader, metric string, each func(labels map[string]string, value float64)) error {
	lines := bufio.NewScanner(io.LimitReader(r, maxMetrics))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		rest, found := strings.CutPrefix(lines.Text(), metric)
		if !found || rest == "" || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		labels, text, err := readLabels(rest)
		if err != nil {
			return fmt.Errorf("read metric %s: %w", metric, err)
		}
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("read metric %s: %w", metric, err)
		}
		each(labels, value)
	}
	return lines.Err()
}

// readLabels takes `{name="value",…} 1` apart.
func readLabels(text string) (labels map[string]string, value string, err error) {
	labels = map[string]string{}
	inside, found := strings.CutPrefix(text, "{")
	if !found {
		return labels, strings.TrimSpace(text), nil
	}
	for {
		if rest, end := strings.CutPrefix(inside, "}"); end {
			return labels, strings.TrimSpace(rest), nil
		}
		name, rest, found := strings.Cut(inside, "=")
		if !found {
			return nil, "", fmt.Errorf("unexpected %q", inside)
		}
		quoted, err := strconv.QuotedPrefix(rest)
		if err != nil {
			return nil, "", fmt.Errorf("value of label %s: %w", name, err)
		}
		if labels[name], err = strconv.Unquote(quoted); err != nil {
			return nil, "", fmt.Errorf("value of label %s: %w", name, err)
		}
		inside = strings.TrimPrefix(rest[len(quoted):], ",")
	}
}
