package backup

import (
	"testing"

	"github.com/purser-gitops/purser/examples/lab/labtest"
)

func TestMain(m *testing.M) { labtest.Main(m) }
