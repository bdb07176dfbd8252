package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/purser-gitops/purser/examples/lab"
)

// asMain makes the test binary behave as the lab command.
const asMain = "PURSER_LAB_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asMain) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func labCommand(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), asMain+"=1")
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		args   []string
		code   int
		output string // part of it
	}{
		{"no command", nil, 2, "Usage:"},
		{"unknown command", []string{"down"}, 2, "Usage:"},
		{"exec without command", []string{"exec"}, 2, "Usage:"},
		{"unknown server", []string{"exec", "-servers", "etcdd", "--", "true"}, 1, `unknown server "etcdd"`},
		{"unknown program", []string{"exec", "-servers", "gitserver", "--", "/nonexistent/program"}, 1, "no such file"},
		{"command's own", []string{"exec", "-servers", "gitserver", "--", "sh", "-c", "exit 7"}, 7, "ready in"},
		{"success", []string{"exec", "-servers", "gitserver", "--", "sh", "-c", "echo joined $PURSER_LAB"}, 0, "joined /"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			cmd := labCommand(t, test.args...)
			out, err := cmd.CombinedOutput()
			if err != nil && !errors.As(err, new(*exec.ExitError)) {
				t.Fatal(err)
			}
			if cmd.ProcessState.ExitCode() != test.code || !strings.Contains(string(out), test.output) {
				t.Errorf("exit code %d, want %d; output:\n%s", cmd.ProcessState.ExitCode(), test.code, out)
			}
		})
	}
}

// A command does not go on without its servers when the lab is killed.
func TestKilledExecEndsItsCommand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	started, ended := filepath.Join(dir, "started"), filepath.Join(dir, "ended")
	script := `trap 'touch ` + ended + `; exit' TERM; touch ` + started + `; while :; do sleep 0.05; done`
	cmd := labCommand(t, "exec", "-dir", dir, "-servers", "gitserver", "--", "sh", "-c", script)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, started)
	if _, err := lab.Join(dir); err != nil {
		t.Errorf("while the command runs: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	waitFor(t, ended)
	if _, err := lab.Join(dir); err == nil {
		t.Error("the lab still runs")
	}
}

// waitFor waits until the file exists.
func waitFor(t *testing.T, path string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		_, err := os.Stat(path)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}
