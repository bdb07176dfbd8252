package store_test

import (
	"os"
	"testing"

	"github.com/purser-gitops/purser/examples/lab/labtest"
)

func TestMain(m *testing.M) {
	if store := os.Getenv(envChild); store != "" {
		os.Exit(child(store))
	}
	labtest.Main(m)
}
