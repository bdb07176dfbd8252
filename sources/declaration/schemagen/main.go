// Command schemagen writes the JSON Schema of every declaration into a folder.
// It is run by go generate in the package above it.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/purser-gitops/purser/sources/declaration"
)

func main() {
	out := flag.String("out", "docs/schemas", "folder to write to")
	flag.Parse()
	if err := write(*out); err != nil {
		fmt.Fprintln(os.Stderr, "schemagen:", err)
		os.Exit(1)
	}
}

func write(dir string) error {
	schemas, err := declaration.Schemas()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("create folder: %w", err)
	}
	for name, text := range schemas {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return fmt.Errorf("write schema: %w", err)
		}
	}
	return nil
}
