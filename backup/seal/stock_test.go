package seal

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/purser-gitops/purser/examples/lab"
)

// People can undo the sealing with age and zstd alone, and seal so that we can open it.
func TestStockTools(t *testing.T) {
	t.Parallel()
	tool, err := lab.Binary(t.Context(), lab.Age)
	if err != nil {
		t.Fatal(err)
	}
	key := identity(t)
	dir := t.TempDir()
	keyFile := filepath.Join(dir, "key")
	if err := os.WriteFile(keyFile, []byte(key.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	pipe := func(in []byte, name string, args ...string) []byte {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		var out, errOut bytes.Buffer
		cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &errOut
		if err := cmd.Run(); err != nil {
			t.Fatalf("%s: %v: %s", filepath.Base(name), err, errOut.Bytes())
		}
		return out.Bytes()
	}
	for _, size := range []int{0, 1, 300 << 10, 9 << 20} {
		plain := sample(size)
		stream, _ := sealed(t, plain, key.Recipient(), identity(t).Recipient())
		got := pipe(pipe(stream, tool, "-d", "-i", keyFile), "zstd", "-d", "-c")
		if !bytes.Equal(got, plain) {
			t.Errorf("age and zstd give %d bytes of %d", len(got), size)
		}

		theirs := pipe(pipe(plain, "zstd", "-3", "-c"), tool, "-r", key.Recipient().String())
		m, p := newMeter(), newMeter()
		m.add(theirs)
		p.add(plain)
		back, err := open(bytes.NewReader(theirs), Sealed{p.hex(), p.bytes, m.hex(), m.bytes}, key)
		if err != nil || !bytes.Equal(back, plain) {
			t.Errorf("opened %d bytes of %d: %v", len(back), size, err)
		}
	}
}
