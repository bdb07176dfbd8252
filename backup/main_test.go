package backup

import (
	"fmt"
	"os"
	"testing"

	"github.com/purser-gitops/purser/examples/lab/labtest"
)

func TestMain(m *testing.M) {
	if os.Getenv(envTake) != "" {
		if err := takeChild(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	labtest.Main(m)
}
