package lab

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A pidFile remembers a server's process, so that a later lab in the same directory can end it.
type pidFile struct {
	PID   int    `json:"pid"`
	Start string `json:"start"` // start time in clock ticks after boot, from /proc/<pid>/stat
	Boot  string `json:"boot"`  // /proc/sys/kernel/random/boot_id
}

// describeProcess reads what identifies a running process; fs.ErrNotExist when there is none.
func describeProcess(pid int) (pidFile, error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	fields, err := readStat(dir)
	if err != nil {
		return pidFile{}, err
	}
	if fields[0] == "Z" || fields[0] == "X" {
		return pidFile{}, fmt.Errorf("read process %d: %w", pid, fs.ErrNotExist)
	}
	// Not the command line: it is empty for a moment after the start.
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return pidFile{}, fmt.Errorf("read boot ID: %w", err)
	}
	return pidFile{PID: pid, Start: fields[19], Boot: strings.TrimSpace(string(boot))}, nil
}

// readStat returns the fields of a stat file that follow the name of the process: the first is the state, the
// twentieth the start time.
func readStat(dir string) ([]string, error) {
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return nil, fmt.Errorf("read process: %w", err)
	}
	// The name stands in parentheses and may hold anything.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 {
		return nil, fmt.Errorf("read process: unexpected format of %s/stat", dir)
	}
	return fields, nil
}

// allStopped reports whether SIGSTOP has reached every thread of the process.
func allStopped(pid int) (bool, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil {
		return false, fmt.Errorf("list threads: %w", err)
	}
	for _, thread := range threads {
		fields, err := readStat(thread)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // this thread has just ended
		}
		if err != nil {
			return false, err
		}
		if fields[0] != "T" {
			return false, nil
		}
	}
	return true, nil
}

// writePIDFile remembers the process; a process that has ended already leaves no file.
func writePIDFile(path string, p *process) error {
	found, err := describeProcess(p.pid)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return writeJSON(path, found)
}

// endLeftovers ends the servers that an earlier lab in this directory left running. The caller holds the lock of
// the directory, so no other lab runs in it.
func endLeftovers(dir string) error {
	paths, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return fmt.Errorf("list processes of an earlier lab: %w", err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read process of an earlier lab: %w", err)
		}
		var was pidFile
		// A half-written file says nothing that could be trusted; the process has died with its supervisor.
		if json.Unmarshal(data, &was) == nil && was.PID > 1 {
			if err := endLeftover(was); err != nil {
				return err
			}
		}
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("forget process of an earlier lab: %w", err)
		}
	}
	return nil
}

// endLeftover kills one process group, if it still is the one remembered, and waits until it is gone.
func endLeftover(was pidFile) error {
	const patience = 10 * time.Second
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		now, err := describeProcess(was.PID)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) || err == nil && now != was {
			return nil
		}
		if err != nil {
			return err
		}
		if err := syscall.Kill(-was.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("end process %d of an earlier lab: %w", was.PID, err)
		}
	}
	return fmt.Errorf("end process %d of an earlier lab: it still runs after %s", was.PID, patience)
}
