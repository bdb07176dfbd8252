package postgres

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
)

// The rights that the documents give to the user of backups are enough for all that is read.
func TestRightsOfTheDocuments(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/backup.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "```sql\n")
	sql, _, found := strings.Cut(after, "```")
	if !found || !strings.Contains(sql, "purser_backup") {
		t.Fatal("the documents name no rights")
	}
	e := labtest.Shared(t, lab.PostgreSQL)
	d, c := seeded(t, e)
	c.User, c.PasswordFile = "backup-"+labtest.Name(t), passwordFile(t, "only")
	execute(t, d.AdminDSN, strings.ReplaceAll(sql, "purser_backup", `"`+c.User+`"`)+fmt.Sprintf(`ALTER ROLE "%s" PASSWORD 'only'`, c.User))
	defer func() { execute(t, d.AdminDSN, fmt.Sprintf(`DROP OWNED BY "%[1]s"; DROP ROLE "%[1]s"`, c.User)) }()
	s := begin(t, c, Options{})
	if err := s.Dump(t.Context(), io.Discard); err != nil {
		t.Error(err)
	}
	if err := s.Roles(t.Context(), io.Discard); err != nil {
		t.Error(err)
	}
	if facts, err := s.Facts(t.Context()); err != nil || facts.SystemIdentifier == "" {
		t.Errorf("facts are %+v, %v", facts, err)
	}
	if prints, err := s.Fingerprints(t.Context()); err != nil || len(prints) == 0 {
		t.Errorf("%d fingerprints, %v", len(prints), err)
	}
	if len(collect(t, &s.Reader)) == 0 {
		t.Error("no attachments")
	}
}
