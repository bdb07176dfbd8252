package reconciler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/purser-gitops/purser/reconciler/evidence"
)

// journal is the only way to change the state: append a record, fold it.
type journal struct {
	log  *evidence.Log
	told func() // called after each record; must return at once

	mu    sync.RWMutex
	state *State
}

// openJournal opens the log and folds everything it holds.
func openJournal(ctx context.Context, o evidence.Options) (*journal, error) {
	j := &journal{state: NewState(), told: func() {}}
	o.State = j.encode
	log, err := evidence.Open(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	j.log = log
	if err := log.Replay(j.fold); err != nil { // every branch opens with the state so far
		log.Close(ctx)
		return nil, fmt.Errorf("replay audit log: %w", err)
	}
	return j, nil
}

func (j *journal) fold(r evidence.Record) error { return j.state.Fold(r) }

// encode gives the state as the first record of a further yearly branch carries it. The log calls it from
// inside an append, under the journal's lock.
func (j *journal) encode() (json.RawMessage, error) { return json.Marshal(j.state) }

// record writes a happening down and makes it true. A crash of the process cannot take the record any more; before
// something is done that only this record allows, call durable as well, for a crash of the machine. A record's ID
// derives from its place in the history of its environment, so the same happening cannot be recorded twice and two
// happenings never share an ID.
func (j *journal) record(d evidence.Draft) (evidence.Record, error) {
	return j.recordWhile(d, func(*State) bool { return true })
}

// errMoved says that the state is not what a record was to rest on.
var errMoved = errors.New("something else was recorded just now")

// recordWhile is record, if the state is one that the record may rest on; else [errMoved]. The function must not keep or change it.
func (j *journal) recordWhile(d evidence.Draft, holds func(*State) bool) (evidence.Record, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !holds(j.state) {
		return evidence.Record{}, errMoved
	}
	d.Key = append(d.Key, strconv.Itoa(j.state.recorded(d.Environment)))
	r, err := j.log.Add(d)
	if err != nil {
		return evidence.Record{}, err
	}
	err = j.fold(r)
	j.told()
	return r, err
}

// ofRelease drafts a record about a release of an environment; environment is "" for the declarations, which are no release.
func ofRelease(kind, environment, release string, predicate any) evidence.Draft {
	d := evidence.Draft{Type: kind, Environment: environment, Predicate: predicate}
	if environment != "" {
		algorithm, value, _ := strings.Cut(release, ":")
		d.Subjects = []evidence.Subject{{Name: environment, Digest: map[string]string{algorithm: value}}}
	}
	return d
}

// durable waits until a record and all before it survive a loss of power.
func (j *journal) durable(ctx context.Context, index uint64) error { return j.log.Durable(ctx, index) }

// environment is a copy of the state of one environment.
func (j *journal) environment(name string) EnvironmentState {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if e := j.state.Environments[name]; e != nil {
		return *e
	}
	return EnvironmentState{}
}

// read gives the state to a function that must not keep or change it.
func (j *journal) read(f func(*State)) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	f(j.state)
}

// heard reports whether a statement needs no judging any more; see [State].Statements.
func (j *journal) heard(statement string) bool {
	j.mu.RLock()
	defer j.mu.RUnlock()
	return j.state.Statements[statement]
}
