package main

import (
	"bytes"
	"testing"
)

// The story is true to its end: every chapter checks what it tells.
func TestDemo(t *testing.T) {
	var told bytes.Buffer
	if err := run(t.Context(), options{out: &told}); err != nil {
		t.Fatalf("%s\ndemo: %v", told.Bytes(), err)
	}
}
