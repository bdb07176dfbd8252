package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	gatesSamples  = 5               // by default
	gatesPatience = 2 * time.Minute // until all environments are judged
	// gatesFactor: as many environments wait, of those that the other benches have.
	gatesFactor = 2

	gateApprovals, gatePolicy, gateSignatures = "approvals", "policy", "signatures"
)

// benchGates measures how soon all waiting candidates are judged by a changed governance, and what they cost while
// nothing changes.
func benchGates(ctx context.Context, s *session) (_ []figure, err error) {
	w, err := s.newWorld(ctx, gatesFactor*s.environments)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.stop()) }()
	g := &gatesWorld{world: w}
	if g.estate, err = newGoverned(w.estate); err != nil {
		return nil, err
	}
	if err := g.fill(ctx); err != nil {
		return nil, errors.Join(err, w.stuck(ctx))
	}
	var rounds []amendment
	for range cmp.Or(s.samples, gatesSamples) {
		r, err := g.amend(ctx)
		if err != nil {
			return nil, fmt.Errorf("governance commit %d: %w%s", g.rounds, err, w.agent.tail())
		}
		rounds = append(rounds, r)
	}
	waited, err := g.wait(ctx)
	if err != nil {
		return nil, err
	}
	floor, verified, err := g.verify(ctx, rounds)
	if err != nil {
		return nil, err
	}
	return g.figures(rounds, floor, waited, verified), nil
}

// gatesWorld is a world in which the newest release of every environment waits.
type gatesWorld struct {
	*world
	estate *governed
	log    agentLog
	rounds int
}

// fill makes an estate live, has it governed, and lands three changes of each environment, which then wait for approval.
func (g *gatesWorld) fill(ctx context.Context) error {
	if err := g.estate.describe(); err != nil {
		return err
	}
	if _, err := g.estate.push(ctx, "Describe the releases"); err != nil {
		return err
	}
	if _, err := g.cold(ctx); err != nil {
		return err
	}
	if err := g.run(ctx); err != nil {
		return fmt.Errorf("run the first environment: %w", err)
	}
	if err := g.estate.govern(); err != nil {
		return err
	}
	start := time.Now()
	if _, err := g.estate.push(ctx, "Demand approvals"); err != nil {
		return err
	}
	commit, err := g.estate.head(ctx)
	if err != nil {
		return err
	}
	if err := g.agent.tell(ctx); err != nil {
		return err
	}
	if err := until(ctx, gatesPatience, 200*time.Millisecond, func() error {
		status, err := g.agent.status(ctx)
		if err == nil && !strings.Contains(status.Governance.Revision, commit) {
			err = fmt.Errorf("governance is at %s, not %s: %v", status.Governance.Revision, commit, status.Refused.Errors)
		}
		return err
	}); err != nil {
		return err
	}
	if err := g.estate.land(ctx); err != nil {
		return err
	}
	g.say("%d signed commits were pushed %.1f s after governance", len(g.estate.developers)*len(g.estate.places), time.Since(start).Seconds())
	if err := g.agent.tell(ctx); err != nil {
		return err
	}
	start = time.Now()
	if err := until(ctx, g.coldPatience(), time.Second, func() error { return g.waiting(ctx) }); err != nil {
		return err
	}
	g.say("all of them wait %.1f s after that", time.Since(start).Seconds())
	return g.settle(ctx)
}

// run lets the first environment run what the others are promoted from: one pod, which becomes ready because this says so.
func (g *gatesWorld) run(ctx context.Context) error {
	first := g.estate.places[0]
	if err := g.estate.scale(first, 1); err != nil {
		return err
	}
	if _, err := g.estate.push(ctx, "Run "+first.environment); err != nil {
		return err
	}
	if err := g.agent.tell(ctx); err != nil {
		return err
	}
	pods := g.cluster.kube.CoreV1().Pods(first.namespace)
	if err := until(ctx, g.coldPatience(), 200*time.Millisecond, func() error {
		list, err := pods.List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		if len(list.Items) == 0 {
			return errors.New("there is no pod yet")
		}
		pod := list.Items[0]
		pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}
		_, err = pods.UpdateStatus(ctx, &pod, metav1.UpdateOptions{})
		return err
	}); err != nil {
		return err
	}
	return g.awaitLive(ctx)
}

// waiting says why an environment does not wait for the approval of three landed changes, and for nothing else.
func (g *gatesWorld) waiting(ctx context.Context) error {
	status, err := g.agent.status(ctx)
	if err != nil {
		return err
	}
	waiting, example := 0, ""
	for _, e := range status.Environments {
		if e.Verdict == nil {
			example = fmt.Sprintf("%s is not judged yet (%s)", e.Name, e.Reason)
		} else if closed := e.Verdict.closed(); closed[gateApprovals] == "" || len(closed) > 1 {
			example = fmt.Sprintf("%s answers %v", e.Name, closed)
		} else {
			waiting++
		}
	}
	if waiting < len(g.estate.places) {
		return fmt.Errorf("%d of %d environments wait; %s", waiting, len(g.estate.places), example)
	}
	return nil
}

// amendment is what one governance commit caused.
type amendment struct {
	commit, message string
	fetched         time.Time     // when the agent had the commit
	approved        time.Time     // when it was approved
	decided         time.Time     // when the last environment was judged by it
	published       time.Time     // when the bench saw that every record of it was
	requests        requests      // to the API server meanwhile, besides watches
	polls, pushes   float64       // of the Git server meanwhile
	cpu             time.Duration // of the agent meanwhile
}

func (r amendment) seconds() float64 { return r.decided.Sub(r.fetched).Seconds() }

// amend pushes a governance commit that changes what is wrong with every release, and follows its consequences.
func (g *gatesWorld) amend(ctx context.Context) (r amendment, err error) {
	g.rounds++
	r.message = fmt.Sprintf(" (%d)", g.rounds)
	if err := g.estate.demand(r.message, brokenRule); err != nil {
		return r, err
	}
	before, err := g.count(ctx)
	if err != nil {
		return r, err
	}
	if _, err := g.log.next(g.agent.log); err != nil { // what was said before
		return r, err
	}
	used, err := usedCPU(g.agent.pid())
	if err != nil {
		return r, err
	}
	if _, err := g.estate.push(ctx, "Change a policy"+r.message); err != nil {
		return r, err
	}
	if r.commit, err = g.estate.head(ctx); err != nil {
		return r, err
	}
	if err := g.agent.tell(ctx); err != nil {
		return r, err
	}
	judged := map[string]bool{}
	if err := until(ctx, gatesPatience, 20*time.Millisecond, func() error { return g.follow(&r, judged) }); err != nil {
		return r, err
	}
	if r.cpu, err = usedCPU(g.agent.pid()); err != nil {
		return r, err
	}
	r.cpu -= used
	after, err := g.count(ctx)
	if err != nil {
		return r, err
	}
	if err := until(ctx, gatesPatience, 250*time.Millisecond, func() error { return g.published(ctx) }); err != nil {
		return r, err
	}
	r.published = time.Now()
	r.requests = after.requests.since(before.requests).only(besidesWatches)
	r.polls, r.pushes = after.polls-before.polls, after.pushes-before.pushes
	g.say("%d environments were judged anew in %.2f s, %.2f s of it after the approval; %.2f CPU seconds; published after %.2f s",
		len(judged), r.seconds(), r.decided.Sub(r.approved).Seconds(), r.cpu.Seconds(), r.published.Sub(r.fetched).Seconds())
	return r, g.settle(ctx)
}

// follow reads what the agent said since the last look.
func (g *gatesWorld) follow(r *amendment, judged map[string]bool) error {
	lines, err := g.log.next(g.agent.log)
	if err != nil {
		return err
	}
	for _, l := range lines {
		switch {
		case l.Message == "branch moved" && l.To == r.commit:
			r.fetched = l.At
		case l.Message == "governance decided" && strings.HasSuffix(l.Revision, r.commit):
			r.approved = l.At
		case l.Message == "decided" && !r.approved.IsZero() && strings.Contains(strings.Join(l.Reasons, "\n"), r.message):
			judged[l.Environment] = true
			r.decided = l.At
		}
	}
	if len(judged) < len(g.estate.places) || r.fetched.IsZero() {
		return fmt.Errorf("%d of %d environments are judged by the new governance", len(judged), len(g.estate.places))
	}
	return nil
}

// gatesCounts are what is counted before and after.
type gatesCounts struct {
	requests                  requests
	reconciled, polls, pushes float64
	cpu                       time.Duration
	at                        time.Time
}

func (g *gatesWorld) count(ctx context.Context) (c gatesCounts, err error) {
	totals, err := g.agent.metrics(ctx, metricReconciled, metricPolls, metricPushes)
	if err != nil {
		return c, err
	}
	c.reconciled, c.polls, c.pushes = totals[metricReconciled], totals[metricPolls], totals[metricPushes]
	if c.requests, err = g.cluster.countRequests(ctx); err != nil {
		return c, err
	}
	c.cpu, err = usedCPU(g.agent.pid())
	c.at = time.Now()
	return c, err
}

// wait lets nothing happen, and says what happened all the same.
func (g *gatesWorld) wait(ctx context.Context) (d gatesCounts, err error) {
	before, err := g.count(ctx)
	if err != nil {
		return d, err
	}
	g.say("nothing is to happen for %s", 2*calmTime(g.environments))
	pause(ctx, 2*calmTime(g.environments))
	used, err := usedCPU(g.agent.pid()) // before it is asked, which costs it something
	if err != nil {
		return d, err
	}
	after, err := g.count(ctx)
	if err != nil {
		return d, err
	}
	return gatesCounts{
		requests: after.requests.since(before.requests).only(besidesWatches), reconciled: after.reconciled - before.reconciled,
		polls: after.polls - before.polls, pushes: after.pushes - before.pushes, cpu: used - before.cpu,
		at: time.Time{}.Add(after.at.Sub(before.at)),
	}, nil
}

// agentLog reads the log of an agent as it grows.
type agentLog struct{ read int64 }

// logLine is what the benches read of a line.
type logLine struct {
	At          time.Time `json:"time"`
	Message     string    `json:"msg"`
	Environment string    `json:"environment"`
	To          string    `json:"to"`       // of a branch that moved
	Revision    string    `json:"revision"` // of governance
	Reasons     []string  `json:"reasons"`  // of a decision
}

// next gives the whole lines since the last call.
func (l *agentLog) next(path string) ([]logLine, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if _, err := file.Seek(l.read, io.SeekStart); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(file)
	if err != nil {
		return nil, err
	}
	text = text[:bytes.LastIndexByte(text, '\n')+1]
	l.read += int64(len(text))
	var lines []logLine
	for decoder := json.NewDecoder(bytes.NewReader(text)); ; {
		var line logLine
		if err := decoder.Decode(&line); errors.Is(err, io.EOF) {
			return lines, nil
		} else if err != nil {
			return nil, fmt.Errorf("read the agent's log: %w", err)
		}
		lines = append(lines, line)
	}
}
