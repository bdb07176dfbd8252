package health

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/purser-gitops/purser/render"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// Every document under testdata says in its annotations what it should be judged as.
func TestObjects(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) < 9 {
		t.Fatalf("fixtures: %v %v", files, err)
	}
	for _, file := range files {
		for _, u := range fixtures(t, file) {
			want := u.GetAnnotations()
			u.SetAnnotations(nil)
			t.Run(filepath.Base(file)+"/"+want["case"], func(t *testing.T) {
				got := at(render.RefOf(u), u, now)
				if string(got.Status) != want["status"] || got.Cause != want["cause"] || !strings.HasPrefix(got.Message, want["message"]) || want["message"] == "" {
					t.Errorf("got  %s %q %q\nwant %s %q %q", got.Status, got.Cause, got.Message, want["status"], want["cause"], want["message"])
				}
				if ran := Ran(u); ran != (want["ran"] == "true") {
					t.Errorf("it ran: %t", ran)
				}
			})
		}
	}
}

func fixtures(t *testing.T, file string) []*unstructured.Unstructured {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var list []*unstructured.Unstructured
	for dec := yaml.NewYAMLOrJSONDecoder(f, 4096); ; {
		u := &unstructured.Unstructured{}
		if err := dec.Decode(u); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		list = append(list, u)
	}
}

func TestMissing(t *testing.T) {
	ref := render.Ref{Version: "v1", Kind: "Service", Namespace: "north-dev", Name: "web"}
	if got := Of(ref, nil); got.Status != Missing || got.Cause != Application || got.Ref != ref {
		t.Errorf("got %+v", got)
	}
}
