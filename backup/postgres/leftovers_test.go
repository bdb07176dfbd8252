package postgres

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/purser-gitops/purser/examples/lab/labtest"
)

// waitsFor makes the test binary start a scratch server in a folder, and wait to be killed.
const waitsFor = "wait "

func startAndWait(arguments string) error {
	version, dir, _ := strings.Cut(arguments, " ")
	major, err := strconv.Atoi(version)
	if err != nil {
		return err
	}
	s, err := Scratch(context.Background(), dir, Tools{}, major)
	if err != nil {
		return err
	}
	fmt.Println(s.pid, s.dir)
	_, err = fmt.Scanln() // never comes
	return errors.Join(err, s.Close())
}

// gone waits until a process has ended.
func gone(t testing.TB, pid int) {
	t.Helper()
	labtest.Eventually(t, "end of a process", func(context.Context) error {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return nil
		}
		return fmt.Errorf("process %d still runs", pid)
	})
}

// A process that is killed takes its server along; the folder goes with the next start, and that of a server in use does not.
func TestLeftoversOfKilledProcess(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	major, err := strconv.Atoi(installed(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, command := range map[string][]string{"root": nil, "without rights": {"unshare", "-Ur"}} {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		if command != nil {
			cmd = exec.CommandContext(t.Context(), command[0], append(command[1:], os.Args[0])...)
		}
		cmd.Env = append(os.Environ(), envChild+"="+waitsFor+strconv.Itoa(major)+" "+dir)
		cmd.Stderr = os.Stderr
		input, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		defer input.Close()
		output, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(output).ReadString('\n')
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		number, left, _ := strings.Cut(strings.TrimSpace(line), " ")
		pid, err := strconv.Atoi(number)
		if err != nil {
			t.Fatal(err)
		}
		if removed, err := RemoveLeftovers(t.Context(), dir); err != nil || len(removed) > 0 {
			t.Errorf("%s: while it is in use, %v is removed: %v", name, removed, err)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // was killed
		gone(t, pid)
		if data, err := os.Stat(filepath.Join(left, "data")); err != nil || !data.IsDir() {
			t.Errorf("%s: nothing is left: %v", name, err)
		}
		running, err := Scratch(t.Context(), folder(t), Tools{}, major)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(running.dir, filepath.Join(dir, "scratch-777")); err != nil { // of another agent, and in use
			t.Fatal(err)
		}
		removed, err := RemoveLeftovers(t.Context(), dir)
		if err != nil || len(removed) != 1 || removed[0] != left {
			t.Errorf("%s: removed %v instead of %s: %v", name, removed, left, err)
		}
		if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %s is still there: %v", name, left, err)
		}
		if err := os.Rename(filepath.Join(dir, "scratch-777"), running.dir); err != nil {
			t.Fatal(err)
		}
		if err := running.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A process of a server that outlived the one which started it is ended; nobody else is who happens to be in the folder.
func TestLeftoversThatRun(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	in := filepath.Join(dir, scratchName+"1234")
	for _, path := range []string{"scratch-1234/data", "scratch-of-others", "scratch-12x"} {
		if err := os.MkdirAll(filepath.Join(dir, path), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(t.TempDir(), filepath.Join(dir, "scratch-5")); err != nil {
		t.Fatal(err)
	}
	sleeps := func(set func(*exec.Cmd)) (*exec.Cmd, chan error) {
		cmd := exec.CommandContext(t.Context(), "sleep", "3600")
		cmd.Dir = filepath.Join(in, "data")
		set(cmd)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		return cmd, ended
	}
	_, server := sleeps(func(cmd *exec.Cmd) {
		confine(cmd)
		cmd.SysProcAttr.Pdeathsig = 0
	})
	other, others := sleeps(func(*exec.Cmd) {})
	removed, err := RemoveLeftovers(t.Context(), dir)
	if err != nil || len(removed) != 1 || removed[0] != in {
		t.Errorf("removed %v, %v", removed, err)
	}
	var status *exec.ExitError
	if err := <-server; !errors.As(err, &status) || status.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("the server ended with %v", err)
	}
	select {
	case err := <-others:
		t.Errorf("whoever else was in the folder ended: %v", err)
	default:
	}
	if err := other.Process.Kill(); err != nil {
		t.Error(err)
	}
	<-others
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 3 {
		t.Errorf("left are %v, %v", entries, err)
	}
	if _, err := RemoveLeftovers(t.Context(), filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in a folder that is not there: %v", err)
	}
}
