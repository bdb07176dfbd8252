package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/policy"
)

// verified is what the audit log says of all decisions.
type verified struct {
	records   uint64
	decisions int // that were evaluated again from their inputs, to the same answers
}

// verify clones the audit log and verifies it, which evaluates every decision again; every environment must have been
// decided by each governance commit, as expected. The floor is the gates alone: the inputs of the last round's decisions
// are evaluated once more, on all processors, as often as there were rounds.
func (g *gatesWorld) verify(ctx context.Context, rounds []amendment) (floor []float64, v verified, err error) {
	clone := filepath.Join(g.agent.dir, "audit.git")
	if err := os.RemoveAll(clone); err != nil {
		return nil, v, err
	}
	if out, err := exec.CommandContext(ctx, "git", "clone", "--quiet", "--mirror", g.audit, clone).CombinedOutput(); err != nil {
		return nil, v, fmt.Errorf("clone the audit log: %w\n%s", err, out)
	}
	trusted, err := evidence.LoadTrusted(filepath.Join(g.agent.dir, "signing.pub"))
	if err != nil {
		return nil, v, err
	}
	decided := map[string]map[string]evidence.Record{} // governance commit → environment → its decision
	report, err := evidence.Verify(ctx, clone, trusted, evidence.VerifyOptions{OnRecord: func(r evidence.Record, _ []byte) error {
		var d evidence.Decision
		if r.Type != evidence.TypeDecision || r.Environment == "" {
			return nil
		}
		if err := json.Unmarshal(r.Predicate, &d); err != nil {
			return err
		}
		if decided[d.Governance] == nil {
			decided[d.Governance] = map[string]evidence.Record{}
		}
		decided[d.Governance][r.Environment] = r
		return nil
	}})
	if err != nil {
		return nil, v, err
	}
	if report.ExitCode() != evidence.ExitComplete {
		return nil, v, fmt.Errorf("the audit log is not in order: %v", report.Problems[:min(len(report.Problems), 5)])
	}
	v = verified{records: report.Records, decisions: report.Decisions}
	for _, r := range rounds {
		for _, p := range g.estate.places {
			if err := expected(decided[r.commit][p.environment], r.message); err != nil {
				return nil, v, fmt.Errorf("%s after governance commit %s: %w", p.environment, r.commit, err)
			}
		}
	}
	floor, err = g.evaluate(ctx, clone, decided[rounds[len(rounds)-1].commit], len(rounds))
	return floor, v, err
}

// expected is an error unless a decision denies for what the governance commit demands, waits for approvals of three
// landed changes, and has nothing else against the release.
func expected(r evidence.Record, message string) error {
	if r.Type == "" {
		return errors.New("there is no decision")
	}
	var d evidence.Decision
	if err := json.Unmarshal(r.Predicate, &d); err != nil {
		return err
	}
	for _, gate := range d.Verdict.Gates {
		switch as := gate.Answer; {
		case gate.Gate == gatePolicy && as == policy.Deny && strings.Contains(gate.Reason, message):
		case gate.Gate == gateApprovals && as == policy.Wait:
		case gate.Gate == gateSignatures && strings.Contains(gate.Reason, "3 landed changes") && as == policy.Allow:
		case gate.Gate != gatePolicy && gate.Gate != gateApprovals && gate.Gate != gateSignatures && as == policy.Allow:
		default:
			return fmt.Errorf("gate %s answers %s: %s", gate.Gate, as, gate.Reason)
		}
	}
	return nil
}

// evaluate asks the gates about the inputs of some decisions.
func (g *gatesWorld) evaluate(ctx context.Context, clone string, decisions map[string]evidence.Record, times int) ([]float64, error) {
	inputs, err := evidence.InputsOf(clone, slices.Collect(maps.Values(decisions)))
	if err != nil {
		return nil, err
	}
	var seconds []float64
	for range times {
		start := time.Now()
		group, _ := errgroup.WithContext(ctx)
		for part := range slices.Chunk(inputs, (len(inputs)+runtime.GOMAXPROCS(0)-1)/runtime.GOMAXPROCS(0)) {
			group.Go(func() error {
				for _, in := range part {
					if in.Evaluate().Answer != policy.Deny {
						return errors.New("a decision is not repeated by its inputs")
					}
				}
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			return nil, err
		}
		seconds = append(seconds, time.Since(start).Seconds())
	}
	return seconds, nil
}

func (g *gatesWorld) figures(rounds []amendment, floor []float64, idle gatesCounts, v verified) []figure {
	var seconds, approved, published []float64
	asked := requests{}
	var polls, pushes float64
	for _, r := range rounds {
		seconds, approved = append(seconds, r.seconds()), append(approved, r.decided.Sub(r.approved).Seconds())
		published = append(published, r.published.Sub(r.fetched).Seconds())
		asked.add(r.requests)
		polls, pushes = max(polls, r.polls), max(pushes, r.pushes)
	}
	n := len(rounds)
	took := idle.at.Sub(time.Time{}).Seconds()
	return []figure{
		cost("gates_seconds", "s", median(seconds), median(floor), n, fmt.Sprintf(
			"%d environments, each with a candidate of 3 signed landed changes that waits for approvals, × %d gates and %d policies, judged anew after a governance commit: from the agent having fetched it to the last decision being recorded; "+
				"worst %.3f s; %.3f s of it after the governance commit was parsed and approved; every record published after %.3f s; "+
				"requests to the API server meanwhile, by anybody: %s; polls of the Git server at most %g, pushes of evidence %g; all %d decisions of %d records were evaluated again from the audit log; "+
				"the floor is the gates alone: the inputs of the same decisions evaluated on %d processors, worst %.3f s",
			len(g.estate.places), len(policy.Gates()), len(policies)+1, slices.Max(seconds), median(approved), median(published),
			asked, polls, pushes, v.decisions, v.records, runtime.GOMAXPROCS(0), slices.Max(floor))),
		spare("gates_idle_reconciliations", "reconciliations", idle.reconciled, 0, 1, 1, fmt.Sprintf(
			"%.0f s in which all %d candidates wait and nothing happens: environments that were looked at; CPU share of the process %.5f; requests to the API server, by anybody: %s; polls of the Git server, at the source's interval: %g; pushes of evidence %g; the floor is what waiting needs",
			took, len(g.estate.places), idle.cpu.Seconds()/took, idle.requests, idle.polls, idle.pushes)),
	}
}
