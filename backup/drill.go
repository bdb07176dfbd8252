package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"time"

	"filippo.io/age"

	"github.com/purser-gitops/purser/backup/postgres"
	"github.com/purser-gitops/purser/backup/store"
	"github.com/purser-gitops/purser/sources/declaration"
)

// ErrNoPoint says that there is no verified backup to restore.
var ErrNoPoint = errors.New("there is no verified backup from before the failure")

// Names of segments of a drill, besides [SegmentDatabase] and [SegmentAttachments].
const (
	SegmentChoose    = "choose"    // a backup is chosen, its manifest read
	SegmentServer    = "server"    // a scratch server starts
	SegmentIsolation = "isolation" // it tries to reach the source
	SegmentChecks    = "checks"    // what was restored is compared
)

// A DrillSource is where a drill finds backups.
type DrillSource struct {
	Store       examiner
	Environment string
	Records     []Record       // of the evidence log
	Identities  []age.Identity // one of which opens every stream
}

// An Address is that of a server that a scratch server must not reach: a host, or the folder of a Unix socket, and a port.
type Address struct {
	Host string `json:"host"`
	Port int    `json:"port"`
}

// DrillOptions say how a restore is rehearsed.
type DrillOptions struct {
	ProofOptions // its RPO is the objective as well
	RTO          time.Duration
	Point        string             // [declaration.PointLatest], also for "", or [declaration.PointRandom]
	Random       func(n int) int    // a number from 0 to n-1; a random point needs it
	Declared     time.Time          // when the failure is supposed to have happened; zero for the time at which the drill begins
	Sources      []Address          // that the restored database must not reach: the database it comes from, at least
	dial         func(string) error // nil means by TCP
}

// An Isolation says that a source is out of reach of what was restored.
type Isolation struct {
	postgres.Attempt
	// FromHere says that the drill itself reaches it at the same time. If it does not, such as after a real failure, the
	// attempt alone proves nothing; that the server's network has no links is checked in any case.
	FromHere bool `json:"fromHere"`
}

// A Teardown says what became of the scratch server.
type Teardown struct {
	Proven  bool          `json:"proven"` // no process and no file of it is left
	Took    time.Duration `json:"took"`
	Problem string        `json:"problem,omitempty"`
}

// A DrillReport says what a rehearsed restore has shown.
type DrillReport struct {
	Environment string       `json:"environment"`
	Point       string       `json:"point"`
	Candidates  int          `json:"candidates"` // backups that it could have been
	ID          ID           `json:"id"`
	Manifest    store.Object `json:"manifest"`

	Declared time.Time     `json:"declared"` // failure
	Snapshot time.Time     `json:"snapshot"` // what was committed later is lost
	RPO      time.Duration `json:"rpo"`      // from the snapshot to the failure; 0 if that came before
	WantRPO  time.Duration `json:"wantRPO"`  // objective; 0 for none

	Began    time.Time     `json:"began"`
	Segments []Segment     `json:"segments"`
	RTO      time.Duration `json:"rto"`     // from the beginning to the end of the checks; 0 if it did not get there
	WantRTO  time.Duration `json:"wantRTO"` // objective; 0 for none
	Ended    time.Time     `json:"ended"`

	Isolation []Isolation `json:"isolation"`
	Teardown  Teardown    `json:"teardown"`
	Bytes     int64       `json:"bytes"` // sealed, that were read
	Findings
	// Unfinished says why the drill was not carried through; empty if it was.
	Unfinished string `json:"unfinished,omitempty"`
}

// Passed says whether the backup was restored, isolated, within the objectives, found to be what it should be, and removed.
func (r *DrillReport) Passed() bool {
	return r.Unfinished == "" && len(r.Findings.Findings) == 0 && r.RTO > 0 && r.Teardown.Proven
}

// Drill rehearses a restore: it chooses a backup, restores it into a scratch server that reaches nothing, checks it, measures
// how long that takes, and removes it. What was found is in the report, also when there is an error: that says that the drill
// was not carried through. Nothing outside of the scratch folder changes.
func Drill(ctx context.Context, from DrillSource, o DrillOptions) (*DrillReport, error) {
	o.ProofOptions = o.ProofOptions.withDefaults()
	d := &drill{from: from, o: o, r: &DrillReport{Environment: from.Environment, Point: cmp.Or(o.Point, declaration.PointLatest), WantRPO: o.RPO, WantRTO: o.RTO}}
	if d.o.dial == nil {
		d.o.dial = func(address string) error { return dialTCP(ctx, address) }
	}
	d.proof = newProof(Stored{Store: from.Store, Environment: from.Environment, Identities: from.Identities}, o.ProofOptions, &d.r.Findings, &d.r.Segments)
	d.began = o.Now()
	d.r.Began, d.r.Declared = d.began.UTC(), o.Declared.UTC()
	if o.Declared.IsZero() {
		d.r.Declared = d.r.Began
	}
	err := d.run(ctx)
	d.r.Ended = o.Now().UTC()
	if err != nil {
		d.r.Unfinished = Short(err.Error())
		return d.r, fmt.Errorf("drill a restore of %s: %w", from.Environment, err)
	}
	return d.r, nil
}

// A drill is one run of [Drill].
type drill struct {
	from  DrillSource
	o     DrillOptions
	r     *DrillReport
	began time.Time // with a monotonic clock
	proof *proof
}

func (d *drill) run(ctx context.Context) (err error) {
	stop := d.proof.meter.report(d.o.Progress, d.o.every)
	defer stop()
	if err := d.proof.segment(ctx, SegmentChoose, d.choose); err != nil || d.proof.m == nil {
		return err
	}
	d.r.Snapshot = d.proof.m.Times.Snapshot
	d.r.RPO = max(d.r.Declared.Sub(d.r.Snapshot), 0)
	if late := d.r.Snapshot.Sub(d.r.Declared); late > 0 {
		d.proof.findings.note(L2, "RPO", "find out which clock was wrong", "the snapshot is %s later than the failure: nothing would be lost, if the clocks were right",
			late.Round(time.Millisecond))
	}
	if d.o.RPO > 0 && d.r.RPO > d.o.RPO {
		d.proof.findings.add(L2, missedRPO, "back up more often, or find out why backups failed or took long", "%s of work are lost, and it may be %s", d.r.RPO.Round(time.Second), d.o.RPO)
	}
	var r *restoration
	if err := d.proof.segment(ctx, SegmentServer, func(ctx context.Context) (err error) { r, err = d.proof.start(ctx); return err }); err != nil {
		return err
	}
	err = d.restore(ctx, r)
	d.r.Bytes, _ = d.proof.meter.totals()
	return errors.Join(err, d.tearDown(r))
}

// choose decides which backup is restored, and reads its manifest.
func (d *drill) choose(ctx context.Context) error {
	var points []Record
	for _, r := range d.from.Records {
		if !r.Verified.IsZero() && !r.Failed && r.ID.check(d.from.Environment) == nil && !r.ID.Began().After(d.r.Declared) {
			points = append(points, r)
		}
	}
	slices.SortFunc(points, func(a, b Record) int { return cmp.Compare(a.ID, b.ID) })
	now, err := d.proof.clock(ctx)
	if err != nil {
		return err
	}
	for len(points) > 0 {
		chosen, err := d.pick(len(points))
		if err != nil {
			return err
		}
		point := points[chosen]
		d.r.ID, d.r.Manifest, d.r.Candidates = point.ID, point.Manifest, len(points)
		d.proof.ID, d.proof.Manifest, d.proof.Locks = point.ID, point.Manifest, point.Locks
		if err := d.proof.manifest(ctx, now); err != nil || d.proof.m == nil {
			return err
		}
		if d.o.Declared.IsZero() || !d.proof.m.Times.Finished.After(d.r.Declared) {
			for _, e := range d.proof.m.Entries() {
				d.proof.meter.expect(e.Size)
			}
			return nil
		}
		points, d.proof.m = slices.Delete(points, chosen, chosen+1), nil // it was not finished when the failure happened
	}
	return ErrNoPoint
}

// pick chooses one of n points, the last of which is the latest.
func (d *drill) pick(n int) (int, error) {
	switch d.r.Point {
	case declaration.PointLatest:
		return n - 1, nil
	case declaration.PointRandom:
		if d.o.Random == nil {
			return 0, errors.New("nothing is given that chooses a random point")
		}
		chosen := d.o.Random(n)
		if chosen < 0 || chosen >= n {
			return 0, fmt.Errorf("%d is no point: there are %d", chosen, n)
		}
		return chosen, nil
	}
	return 0, fmt.Errorf("%q is no point: they are %s and %s", d.r.Point, declaration.PointLatest, declaration.PointRandom)
}

// restore restores and checks. It restores nothing into a server that reaches its source.
func (d *drill) restore(ctx context.Context, r *restoration) error {
	if err := d.proof.segment(ctx, SegmentIsolation, func(ctx context.Context) error { return d.isolated(ctx, r.server) }); err != nil || d.reached() {
		return err
	}
	for _, s := range []struct {
		name string
		do   func(context.Context) error
	}{{SegmentDatabase, r.database}, {SegmentAttachments, r.filestore}, {SegmentChecks, r.check}} {
		if err := d.proof.segment(ctx, s.name, s.do); err != nil {
			return err
		}
	}
	if !r.rows || !r.files {
		return nil
	}
	d.r.RTO = d.o.Now().Sub(d.began)
	if d.o.RTO > 0 && d.r.RTO > d.o.RTO {
		d.proof.findings.add(L2, missedRTO, "see which segment takes long; a larger machine or a nearer store helps", "the restore took %s, and may take %s",
			d.r.RTO.Round(time.Second), d.o.RTO)
	}
	return nil
}

// reached says whether the server reaches a source.
func (d *drill) reached() bool {
	return slices.ContainsFunc(d.r.Isolation, func(i Isolation) bool { return !i.Unreachable })
}

// isolated proves that the server does not reach its sources, by trying.
func (d *drill) isolated(ctx context.Context, server *postgres.Server) error {
	if err := server.Isolated(); err != nil {
		return err
	}
	if len(d.o.Sources) == 0 {
		return errors.New("no source is given that a drill must not reach")
	}
	for _, source := range d.o.Sources {
		hosts := []string{source.Host}
		if source.Host != "" && source.Host[0] != '/' && net.ParseIP(source.Host) == nil {
			var err error
			if hosts, err = net.DefaultResolver.LookupHost(ctx, source.Host); err != nil {
				return fmt.Errorf("find addresses of the source: %w", err)
			}
		}
		for _, host := range hosts {
			attempt, err := server.Try(ctx, host, source.Port)
			if err != nil {
				return err
			}
			i := Isolation{Attempt: attempt, FromHere: d.o.dial(dialAddress(host, source.Port)) == nil}
			d.r.Isolation = append(d.r.Isolation, i)
			if !attempt.Unreachable {
				d.proof.findings.add(L2, "isolation", "rehearse on a machine from which the source cannot be reached, or reach the source by TCP alone",
					"what is restored can reach its source %s: %s", dialAddress(host, source.Port), attempt.Said)
			}
		}
	}
	return nil
}

func dialAddress(host string, port int) string {
	if host != "" && host[0] == '/' {
		return host + "/.s.PGSQL." + strconv.Itoa(port)
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

// dialTimeout bounds the attempt to reach a source from here.
const dialTimeout = 5 * time.Second

func dialTCP(ctx context.Context, address string) error {
	network := "tcp"
	if address[0] == '/' {
		network = "unix"
	}
	conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, network, address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// tearDown removes the server with all that was restored, and looks whether anything is left.
func (d *drill) tearDown(r *restoration) error {
	began, folder := d.o.Now(), r.server.Folder()
	err := r.server.Close()
	if _, gone := os.Lstat(folder); err == nil && !errors.Is(gone, os.ErrNotExist) {
		err = fmt.Errorf("%s is still there", folder)
	}
	d.r.Teardown = Teardown{Proven: err == nil, Took: d.o.Now().Sub(began)}
	if err != nil {
		d.r.Teardown.Problem = Short(err.Error())
	}
	return err
}
