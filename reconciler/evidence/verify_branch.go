package evidence

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/purser-gitops/purser/reconciler/policy"
)

// branchLog verifies one branch, oldest commit first.
type branchLog struct {
	*verifier
	BranchReport
	tip      plumbing.Hash
	next     uint64   // Seq of the next record
	frontier frontier // of the records so far
	spine    spine
	read     bool // the tip could be read, so that something is known of the branch
	lost     bool // some record could not be read,
	last     bool // namely the one before the next,
	first    bool // or the first
	// intact: every record so far was there, so trees and roots can be
	// compared. The first mismatch is reported; those that follow from it are
	// not.
	intact   bool
	previous *Previous
	epoch    int
	seen     idWindow
	files    recordFiles
}

// link is one commit of the chain.
type link struct{ commit, tree plumbing.Hash }

func (b *branchLog) commitProblem(kind Kind, commit plumbing.Hash, format string, args ...any) {
	b.report.add(Problem{Kind: kind, Branch: b.Branch, Commit: commit.String(), What: fmt.Sprintf(format, args...)})
}

// verify returns ctx's or OnRecord's error only.
func (b *branchLog) verify(ctx context.Context) error {
	b.Commit = b.tip.String()
	b.intact = true
	if !b.readTip() {
		return nil
	}
	chain, err := b.walkBack(ctx)
	if err != nil {
		return err
	}
	b.Commits = len(chain)
	for i := len(chain) - 1; i >= 0; i-- {
		if err := b.verifyCommit(ctx, chain[i]); err != nil {
			return err
		}
	}
	b.Records = b.next
	return nil
}

// base is the number of records in the writer's earlier branches.
func (b *branchLog) base() uint64 {
	if b.previous == nil {
		return 0
	}
	return b.previous.Records
}

// readTip finds the writer, the checkpoint and the records of the newest commit.
func (b *branchLog) readTip() bool {
	c, err := b.repo.commit(b.tip)
	if err != nil {
		b.commitProblem(kindOf(err), b.tip, "%v", err)
		return false
	}
	entries, err := b.repo.tree(c.tree)
	if err != nil {
		b.commitProblem(kindOf(err), b.tip, "%v", err)
		return false
	}
	point, ok := find(entries, "checkpoint")
	if !ok {
		b.commitProblem(Tampered, b.tip, "it has no checkpoint")
		return false
	}
	records, ok := find(entries, "records")
	if !ok {
		b.commitProblem(Incomplete, b.tip, "the branch has no records")
		return false
	}
	b.files = recordFiles{repo: b.repo, root: records}
	data, err := b.repo.read(plumbing.BlobObject, point, maxCheckpoint)
	if err != nil {
		b.commitProblem(kindOf(err), b.tip, "read checkpoint: %v", err)
		return false
	}
	b.Checkpoint = string(data)
	cp, err := parseCheckpoint(data)
	if err != nil {
		b.commitProblem(Tampered, b.tip, "%v", err)
		return false
	}
	writer, ok := strings.CutSuffix(strings.TrimPrefix(cp.Origin, originPrefix), "/"+b.Branch)
	if !ok || !namePattern.MatchString(writer) {
		b.commitProblem(Tampered, b.tip, "its checkpoint is of %q", cp.Origin)
		return false
	}
	b.Writer, b.read = writer, true
	return true
}

// walkBack lists the chain from the tip and checks every commit by itself.
func (b *branchLog) walkBack(ctx context.Context) ([]link, error) {
	var chain []link
	for at := b.tip; !at.IsZero(); {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c, err := b.repo.commit(at)
		if err != nil {
			b.commitProblem(kindOf(err), at, "%v", err)
			b.intact = false
			return chain, nil
		}
		chain = append(chain, link{commit: at, tree: c.tree})
		if _, err := b.trusted.verifySSH(c.payload, c.signature, "git", b.Writer); err != nil {
			b.commitProblem(Tampered, at, "commit signature: %v", err)
		}
		switch len(c.parents) {
		case 0:
			at = plumbing.ZeroHash
		case 1:
			at = c.parents[0]
		default:
			b.commitProblem(Tampered, at, "it has %d parents: the branch is not linear", len(c.parents))
			at = c.parents[0]
		}
	}
	return chain, nil
}

// verifyCommit checks that a commit only appends: its checkpoint counts more
// records than the one before, its root is that of the records, and its tree is
// exactly the tree before with these records and this checkpoint.
func (b *branchLog) verifyCommit(ctx context.Context, l link) error {
	entries, err := b.repo.tree(l.tree)
	if err != nil {
		b.commitProblem(kindOf(err), l.commit, "%v", err)
		return nil
	}
	point, ok := find(entries, "checkpoint")
	if !ok {
		b.commitProblem(Tampered, l.commit, "it has no checkpoint")
		return nil
	}
	data, err := b.repo.read(plumbing.BlobObject, point, maxCheckpoint)
	if err != nil {
		b.commitProblem(kindOf(err), l.commit, "read checkpoint: %v", err)
		return nil
	}
	c, err := openCheckpoint(data, b.trusted, b.Writer, b.Branch)
	if err != nil {
		b.commitProblem(Tampered, l.commit, "%v", err)
		if c.Size == 0 {
			return nil
		}
	}
	if c.Size <= b.next {
		b.commitProblem(Tampered, l.commit, "its checkpoint counts %d records after %d: it appends nothing", c.Size, b.next)
	}
	for b.next < c.Size {
		if err := ctx.Err(); err != nil {
			return err
		}
		if gone, err := b.verifyRecord(); gone || err != nil {
			return err
		}
	}
	b.compare(l, c, point)
	return nil
}

// compare reports the first commit whose root or tree is not what its records
// give.
func (b *branchLog) compare(l link, c checkpoint, point plumbing.Hash) {
	if !b.intact {
		return
	}
	if b.frontier.root() != c.Root {
		b.commitProblem(Tampered, l.commit, "its checkpoint of %d records has another root than the records", c.Size)
		b.intact = false
		return
	}
	if want := rootTree(point, b.spine.root(nil)).hash; want != l.tree {
		b.commitProblem(Tampered, l.commit, "it changes more than it appends: its tree is %s, its records give %s", l.tree, want)
		b.intact = false
	}
}

// verifyRecord checks the next record. gone says that the directory of records
// itself cannot be read, so that asking for more is no use.
func (b *branchLog) verifyRecord() (gone bool, err error) {
	seq := b.next
	problem := func(kind Kind, id, format string, args ...any) {
		b.report.add(Problem{Kind: kind, Branch: b.Branch, Seq: &seq, ID: id, What: fmt.Sprintf(format, args...)})
	}
	b.next++
	data, err := b.files.read(seq)
	if err != nil {
		b.intact, b.lost, b.last, b.first = false, true, true, b.first || seq == 0
		problem(kindOf(err), "", "%v", err)
		return errors.Is(err, errNoDirectory), nil
	}
	b.frontier.add(tlog.RecordHash(data))
	b.spine.add(plumbing.ComputeHash(plumbing.BlobObject, data), nil)
	if b.pinned != nil && b.pinned.Size == b.frontier.Size && b.intact && b.pinned.Origin == origin(b.Writer, b.Branch) && b.pinned.Root != b.frontier.root() {
		b.broken = "these are other records"
		problem(Tampered, "", "the log up to here is not the one of the earlier checkpoint")
	}
	r, err := openRecord(data, b.trusted, b.base())
	if err != nil {
		problem(Tampered, r.ID, "%v", err)
		return false, nil
	}
	if err := b.checkPlace(&r, seq); err != nil {
		problem(Tampered, r.ID, "%v", err)
		return false, nil
	}
	for _, blob := range r.Blobs {
		if kind, err := b.checkBlob(blob); err != nil {
			problem(kind, r.ID, "blob %q, %s: %v", blob.Name, blob.Digest, err)
		}
	}
	inputs, err := b.checkDecision(r)
	if err != nil {
		problem(Violated, r.ID, "%v", err)
	}
	if inputs != nil {
		b.report.Decisions++
	}
	for _, check := range []func(Record, *policy.Inputs) error{b.checkApprovals, b.checkBackups} {
		if err := check(r, inputs); err != nil {
			problem(Incomplete, r.ID, "%v", err)
		}
	}
	for _, k := range r.Keep {
		b.kept[b.Writer+" "+k.Ref] = keptAt{branch: b.Branch, seq: seq, commit: k.Commit}
	}
	if b.o.OnRecord != nil {
		return false, b.o.OnRecord(r, data)
	}
	return false, nil
}

// checkPlace checks what a record says of its place against where it is.
func (b *branchLog) checkPlace(r *Record, seq uint64) error {
	switch {
	case r.Seq != seq || r.Branch != b.Branch || r.Writer != b.Writer:
		return fmt.Errorf("it is record %d of %s by writer %s", r.Seq, r.Branch, r.Writer)
	case r.Previous != nil && (seq != 0 || r.Type != TypeState):
		return fmt.Errorf("a record of type %s at this place cannot open a branch", r.Type)
	}
	if r.Previous != nil {
		b.previous = r.Previous
		r.Index = b.base() + seq
	}
	id := eventID(r.Type, r.Environment, r.Deployment, r.Key) // is r.ID
	if first, dup := b.seen.find(id); dup {
		return fmt.Errorf("record %d records the same happening", first)
	}
	b.seen.add(id, seq)
	after := b.last
	b.last = false
	if r.Epoch != b.epoch {
		continues := b.epoch == 0 || r.Epoch == b.epoch+1 && r.Gap || after && r.Epoch > b.epoch
		if !continues {
			return fmt.Errorf("epoch %d follows epoch %d, gap declared: %t", r.Epoch, b.epoch, r.Gap)
		}
		b.epoch = r.Epoch
		b.Epochs = append(b.Epochs, EpochReport{Epoch: r.Epoch, First: seq, Gap: r.Gap})
	} else if r.Gap {
		return fmt.Errorf("it declares a gap within epoch %d", r.Epoch)
	}
	return nil
}

// checkBlob finds a blob by its object ID; where its month was erased there is
// nothing to check.
func (b *branchLog) checkBlob(blob BlobRef) (Kind, error) {
	if !plumbing.IsHash(blob.Object) || !strings.HasPrefix(blob.Ref, blobPrefix) {
		return Tampered, errors.New("it names no object")
	}
	tip, ok := b.refs[blob.Ref]
	if !ok {
		b.report.Blobs.Erased++
		return "", nil
	}
	data, err := b.repo.read(plumbing.BlobObject, plumbing.NewHash(blob.Object), maxBlob)
	if errors.Is(err, errMissing) {
		return b.swapped(blob, tip)
	}
	if err != nil {
		return kindOf(err), err
	}
	if digestOf(data) != blob.Digest {
		return Tampered, fmt.Errorf("its digest is %s", digestOf(data))
	}
	b.report.Blobs.Present++
	return "", nil
}

// swapped tells a blob that is gone from one that was replaced.
func (b *branchLog) swapped(blob BlobRef, tip plumbing.Hash) (Kind, error) {
	month, ok := b.months[blob.Ref]
	if !ok {
		month = map[string]plumbing.Hash{}
		err := b.repo.eachBlob(context.Background(), tip, func(digest string, id plumbing.Hash) error {
			month[digest] = id
			return nil
		})
		if err != nil && !errors.Is(err, errMissing) {
			return kindOf(err), err
		}
		b.months[blob.Ref] = month
	}
	if id, ok := month[blob.Digest]; ok {
		return Tampered, fmt.Errorf("%s holds object %s in its place", blob.Ref, id)
	}
	return Incomplete, fmt.Errorf("it is not in %s, which was not erased", blob.Ref)
}

// recordFiles reads record files of one tree in order.
type recordFiles struct {
	repo *repository
	root plumbing.Hash
	path string // of the leaf directory in leaf
	leaf []treeEntry
}

// errNoDirectory says that a whole directory of records cannot be read.
var errNoDirectory = errors.New("records directory")

func (f *recordFiles) read(seq uint64) ([]byte, error) {
	parts := strings.Split(recordPath(seq), "/")[1:]
	dir := strings.Join(parts[:len(parts)-1], "/")
	if f.path != dir || f.leaf == nil {
		at := f.root
		for _, name := range parts[:len(parts)-1] {
			entries, err := f.repo.tree(at)
			if err != nil {
				return nil, fmt.Errorf("%w %s: %w", errNoDirectory, dir, err)
			}
			var ok bool
			if at, ok = find(entries, name); !ok {
				return nil, fmt.Errorf("%w %s is gone: %w", errNoDirectory, dir, errMissing)
			}
		}
		leaf, err := f.repo.tree(at)
		if err != nil {
			return nil, fmt.Errorf("%w %s: %w", errNoDirectory, dir, err)
		}
		f.path, f.leaf = dir, leaf
	}
	hash, ok := find(f.leaf, parts[len(parts)-1])
	if !ok {
		return nil, fmt.Errorf("file %s is gone: %w", recordPath(seq), errMissing)
	}
	return f.repo.read(plumbing.BlobObject, hash, maxEnvelope)
}

func find(entries []treeEntry, name string) (plumbing.Hash, bool) {
	for _, e := range entries {
		if e.name == name {
			return e.hash, true
		}
	}
	return plumbing.ZeroHash, false
}
