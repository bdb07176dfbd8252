package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/purser-gitops/purser/backup"
	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/reconciler/upkeep"
)

// meter shows how far long work is: on one line of a terminal, or now and then on a line of its own.
type meter struct {
	w        io.Writer
	terminal bool
	now      func() time.Time

	last    string    // what was said of: task and segment
	said    time.Time // when
	started bool      // something stands on the terminal's line
}

// sayEvery is the time between two lines where there is no terminal.
const sayEvery = 10 * time.Second

func newMeter(w io.Writer) *meter {
	file, ok := w.(*os.File)
	return &meter{w: w, terminal: ok && term.IsTerminal(int(file.Fd())), now: time.Now}
}

// Write writes lines beside those of the meter, over the one that stands on the terminal.
func (m *meter) Write(p []byte) (int, error) {
	if m.terminal {
		fmt.Fprint(m.w, "\r\x1b[K")
	}
	return m.w.Write(p)
}

// show says how far a task is.
func (m *meter) show(p reconciler.OrderProgress) {
	line := meterLine(p)
	if m.terminal {
		fmt.Fprintf(m.w, "\r%s\x1b[K", line)
		m.started = true
		return
	}
	about, now := string(p.Task)+" "+p.Segment, m.now()
	if about == m.last && now.Sub(m.said) < sayEvery {
		return
	}
	m.last, m.said = about, now
	fmt.Fprintln(m.w, line)
}

// of shows the progress of a task that goes on in this process.
func (m *meter) of(task upkeep.Task) func(backup.Progress) {
	return func(p backup.Progress) { m.show(reconciler.OrderProgress{Task: task, Progress: p}) }
}

// end clears the terminal's line.
func (m *meter) end() {
	if m.started {
		fmt.Fprint(m.w, "\r\x1b[K")
		m.started = false
	}
}

func meterLine(p reconciler.OrderProgress) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", plain(string(p.Task)), plain(p.Segment))
	if p.Bytes > 0 {
		fmt.Fprintf(&b, ", %s", amount(p.Bytes))
		if p.Total > 0 {
			fmt.Fprintf(&b, " of about %s", amount(max(p.Total, p.Bytes)))
		}
	}
	if p.Rate > 0 {
		fmt.Fprintf(&b, ", %s/s", amount(int64(p.Rate)))
	}
	if p.LeftSeconds >= 0 && p.Total > 0 {
		fmt.Fprintf(&b, ", about %s left", time.Duration(p.LeftSeconds*float64(time.Second)).Round(time.Second))
	}
	return b.String()
}

// amount is a number of bytes for people.
func amount(bytes int64) string {
	const unit = 1000
	if bytes < unit {
		return fmt.Sprintf("%d B", bytes)
	}
	value, names := float64(bytes)/unit, "kMGTPE"
	for value >= unit && len(names) > 1 {
		value, names = value/unit, names[1:]
	}
	return fmt.Sprintf("%.1f %cB", value, names[0])
}
