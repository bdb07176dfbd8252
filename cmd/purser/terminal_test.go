package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/purser-gitops/purser/backup"
	"github.com/purser-gitops/purser/examples/lab/labtest"
	"github.com/purser-gitops/purser/reconciler"
)

// onTerminal runs a program on a terminal of its own. Once it has said a text, the answer is typed. It returns the exit code and
// everything that was on the terminal.
func onTerminal(t *testing.T, program string, args []string, text, answer string) (code int, shown string) {
	t.Helper()
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	if err := unix.IoctlSetPointerInt(int(terminal.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(terminal.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	side, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = side, side, side
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	side.Close()
	watch := time.AfterFunc(labtest.Patience, func() { _ = cmd.Process.Kill() })
	defer watch.Stop()
	var all strings.Builder
	typed := false
	for part := make([]byte, 4096); ; {
		n, err := terminal.Read(part)
		all.Write(part[:n])
		if !typed && strings.Contains(all.String(), text) {
			typed = true
			if _, err := terminal.WriteString(answer + "\n"); err != nil {
				t.Fatal(err)
			}
		}
		if err != nil { // nobody is at the other side any more
			break
		}
	}
	_ = cmd.Wait() // the exit code says it
	return cmd.ProcessState.ExitCode(), all.String()
}

// Where there is no terminal, progress is a line now and then, and none steers one.
func TestMeter(t *testing.T) {
	t.Parallel()
	p := reconciler.OrderProgress{Task: "backup", Progress: backup.Progress{Segment: "database", Bytes: 1_500_000, Total: 3_000_000, Rate: 500_000, LeftSeconds: 3}}
	now := time.Date(2026, 11, 22, 10, 15, 0, 0, time.UTC)
	var lines strings.Builder
	m := newMeter(&lines)
	m.now = func() time.Time { return now }
	for range 25 { // seconds
		m.show(p)
		now = now.Add(time.Second)
	}
	p.Segment, p.Bytes, p.Total, p.Rate, p.LeftSeconds = "fin\x1b[2Jish", 0, 0, 0, -1
	m.show(p)
	m.end()
	line := "backup: database, 1.5 MB of about 3.0 MB, 500.0 kB/s, about 3s left\n"
	if want := strings.Repeat(line, 3) + "backup: fin [2Jish\n"; lines.String() != want {
		t.Errorf("said\n%q, not\n%q", lines.String(), want)
	}
	lines.Reset()
	m.terminal = true
	m.show(p)
	m.end()
	m.end()
	if want := "\rbackup: fin [2Jish\x1b[K\r\x1b[K"; lines.String() != want {
		t.Errorf("on a terminal: %q, not %q", lines.String(), want)
	}
	for bytes, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 1_234_567_890: "1.2 GB", 1<<63 - 1: "9.2 EB"} {
		if got := amount(bytes); got != want {
			t.Errorf("%d bytes are %s, not %s", bytes, got, want)
		}
	}
}
