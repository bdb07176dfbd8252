package evidence

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
)

// VerifyOptions narrow or extend a verification. The zero value verifies every
// branch under audit/.
type VerifyOptions struct {
	// Pinned is a signed checkpoint seen earlier: the log must be a continuation
	// of it.
	Pinned []byte
	// OnRecord gets every record that verifies, in order within its branch, with
	// its file's bytes. Its error ends the verification.
	OnRecord func(r Record, envelope []byte) error

	branches []string               // verify these only and do not ask for their predecessors; nil is all
	later    func(name string) bool // with branches: whether a branch would follow them all
}

// logPrefix begins the names of branches that are logs.
const logPrefix = "audit/"

// Verify checks a clone of the audit repository, bare or not, without network:
// signatures of records, checkpoints and commits; the tree of every commit,
// which must be the one before plus the records its checkpoint counts; sequence,
// epochs and IDs; how yearly branches continue each other; kept refs; blobs. It
// streams: memory grows by 40 bytes per commit. Fetch refs/purser/* too, or blobs
// and kept refs are not checked.
//
// The error is ctx's or OnRecord's; whatever is wrong with the clone is in the
// report.
func Verify(ctx context.Context, dir string, trusted *Trusted, o VerifyOptions) (Report, error) {
	r, err := openRepository(dir)
	if err != nil {
		return Report{Problems: []Problem{{Kind: Unreadable, What: err.Error()}}}, nil
	}
	defer r.close()
	return newVerifier(r, trusted, o).run(ctx)
}

type verifier struct {
	repo    *repository
	trusted *Trusted
	o       VerifyOptions
	refs    refs
	report  Report
	logs    []*branchLog
	kept    map[string]keptAt // writer and ref → newest
	pinned  *checkpoint
	broken  string // why the log does not contain pinned
	months  map[string]map[string]plumbing.Hash
	// approvals since something was allowed, by writer and environment
	approvals map[string][]recordedVote
	proofs    map[string]*proofs // of backups, by writer and environment
	decisions decisions
}

// keptAt is the newest record that moved a keep ref.
type keptAt struct {
	branch string
	seq    uint64
	commit string
}

func newVerifier(r *repository, trusted *Trusted, o VerifyOptions) *verifier {
	return &verifier{
		repo: r, trusted: trusted, o: o, kept: map[string]keptAt{}, months: map[string]map[string]plumbing.Hash{},
		approvals: map[string][]recordedVote{}, proofs: map[string]*proofs{}, decisions: newDecisions(r),
	}
}

func (v *verifier) run(ctx context.Context) (Report, error) {
	var err error
	if v.refs, err = v.repo.refs(); err != nil {
		v.report.add(Problem{Kind: Unreadable, What: err.Error()})
		return v.report, nil
	}
	v.readPinned()
	names := v.branches()
	if len(names) == 0 {
		v.report.add(Problem{Kind: Unreadable, What: "no audit branch in this repository"})
	}
	for _, name := range names {
		b := &branchLog{verifier: v, BranchReport: BranchReport{Branch: name}, tip: v.refs["refs/heads/"+name]}
		v.logs = append(v.logs, b)
		if err := b.verify(ctx); err != nil {
			return v.report, fmt.Errorf("verify %s: %w", name, err)
		}
		v.report.Branches = append(v.report.Branches, b.BranchReport)
		v.report.Records += b.Records
	}
	v.checkPinned()
	v.checkSuccession()
	v.checkBesides()
	return v.report, nil
}

func (v *verifier) branches() []string {
	var names []string
	for ref := range v.refs {
		name, ok := strings.CutPrefix(ref, "refs/heads/")
		if ok && (slices.Contains(v.o.branches, name) || v.o.branches == nil && strings.HasPrefix(name, logPrefix)) {
			names = append(names, name)
		}
	}
	slices.Sort(names) // years in order
	return names
}

func (v *verifier) readPinned() {
	if len(v.o.Pinned) == 0 {
		return
	}
	c, err := parseCheckpoint(v.o.Pinned)
	if err != nil {
		v.report.add(Problem{Kind: Unreadable, What: "the earlier checkpoint: " + err.Error()})
		return
	}
	v.pinned = &c
}

// checkPinned looks for an earlier checkpoint that no branch reached.
func (v *verifier) checkPinned() {
	if v.pinned == nil {
		return
	}
	for _, b := range v.logs {
		if origin(b.Writer, b.Branch) != v.pinned.Origin {
			continue
		}
		if b.next < v.pinned.Size {
			v.broken = fmt.Sprintf("the branch ends after %d", b.next)
			v.report.add(Problem{Kind: Incomplete, Branch: b.Branch, Seq: &b.next,
				What: fmt.Sprintf("the branch ends here; the earlier checkpoint counts %d records", v.pinned.Size)})
		}
		return
	}
	v.broken = "there is no such branch"
	v.report.add(Problem{Kind: Incomplete, What: "no branch continues the earlier checkpoint of " + v.pinned.Origin})
}

// checkSuccession compares what the first record of each year says of the year
// before with the branch of the year before.
func (v *verifier) checkSuccession() {
	first := map[string]string{}     // writer → branch without a predecessor
	continued := map[string]string{} // branch → its successor
	for _, b := range v.logs {
		if !b.read || b.first {
			continue // what it continues cannot be known
		}
		if b.previous == nil {
			if other, ok := first[b.Writer]; ok {
				v.report.add(Problem{Kind: Tampered, Branch: b.Branch, What: fmt.Sprintf("it does not continue %s of the same writer", other)})
			}
			first[b.Writer] = b.Branch
			continue
		}
		if other, ok := continued[b.previous.Branch]; ok {
			v.report.add(Problem{Kind: Tampered, Branch: b.Branch, What: fmt.Sprintf("%s is continued by %s as well", b.previous.Branch, other)})
		}
		continued[b.previous.Branch] = b.Branch
		v.checkPrevious(b)
	}
}

func (v *verifier) checkPrevious(b *branchLog) {
	problem := func(kind Kind, format string, args ...any) {
		v.report.add(Problem{Kind: kind, Branch: b.Branch, Seq: new(uint64), What: fmt.Sprintf(format, args...)})
	}
	c, err := openCheckpoint([]byte(b.previous.Checkpoint), v.trusted, b.Writer, b.previous.Branch)
	if err != nil {
		problem(Tampered, "previous checkpoint: %v", err)
		return
	}
	at := slices.IndexFunc(v.logs, func(other *branchLog) bool { return other.Branch == b.previous.Branch })
	if at < 0 {
		if v.o.branches == nil {
			problem(Incomplete, "the branch before, %s, is not in this repository", b.previous.Branch)
		}
		return
	}
	old := v.logs[at]
	switch base := old.base(); {
	case old.next < c.Size:
		v.report.add(Problem{Kind: Incomplete, Branch: old.Branch, Seq: &old.next, What: fmt.Sprintf("the branch ends here; %s says that it has %d records", b.Branch, c.Size)})
	case old.next > c.Size, old.intact && old.frontier.root() != c.Root:
		problem(Tampered, "its previous checkpoint is not the last of %s", old.Branch)
	case b.previous.Records != base+old.next:
		problem(Tampered, "it counts %d records before it, there are %d", b.previous.Records, base+old.next)
	}
}

// checkBesides checks keep refs, and that nothing outside the branches is ahead
// of them: that would show a branch that was cut back.
func (v *verifier) checkBesides() {
	logs := map[string]*branchLog{}
	for _, b := range v.logs {
		logs[b.Branch] = b
	}
	keeps, blobs := 0, 0
	for _, ref := range v.besides() {
		if strings.HasPrefix(ref, keepPrefix) {
			keeps++
		} else {
			blobs++
		}
		v.checkBeside(ref, logs)
	}
	if keeps+blobs == 0 && len(v.kept) > 0 {
		v.report.Notes = append(v.report.Notes, "keep refs are not in this clone: fetch refs/purser/*")
	}
	if blobs == 0 && v.report.Blobs.Erased > 0 {
		v.report.Notes = append(v.report.Notes, "blob refs are not in this clone: fetch refs/purser/*, or they were all erased")
	}
	if keeps+blobs == 0 {
		return
	}
	for key, k := range v.kept {
		_, ref, _ := strings.Cut(key, " ")
		if _, ok := v.refs[ref]; !ok {
			v.report.add(Problem{Kind: Incomplete, Branch: k.branch, Seq: &k.seq, Ref: ref, What: "the ref that this record kept is gone"})
		}
	}
}

func (v *verifier) besides() []string {
	var names []string
	for ref := range v.refs {
		if strings.HasPrefix(ref, keepPrefix) || strings.HasPrefix(ref, blobPrefix) {
			names = append(names, ref)
		}
	}
	slices.Sort(names)
	return names
}

func (v *verifier) checkBeside(ref string, logs map[string]*branchLog) {
	hash := v.refs[ref]
	problem := func(kind Kind, format string, args ...any) {
		v.report.add(Problem{Kind: kind, Ref: ref, Commit: hash.String(), What: fmt.Sprintf(format, args...)})
	}
	c, err := v.repo.commit(hash)
	if err != nil {
		problem(kindOf(err), "%v", err)
		return
	}
	writer, _ := c.trailer("Writer")
	branch, seq, ok := c.position()
	if _, err := v.trusted.verifySSH(c.payload, c.signature, "git", writer); err != nil || !ok {
		problem(Tampered, "commit signature: %v", errors.Join(err, errNoPosition(ok)))
		return
	}
	b, ok := logs[branch]
	switch {
	case !ok && (v.o.branches == nil || v.o.later(branch)):
		problem(Incomplete, "it belongs to %s, which is not in this repository", branch)
	case !ok || !b.read:
	case seq >= b.next:
		problem(Incomplete, "it belongs to record %d of %s, which ends at %d", seq, branch, b.next)
	case strings.HasPrefix(ref, blobPrefix), v.kept[b.Writer+" "+ref].commit == hash.String(), b.lost:
	default:
		problem(Tampered, "no record kept this commit last; record %d kept %s", v.kept[b.Writer+" "+ref].seq, v.kept[b.Writer+" "+ref].commit)
	}
}

func errNoPosition(ok bool) error {
	if ok {
		return nil
	}
	return errors.New("it does not say which record it belongs to")
}

// kindOf classifies a failure to read an object.
func kindOf(err error) Kind {
	switch {
	case errors.Is(err, errMissing):
		return Incomplete
	case errors.Is(err, errCorrupt), errors.Is(err, ErrTooLarge):
		return Tampered
	}
	return Unreadable
}
