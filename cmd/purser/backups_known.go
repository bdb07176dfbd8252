package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/purser-gitops/purser/backup"
	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/upkeep"
	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/declaration"
)

const knownHelp = `
What is known of backups says the running agent (--server, or where --config says it listens) or, with --audit,
the audit log alone, as when the agent's machine is lost: --audit DIR reads a clone of the audit
repository, --audit remote fetches the repository that --config names. Every record's signature is verified with
the keys of --keys, or with those that --config trusts; an altered log is refused. Warnings go to standard error.`

// remoteAudit stands for the repository of the configuration.
const remoteAudit = "remote"

// knowledge is where it is asked what backups there are.
type knowledge struct {
	agent       address
	audit, keys string
	command     *cobra.Command // its standard error gets warnings
	log         *auditLog      // once it was read
}

func (k *knowledge) flags(cmd *cobra.Command) {
	k.agent.flags(cmd)
	k.auditFlags(cmd)
}

func (k *knowledge) auditFlags(cmd *cobra.Command) {
	k.command = cmd
	cmd.Flags().StringVar(&k.audit, "audit", "", `read the audit log instead of asking the agent: folder of a clone, or "remote" for the repository of --config`)
	cmd.Flags().StringVar(&k.keys, "keys", "", "with --audit: file with the public keys of the writers you trust, one a line (default: those of --config)")
}

// checkEnvironment refuses names that would be paths.
func checkEnvironment(name string) error {
	if name == "" || len(name) > 253 || slices.ContainsFunc([]byte(name), func(c byte) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.'
	}) || name[0] == '.' {
		return exit{usageExit, fmt.Errorf("%q is no name of an environment", name)}
	}
	return nil
}

// of is what is known of one environment.
func (k *knowledge) of(ctx context.Context, environment string) (reconciler.BackupStatus, error) {
	var s reconciler.BackupStatus
	if err := checkEnvironment(environment); err != nil {
		return s, err
	}
	if k.audit == "" {
		return s, k.agent.ask(ctx, "environments/"+url.PathEscape(environment)+"/backups", &s)
	}
	l, err := k.read(ctx)
	if err != nil {
		return s, err
	}
	s, found := l.statuses[environment]
	if !found {
		return s, fmt.Errorf("the log knows no backups of environment %q", environment)
	}
	return s, nil
}

// all is what is known of all environments that have backups, or are to have some.
func (k *knowledge) all(ctx context.Context) ([]reconciler.BackupStatus, error) {
	list := []reconciler.BackupStatus{}
	if k.audit == "" {
		return list, k.agent.ask(ctx, "backups", &list)
	}
	l, err := k.read(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(l.statuses)) {
		list = append(list, l.statuses[name])
	}
	return list, nil
}

// drills are the recorded drills of an environment, the oldest first.
func (k *knowledge) drills(ctx context.Context, environment string) ([]reconciler.OrderRecord, error) {
	list := []reconciler.OrderRecord{}
	if err := checkEnvironment(environment); err != nil {
		return nil, err
	}
	if k.audit == "" {
		return list, k.agent.ask(ctx, "environments/"+url.PathEscape(environment)+"/drills", &list)
	}
	l, err := k.read(ctx)
	if err != nil {
		return nil, err
	}
	return append(list, l.drills[environment]...), nil
}

// auditLog is what an audit log says of backups.
type auditLog struct {
	statuses map[string]reconciler.BackupStatus
	drills   map[string][]reconciler.OrderRecord

	backups map[source]*upkeep.Backups
	plans   map[string]map[string]evidence.Record // newest retention with a plan, by environment and store
	newest  map[string]source                     // by environment: whose record of it is the newest
	at      map[string]time.Time
}

// source is a log's writer and an environment.
type source struct{ writer, environment string }

// read verifies the log, and folds what it says of backups. It does so once.
func (k *knowledge) read(ctx context.Context) (*auditLog, error) {
	if k.log != nil {
		return k.log, nil
	}
	dir := k.audit
	config, err := k.configuration()
	if err != nil {
		return nil, err
	}
	trusted, err := k.trusted(config)
	if err != nil {
		return nil, err
	}
	if dir == remoteAudit {
		if dir, err = os.MkdirTemp("", "purser-audit-"); err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		if err := evidence.Clone(ctx, evidence.Remote{URL: config.Audit.URL, Auth: sources.Auth(config.Audit.Auth)}, dir); err != nil {
			return nil, err
		}
	}
	l := &auditLog{
		statuses: map[string]reconciler.BackupStatus{}, drills: map[string][]reconciler.OrderRecord{}, backups: map[source]*upkeep.Backups{},
		plans: map[string]map[string]evidence.Record{}, newest: map[string]source{}, at: map[string]time.Time{},
	}
	report, err := evidence.Verify(ctx, dir, trusted, evidence.VerifyOptions{OnRecord: func(r evidence.Record, _ []byte) error { return l.fold(r) }})
	if err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	switch code := report.ExitCode(); code {
	case evidence.ExitComplete:
	case evidence.ExitTampered, evidence.ExitUnreadable:
		return nil, checked{report}.explain()
	default: // each record that was read is signed and in its place; what lacks does not make a backup worse
		fmt.Fprintf(k.command.ErrOrStderr(), "purser: warning: %s\n", plain(checked{report}.explain().Error()))
	}
	if err := l.conclude(dir); err != nil {
		return nil, err
	}
	k.log = l
	return l, nil
}

// configuration is the agent's, if it is needed.
func (k *knowledge) configuration() (*declaration.AgentConfig, error) {
	if k.agent.config == "" && k.audit != remoteAudit && k.keys != "" {
		return nil, nil
	}
	if k.agent.config == "" {
		k.agent.config = "purser.yaml"
	}
	return declaration.LoadAgent(k.agent.config)
}

// trusted are the keys whose records count.
func (k *knowledge) trusted(config *declaration.AgentConfig) (*evidence.Trusted, error) {
	switch {
	case k.keys != "":
		return evidence.LoadTrusted(k.keys)
	case config.Audit.TrustedKeysFile != "":
		return evidence.LoadTrusted(config.Audit.TrustedKeysFile)
	}
	own, err := evidence.LoadKey(config.Audit.SigningKeyFile)
	if err != nil {
		return nil, &sources.HintError{Err: fmt.Errorf("load the signing key, the only one that the configuration trusts: %w", err), Hint: "name a file with its public key: --keys"}
	}
	return evidence.Trust(own.Public()), nil
}

func (l *auditLog) fold(r evidence.Record) error {
	switch r.Type {
	case evidence.TypeState:
		return l.foldState(r)
	case evidence.TypeBackup, evidence.TypeVerification, evidence.TypeRestoreTest, evidence.TypeReplication, evidence.TypeRetention:
	default:
		return nil
	}
	from := source{r.Writer, r.Environment}
	b := l.backups[from]
	if b == nil {
		b = &upkeep.Backups{}
		l.backups[from] = b
	}
	l.saw(from, r.Time)
	if r.Type == evidence.TypeRestoreTest {
		l.drills[r.Environment] = append(l.drills[r.Environment], reconciler.OrderRecord{Index: r.Index, Type: r.Type, Predicate: r.Predicate})
	}
	if err := b.Fold(r); err != nil {
		return fmt.Errorf("record %d: %w", r.Index, err)
	}
	if r.Type == evidence.TypeRetention && len(r.Blobs) > 0 {
		var p evidence.Retention
		if err := json.Unmarshal(r.Predicate, &p); err != nil {
			return fmt.Errorf("record %d: %w", r.Index, err)
		}
		if l.plans[r.Environment] == nil {
			l.plans[r.Environment] = map[string]evidence.Record{}
		}
		l.plans[r.Environment][p.Store] = r
	}
	return nil
}

// foldState takes what a writer knew when it began a further branch: the branches before may not be there.
func (l *auditLog) foldState(r evidence.Record) error {
	var p evidence.State
	if err := json.Unmarshal(r.Predicate, &p); err != nil {
		return fmt.Errorf("record %d: %w", r.Index, err)
	}
	var state struct {
		Environments map[string]struct {
			Backups upkeep.Backups `json:"backups"`
		} `json:"environments"`
	}
	if err := json.Unmarshal(p.State, &state); err != nil {
		return fmt.Errorf("record %d: %w", r.Index, err)
	}
	for name, e := range state.Environments {
		if len(e.Backups.Runs) > 0 {
			from := source{r.Writer, name}
			l.backups[from] = &e.Backups
			if _, known := l.newest[name]; !known {
				l.saw(from, r.Time)
			}
		}
	}
	return nil
}

// saw notes whose word on an environment is the newest.
func (l *auditLog) saw(from source, at time.Time) {
	if !at.Before(l.at[from.environment]) {
		l.newest[from.environment], l.at[from.environment] = from, at
	}
}

// conclude says of each environment what is known.
func (l *auditLog) conclude(dir string) error {
	for name, from := range l.newest {
		s := reconciler.BackupStatus{Environment: name, Backups: *l.backups[from]}
		if made := s.Backups.Made; made != nil {
			s.Policy, s.Store = made.Policy, made.Store
		}
		for in, r := range l.plans[name] {
			decisions, err := decisionsOf(dir, r)
			if errors.Is(err, evidence.ErrErased) {
				continue
			}
			if err != nil {
				return err
			}
			if s.Retention == nil {
				s.Retention = map[string][]backup.Decision{}
			}
			s.Retention[in] = decisions
		}
		l.statuses[name] = s
	}
	return nil
}

// decisionsOf reads why backups were kept by a plan.
func decisionsOf(dir string, r evidence.Record) ([]backup.Decision, error) {
	for _, b := range r.Blobs {
		if b.Name != "plan" {
			continue
		}
		text, err := evidence.ReadBlob(dir, b)
		if err != nil {
			return nil, fmt.Errorf("read the plan of record %d: %w", r.Index, err)
		}
		var p backup.RetentionPlan
		if err := json.Unmarshal(text, &p); err != nil {
			return nil, fmt.Errorf("read the plan of record %d: %w", r.Index, err)
		}
		return p.Decisions, nil
	}
	return nil, nil
}

func drillNumber(text string) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, exit{usageExit, fmt.Errorf("%q is no index of a record", text)}
	}
	return n, nil
}
