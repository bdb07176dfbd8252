package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/jackc/pgx/v5"

	"github.com/purser-gitops/purser/backup"
	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
	"github.com/purser-gitops/purser/examples/lab/odoodb"
	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/reconciler/evidence"
)

const shopPolicy = `apiVersion: purser.dev/v1alpha1
kind: BackupPolicy
metadata: {name: shop}
spec:
  schedule: "0 3 * * *"
  timeZone: UTC
  store: near
  retention: {minimum: 72h, daily: 7}
  rpo: 25h
  rto: 1h
  verify: {l1: "0 4 * * *"}
  drills: [{schedule: "0 5 * * *"}]
`

// keeper is an agent that backs up a database with a filestore to a folder, and those who order from it.
type keeper struct {
	*daemon
	lab   *lab.Endpoints
	shop  *lab.Database
	store string   // its folder
	to    []string // flags of a restore that say where the server is
}

func newKeeper(t *testing.T) *keeper {
	t.Helper()
	k := &keeper{daemon: newDaemon(t), lab: labtest.Shared(t, lab.PostgreSQL), store: t.TempDir()}
	k.shop = labtest.Database(t, k.lab)
	if err := odoodb.Seed(t.Context(), odoodb.Options{DSN: k.shop.DSN, Filestore: k.shop.Filestore, Attachments: 40, AttachmentBytes: 2048, Now: time.Now()}); err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(k.lab.PostgresAddress)
	if err != nil {
		t.Fatal(err)
	}
	pgpass, err := os.ReadFile(k.lab.PostgresPassFile())
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(pgpass), ":*:*:"+lab.PostgresOdoo+":")
	password, _, _ := strings.Cut(rest, "\n")
	k.keep("password", password+"\n")
	k.to = []string{"--host", host, "--port", port, "--user", lab.PostgresOdoo, "--tls", "disable", "--password-file", filepath.Join(k.dir, "password")}
	var public []string
	for _, name := range []string{"estate", "escrow"} {
		key, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		k.keep(name+".key", key.String()+"\n")
		public = append(public, key.Recipient().String())
	}
	scratch, err := os.MkdirTemp("", "pb-") // every user may pass through it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(scratch) })
	if err := os.Chmod(scratch, 0o711); err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(k.config)
	if err != nil {
		t.Fatal(err)
	}
	k.keep("purser.yaml", string(config)+fmt.Sprintf(`  backup:
    stores: [{name: near, directory: {path: %s}}]
    databases:
      - {environment: dev, host: %s, port: %s, user: %s, database: %s, passwordFile: password, tls: disable, filestore: %s}
    recipients: [%s]
    identityFile: estate.key
    scratchDir: %s
`, k.store, host, port, lab.PostgresOdoo, k.shop.Name, k.shop.Filestore, strings.Join(public, ", "), scratch))
	return k
}

func (k *keeper) keep(name, text string) {
	k.t.Helper()
	if err := os.WriteFile(filepath.Join(k.dir, name), []byte(text), 0o600); err != nil {
		k.t.Fatal(err)
	}
}

// tells runs a command that must end with the exit code, and returns its output and its errors.
func (k *keeper) tells(code int, args ...string) (stdout, stderr string) {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(k.t.Context(), labtest.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, k.program, args...)
	var out, err bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &err
	if failed := cmd.Run(); failed != nil && !errors.As(failed, new(*exec.ExitError)) {
		k.t.Fatal(failed)
	}
	if got := cmd.ProcessState.ExitCode(); got != code {
		k.t.Fatalf("purser %s ended with %d, not %d:\n%s%s", strings.Join(args, " "), got, code, &out, &err)
	}
	if strings.Contains(out.String()+err.String(), "\x1b") {
		k.t.Errorf("purser %s steers a terminal that is none:\n%q%q", strings.Join(args, " "), &out, &err)
	}
	return out.String(), err.String()
}

// decodes runs a command that must end well, and reads its output as JSON.
func decodes[V any](k *keeper, args ...string) (v V) {
	k.t.Helper()
	out, _ := k.tells(0, append(args, "-o", "json")...)
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		k.t.Fatalf("%v in\n%s", err, out)
	}
	return v
}

func (k *keeper) says(what, said string, want ...string) {
	k.t.Helper()
	for _, w := range want {
		if !strings.Contains(said, w) {
			k.t.Errorf("%s does not say %q:\n%s", what, w, said)
		}
	}
}

// TestBackupCommands makes, verifies, rehearses and restores backups as people do: with an agent, and without one.
func TestBackupCommands(t *testing.T) {
	t.Parallel()
	k := newKeeper(t)
	k.purser(0, "init", "--config", k.config)
	k.write("purser/shop.yaml", shopPolicy)
	k.declare("dev", "apps/dev", "backup: shop")
	k.declare("qa", "apps/qa", "")
	k.write("apps/qa/kustomization.yaml", "configMapGenerator: [{name: qa}]\n")
	k.release("one")
	k.start()
	k.eventually("the declarations are in force", func(context.Context) error { return k.daemon.says(http.StatusOK, "/api/v1/backups", "shop") })

	id := k.orders()
	k.refusals(id)
	k.interrupted()
	k.rehearses(id)
	target := k.restores(id)
	bad := k.damaged()
	k.stop()
	k.withoutAgent(id, bad, target)
}

// orders has a backup made and looks at it.
func (k *keeper) orders() backup.ID {
	k.t.Helper()
	out, _ := k.tells(0, "backup", "now", "dev", "--config", k.config, "--reason", "before a migration", "-o", "json")
	var made madeBackup
	if err := json.Unmarshal([]byte(out), &made); err != nil {
		k.t.Fatalf("%v in\n%s", err, out)
	}
	b := made.Backup.Record
	if b.Manifest == nil || b.Reason != "before a migration" || made.Verification == nil || !made.Verification.Record.Passed || made.Verification.Record.ID != b.ID {
		k.t.Fatalf("made %s", out)
	}
	list := decodes[[]reconciler.BackupStatus](k, "backup", "list", "dev", "--server", k.server)
	if len(list) != 1 || list[0].Policy != "shop" || list[0].RPO != 25*time.Hour || len(list[0].Lanes) != 2 || list[0].Problem != "" {
		k.t.Errorf("listed %+v", list)
	}
	all, _ := k.tells(0, "backup", "list", "--server", k.server)
	k.says("the list", all, "ENVIRONMENT", string(b.ID), "  L1  ")
	show, _ := k.tells(0, "backup", "show", "dev", string(b.ID), "--server", k.server)
	k.says("the backup", show, "every backup is kept for 72h0m0s", "passed L1, last read to its end at", b.Manifest.SHA256, "before a migration")
	looked, _ := k.tells(0, "backup", "verify", "dev", "--level", "L2", "--config", k.config)
	k.says("the verification", looked, "L2 of", "passed")
	table, _ := k.tells(0, "backup", "now", "dev", "--config", k.config, "--verify", "none")
	k.says("the backup", table, "Snapshot", "new attachments", "Record")
	return b.ID
}

// refusals are of what cannot be ordered.
func (k *keeper) refusals(id backup.ID) {
	k.t.Helper()
	info, err := os.Stat(filepath.Join(k.dir, "data", "control.sock"))
	if err != nil || info.Mode().Perm() != 0o600 {
		k.t.Errorf("the control socket is %v, %v", info.Mode(), err)
	}
	for _, refused := range []struct {
		code int
		says string
		args []string
	}{
		{1, "purser status lists the environments", []string{"backup", "now", "uat"}},
		{1, "names no BackupPolicy", []string{"backup", "now", "qa"}},
		{2, "no name of an environment", []string{"backup", "now", "../dev"}},
		{2, "no name of an environment", []string{"drill", "now", "dev/orders"}},
		{1, "knows no backup", []string{"backup", "verify", "dev", "../../manifest.json"}},
		{1, "knows no backup", []string{"backup", "verify", "dev", string(id), "--store", "far"}},
		{1, "knows no backup", []string{"drill", "now", "dev", "--id", "nothing"}},
		{1, "no control characters", []string{"backup", "now", "dev", "--reason", "one\x1b[2Jtwo"}},
		{1, "500 bytes at most", []string{"backup", "now", "dev", "--reason", strings.Repeat("x", 501)}},
		{1, "the order", []string{"backup", "now", "dev", "--reason", strings.Repeat("x", 60_000)}},
		{2, "none, L0, L1 and L2", []string{"backup", "now", "dev", "--verify", "L3"}},
		{2, "latest nor random", []string{"drill", "now", "dev", "--point", "oldest"}},
	} {
		_, said := k.tells(refused.code, append(refused.args, "--config", k.config)...)
		k.says(strings.Join(refused.args[:3], " "), said, refused.says)
	}
	for code, args := range map[string][]string{
		"no such environment": {"backup", "list", "uat"}, "there is no backup": {"backup", "show", "dev", "nothing"}, "is no drill": {"drill", "show", "dev", "0"},
	} {
		_, said := k.tells(1, append(args, "--server", k.server)...)
		k.says(strings.Join(args, " "), said, code)
	}
	response, err := http.Post(k.server+"/api/v1/environments/dev/orders", "application/json", strings.NewReader(`{"task":"backup"}`))
	if err != nil {
		k.t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusNotFound {
		k.t.Errorf("an order over the network: %s", response.Status)
	}
}

// interrupted kills whoever ordered a backup while it is made.
func (k *keeper) interrupted() {
	k.t.Helper()
	conn, err := pgx.Connect(k.t.Context(), k.shop.AdminDSN)
	if err != nil {
		k.t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(k.t.Context()))
	if _, err := conn.Exec(k.t.Context(), "BEGIN; LOCK TABLE res_partner IN ACCESS EXCLUSIVE MODE"); err != nil {
		k.t.Fatal(err)
	}
	before := k.copies()
	for _, signal := range []os.Signal{syscall.SIGKILL, syscall.SIGINT} {
		client := exec.Command(k.program, "backup", "now", "dev", "--config", k.config)
		progress := &logBuffer{}
		client.Stderr = progress
		if err := client.Start(); err != nil {
			k.t.Fatal(err)
		}
		k.eventually("the backup is under way", func(context.Context) error {
			if said := progress.String(); !strings.Contains(said, "backup: ") {
				return fmt.Errorf("the client says %q", said)
			}
			return k.taking("backup")
		})
		if err := client.Process.Signal(signal); err != nil {
			k.t.Error(err)
		}
		_ = client.Wait() // it was killed
		k.eventually("nothing is under way any more", func(context.Context) error { return k.taking("") })
	}
	if _, err := conn.Exec(k.t.Context(), "ROLLBACK"); err != nil {
		k.t.Fatal(err)
	}
	if after := k.copies(); after != before {
		k.t.Errorf("after interrupted backups there are %d, before %d", after, before)
	}
}

// taking says whether that is what goes on in the lane in which backups are made.
func (k *keeper) taking(task string) error {
	var s reconciler.BackupStatus
	k.decode("/api/v1/environments/dev/backups", &s)
	if got := string(s.Lanes[0].Running); got != task {
		return fmt.Errorf("what goes on is %q", got)
	}
	return nil
}

func (k *keeper) copies() int {
	var s reconciler.BackupStatus
	k.decode("/api/v1/environments/dev/backups", &s)
	return len(s.Backups.Copies)
}

// rehearses has a restore rehearsed.
func (k *keeper) rehearses(id backup.ID) {
	k.t.Helper()
	d := decodes[recorded[evidence.RestoreTest]](k, "drill", "now", "dev", "--id", string(id), "--config", k.config)
	if !d.Record.Passed || d.Record.ID != id {
		k.t.Errorf("drill %+v", d)
	}
	list := decodes[[]recorded[evidence.RestoreTest]](k, "drill", "list", "dev", "--server", k.server)
	if len(list) == 0 || list[len(list)-1].Index != d.Index {
		k.t.Errorf("drills %+v", list)
	}
	table, _ := k.tells(0, "drill", "list", "--server", k.server)
	k.says("the list", table, "RTO", string(id), "true")
	show, _ := k.tells(0, "drill", "show", "dev", strconv.FormatUint(d.Index, 10), "--server", k.server)
	k.says("the drill", show, "passed", "objective 1h0m0s", "is out of reach", "proven, in")
}

// target names a database and a folder that are dropped at the end of the test.
func (k *keeper) target(name string) (*lab.Database, []string) {
	k.t.Helper()
	d := k.lab.Database(k.shop.Name[:min(len(k.shop.Name), 40)] + "-" + name)
	k.t.Cleanup(func() {
		if err := k.lab.DropDatabase(context.WithoutCancel(k.t.Context()), d); err != nil {
			k.t.Log(err)
		}
	})
	return d, append([]string{"--database", d.Name, "--filestore", d.Filestore, "--config", k.config}, k.to...)
}

func (k *keeper) sound(d *lab.Database) {
	k.t.Helper()
	if report, err := odoodb.Check(k.t.Context(), d.DSN, d.Filestore); err != nil || report.Err() != nil || report.Attachments < 40 {
		k.t.Errorf("restored is %+v, %v", report, err)
	}
}

// restores into what is not there, and then in its place.
func (k *keeper) restores(id backup.ID) (flags []string) {
	k.t.Helper()
	d, flags := k.target("r")
	restore := append([]string{"backup", "restore", "dev", string(id), "--server", k.server}, flags...)
	out, _ := k.tells(0, restore...)
	k.says("the restore", out, "Restored", d.Name, d.Filestore)
	k.sound(d)

	_, refused := k.tells(unconfirmed, restore...)
	host := k.to[1]
	want := fmt.Sprintf("replace database %q at %s:%s as %q and %s by %s", d.Name, host, k.to[3], lab.PostgresOdoo, d.Filestore, id)
	k.says("the refusal", refused, "there is something at the target", fmt.Sprintf("%q", want))
	for _, wrong := range []string{"yes", strings.Replace(want, d.Name, k.shop.Name, 1), want + "x"} {
		k.tells(unconfirmed, append(restore, "--confirm", wrong)...)
	}
	k.sound(d)
	again := decodes[backup.Restored](k, append(restore, "--confirm", want)...)
	if again.AsideDatabase == "" || again.AsideFilestore == "" {
		k.t.Errorf("restored %+v", again)
	}
	k.sound(d)
	k.dropLater("database " + again.AsideDatabase + "\nfolder " + again.AsideFilestore + "\n")
	if code, shown := onTerminal(k.t, k.program, restore, "To go on, type:", "yes"); code != unconfirmed || !strings.Contains(shown, want) {
		k.t.Errorf("after another text was typed it ends with %d:\n%s", code, shown)
	}
	code, shown := onTerminal(k.t, k.program, restore, "To go on, type:", want)
	k.says("the restore on a terminal", shown, "Restored", "Kept aside  database", "Kept aside  folder")
	if code != 0 {
		k.t.Errorf("after the text was typed it ends with %d", code)
	}
	k.sound(d)
	k.dropLater(shown)
	_, said := k.tells(1, append(restore, "--store", "far")...)
	k.says("another store", said, `in store "far"`)
	k.tells(2, "backup", "restore", "dev", string(id), "--config", k.config)
	return flags
}

// dropLater removes, at the end of the test, what a restore says that it put aside.
func (k *keeper) dropLater(said string) {
	k.t.Helper()
	found := regexp.MustCompile(`database (\S+-before-\S+)\s(?s:.*)folder (\S+\.before-\S+)`).FindStringSubmatch(said)
	if found == nil {
		k.t.Fatalf("nothing was put aside:\n%s", said)
	}
	k.t.Cleanup(func() {
		aside := k.lab.Database(found[1])
		aside.Filestore = found[2]
		if err := k.lab.DropDatabase(context.WithoutCancel(k.t.Context()), aside); err != nil {
			k.t.Log(err)
		}
	})
}

// damaged makes a backup and breaks it.
func (k *keeper) damaged() backup.ID {
	k.t.Helper()
	made := decodes[madeBackup](k, "backup", "now", "dev", "--config", k.config)
	id := made.Backup.Record.ID
	file := filepath.Join(k.store, filepath.FromSlash(backup.Key("dev", id, backup.DatabaseName)))
	data, err := os.ReadFile(file)
	if err != nil {
		k.t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := errors.Join(os.Chmod(file, 0o600), os.WriteFile(file, data, 0o600)); err != nil {
		k.t.Fatal(err)
	}
	out, said := k.tells(notGood, "backup", "verify", "dev", string(id), "--config", k.config)
	k.says("the verification", out, "findings: 1", "Found")
	k.says("the verification", said, "is not what it should be")
	show, _ := k.tells(0, "backup", "show", "dev", string(id), "--server", k.server)
	k.says("the backup", show, "failed L1")
	return id
}

// withoutAgent reads the log alone.
func (k *keeper) withoutAgent(id, bad backup.ID, old []string) {
	k.t.Helper()
	_, said := k.tells(1, append([]string{"backup", "restore", "dev", string(id), "--server", k.server}, old...)...)
	k.says("a restore without agent", said, "--audit remote")
	_, said = k.tells(1, "backup", "now", "dev", "--config", k.config)
	k.says("an order without agent", said, "while purser run is up")

	clone := filepath.Join(k.t.TempDir(), "audit.git")
	k.git("clone", "--quiet", "--mirror", k.audit.URL, clone)
	for _, audit := range [][]string{{"--audit", "remote", "--config", k.config}, {"--audit", clone, "--keys", filepath.Join(k.dir, "signing.pub")}} {
		list, _ := k.tells(0, append([]string{"backup", "list", "dev"}, audit...)...)
		k.says("the list", list, string(id), string(bad))
		show, _ := k.tells(0, append([]string{"backup", "show", "dev", string(id)}, audit...)...)
		k.says("the backup", show, "passed L")
		drills, _ := k.tells(0, append([]string{"drill", "list"}, audit...)...)
		k.says("the drills", drills, string(id))
		_, said := k.tells(1, append([]string{"backup", "list", "qa"}, audit...)...)
		k.says("the list", said, "knows no backups")
	}
	k.purser(0, "keygen", filepath.Join(k.dir, "other"))
	k.tells(evidence.ExitTampered, "backup", "list", "--audit", clone, "--keys", filepath.Join(k.dir, "other.pub"))

	d, flags := k.target("a")
	escrow := []string{"--identity", filepath.Join(k.dir, "escrow.key"), "--audit", "remote"}
	out, said := k.tells(notGood, append(append([]string{"backup", "restore", "dev", string(bad)}, flags...), escrow...)...)
	k.says("a damaged backup", out+said, "Not restored", "unfit")
	if _, err := os.Stat(d.Filestore); !errors.Is(err, os.ErrNotExist) {
		k.t.Errorf("the filestore of what was not restored: %v", err)
	}
	restored := decodes[backup.Restored](k, append(append([]string{"backup", "restore", "dev", string(id)}, flags...), escrow...)...)
	if restored.ID != id {
		k.t.Errorf("restored %+v", restored)
	}
	k.sound(d)
}
