package backup

import (
	"fmt"
	"os"
	"testing"

	"github.com/purser-gitops/purser/examples/lab/labtest"
)

func TestMain(m *testing.M) {
	if child := map[string]func() error{"take": takeChild, "replicate": replicateChild, "restore": restoreChild}[os.Getenv(envChild)]; child != nil {
		if err := child(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	labtest.Main(m)
}
