package evidence

import (
	"strings"
	"testing"
)

func TestAppendPublishVerify(t *testing.T) {
	for name, url := range map[string]func(f *fixture) string{
		"file": func(f *fixture) string { return "file://" + f.bare },
		"http": func(f *fixture) string { return serve(t, strings.TrimSuffix(f.bare, "/audit.git")).URL + "/audit.git" },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.o.Remote.URL = url(f)
			l := f.run()
			f.wait(f.add(3).Index)
			d := applyDraft(1000)
			d.Blobs = []Blob{{Name: "diff", Data: []byte("- old\n+ new\n")}}
			d.Keep = []Keep{{Ref: "refs/purser/keep/north-dev/live", Files: map[string][]byte{"release.json": []byte("{}"), "in/put": []byte("x")}}}
			r, err := l.Append(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			f.wait(r.Index)
			f.close()
			report := f.verified(4)
			if report.Blobs.Present != 1 || len(report.Notes) > 0 {
				t.Errorf("report %+v", report)
			}
			if log := git(t, f.bare, "show", "audit/2026:records/00/00/00/03.json"); !strings.Contains(log, `"keyid":"SHA256:`) {
				t.Error(log)
			}
		})
	}
}
