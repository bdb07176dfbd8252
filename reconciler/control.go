package reconciler

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"github.com/purser-gitops/purser/backup"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/upkeep"
	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/declaration"
)

// ControlSocket is where an agent that makes backups takes orders: a Unix socket that its own user alone may open. It speaks HTTP:
// POST /api/v1/environments/NAME/orders with an [OrderRequest], answered by one [OrderLine] per line. Whoever goes away before the
// last line ends what was ordered.
func ControlSocket(dataDir string) string { return filepath.Join(dataDir, "control.sock") }

// OrderRequest is what somebody on the agent's machine wants to have done; see [Order].
type OrderRequest struct {
	Task   upkeep.Task  `json:"task"`
	Store  string       `json:"store,omitempty"`
	ID     backup.ID    `json:"id,omitempty"`
	Level  backup.Level `json:"level,omitempty"`
	Point  string       `json:"point,omitempty"`
	Reason string       `json:"reason,omitempty"`
}

// OrderLine is one line of the answer: how far it is, or last of all what was recorded or why nothing was.
type OrderLine struct {
	Progress *OrderProgress `json:"progress,omitempty"`
	Records  []OrderRecord  `json:"records,omitempty"`
	Error    string         `json:"error,omitempty"`
	Hint     string         `json:"hint,omitempty"`
}

// OrderProgress is how far a task is.
type OrderProgress struct {
	Task upkeep.Task `json:"task"`
	backup.Progress
}

// OrderRecord is a record of what was done.
type OrderRecord struct {
	Index     uint64          `json:"index"`
	Type      string          `json:"type"`
	Predicate json.RawMessage `json:"predicate"`
}

// Bounds of what the control socket reads and waits for.
const (
	maxOrder       = 16 << 10 // bytes of a request
	maxReason      = 500      // bytes
	maxSocketPath  = 107      // bytes, see unix(7)
	controlTimeout = 15 * time.Second
	controlEnd     = 5 * time.Second // for the last lines, once the agent stops
)

// listenControl makes the socket anew. The data directory is locked: whatever socket is there, nobody listens on it.
func listenControl(dataDir string) (_ *net.UnixListener, err error) {
	path := ControlSocket(dataDir)
	if len(path) > maxSocketPath-len("/") { // the folder below has a longer name
		return nil, &sources.HintError{
			Err:  fmt.Errorf("the path of the control socket %s has %d bytes, which is more than a socket's may have", path, len(path)),
			Hint: fmt.Sprintf("choose a dataDir of at most %d bytes", maxSocketPath-len("/")-len("/control.sock")),
		}
	}
	switch there, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("look at the control socket: %w", err)
	case there.Mode().Type() != fs.ModeSocket:
		return nil, &sources.HintError{Err: fmt.Errorf("%s is no socket", path), Hint: "the agent listens there: move away what is in its place"}
	}
	// A socket is born with the permissions that the umask leaves. In a folder that nobody else may enter it gets its own first.
	private, err := os.MkdirTemp(dataDir, ".")
	if err != nil {
		return nil, fmt.Errorf("create control socket: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(private)) }()
	born := filepath.Join(private, "s")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: born, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("create control socket: %w", err)
	}
	listener.SetUnlinkOnClose(false) // it has another name by then
	if err := errors.Join(os.Chmod(born, 0o600), os.Rename(born, path)); err != nil {
		return nil, errors.Join(fmt.Errorf("create control socket: %w", err), listener.Close())
	}
	return listener, nil
}

// serveControl takes orders until the context ends; then it waits a moment for those who are to be told so.
func (a *Agent) serveControl(ctx context.Context, listener net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/environments/{name}/orders", a.serveOrder)
	server := &http.Server{
		Handler: mux, ReadHeaderTimeout: controlTimeout, IdleTimeout: controlTimeout, MaxHeaderBytes: maxOrder,
		ErrorLog: slog.NewLogLogger(a.logger.Handler(), slog.LevelWarn),
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve control socket: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), controlEnd)
		defer cancel()
		if err := server.Shutdown(end); err != nil {
			_ = server.Close() // its connections are all there is to close
		}
		return nil
	})
	served := group.Wait()
	err := os.Remove(ControlSocket(a.config.DataDir))
	if errors.Is(err, fs.ErrNotExist) { // somebody was quicker
		err = nil
	}
	return errors.Join(served, err)
}

// serveOrder has something done for somebody who waits.
func (a *Agent) serveOrder(w http.ResponseWriter, r *http.Request) {
	answer := lines{w: w, control: http.NewResponseController(w)}
	wanted, err := readOrder(w, r, answer.control)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		_ = answer.write(OrderLine{Error: err.Error()}) // the client went away
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	progress := make(chan OrderLine, 1)
	done := make(chan OrderLine, 1)
	go func() { done <- a.carryOut(ctx, r.PathValue("name"), wanted, progress) }()
	for {
		select {
		case line := <-progress:
			if err := answer.write(line); err != nil {
				cancel()
				<-done
				return
			}
		case line := <-done:
			_ = answer.write(line) // the client went away
			return
		}
	}
}

// carryOut has something done, and words what became of it.
func (a *Agent) carryOut(ctx context.Context, environment string, wanted OrderRequest, progress chan OrderLine) OrderLine {
	tell := func(task upkeep.Task, p backup.Progress) {
		select {
		case progress <- OrderLine{Progress: &OrderProgress{task, p}}:
		default: // who does not read what comes is told less
		}
	}
	records, err := a.Order(ctx, environment, Order{
		Task: wanted.Task, Store: wanted.Store, ID: wanted.ID, Level: wanted.Level, Point: wanted.Point, Reason: wanted.Reason, Progress: tell,
	})
	switch {
	case errors.Is(err, context.Canceled) && ctx.Err() == nil:
		return OrderLine{Error: "the agent stopped before it was done", Hint: orderHint(errStopping)}
	case err != nil:
		return OrderLine{Error: err.Error(), Hint: orderHint(err)}
	}
	line := OrderLine{Records: []OrderRecord{}}
	for _, r := range records {
		line.Records = append(line.Records, orderRecord(r))
	}
	return line
}

func orderRecord(r evidence.Record) OrderRecord {
	return OrderRecord{Index: r.Index, Type: r.Type, Predicate: r.Predicate}
}

func orderHint(err error) string {
	var h *sources.HintError
	switch {
	case errors.As(err, &h):
		return "" // it is in the error
	case errors.Is(err, ErrNotDeclared):
		return "purser status lists the environments"
	case errors.Is(err, ErrNoBackups):
		return "an environment names its BackupPolicy (spec.backup), and the agent's configuration its database and the policy's stores"
	case errors.Is(err, errStopping):
		return "ask again once it runs"
	}
	return ""
}

// readOrder reads a request to its end, so that from then on the end of the connection is seen.
func readOrder(w http.ResponseWriter, r *http.Request, control *http.ResponseController) (o OrderRequest, err error) {
	if err := control.SetReadDeadline(time.Now().Add(controlTimeout)); err != nil {
		return o, err
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxOrder))
	if err != nil {
		return o, fmt.Errorf("read the order: %w", err)
	}
	if err := control.SetReadDeadline(time.Time{}); err != nil {
		return o, err
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&o); err != nil {
		return o, fmt.Errorf("read the order: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return o, errors.New("read the order: something follows it")
	}
	return o, o.check()
}

// check refuses what is no order, before it gets into the log.
func (o *OrderRequest) check() error {
	if !slices.Contains([]upkeep.Task{upkeep.TakeBackup, upkeep.Verify, upkeep.Drill}, o.Task) {
		return fmt.Errorf("task %.20q is none that can be ordered", o.Task)
	}
	if known := slices.Contains([]backup.Level{backup.L0, backup.L1, backup.L2}, o.Level); known != (o.Task == upkeep.Verify) {
		return fmt.Errorf("level %.20q: a verification has one of L0, L1 and L2, and nothing else has", o.Level)
	}
	switch {
	case o.Point != "" && o.Task != upkeep.Drill, o.ID != "" && o.Task == upkeep.TakeBackup:
		return fmt.Errorf("a point is for a drill, and an ID for what is done with a backup")
	case !slices.Contains([]string{"", declaration.PointLatest, declaration.PointRandom}, o.Point):
		return fmt.Errorf("point %.20q is neither latest nor random", o.Point)
	case o.Point != "" && o.ID != "":
		return errors.New("a drill has a point or an ID, not both")
	}
	for _, text := range []string{o.Reason, o.Store, string(o.ID)} {
		if len(text) > maxReason || !utf8.ValidString(text) || containsControl(text) {
			return fmt.Errorf("%.40q: a text has %d bytes at most, and no control characters", text, maxReason)
		}
	}
	if o.Reason == "" {
		o.Reason = "somebody ordered it"
	}
	return nil
}

func containsControl(text string) bool {
	return slices.ContainsFunc([]rune(text), func(r rune) bool { return !unicode.IsPrint(r) })
}

// lines writes one line after the other to somebody who has to read them.
type lines struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func (l lines) write(line OrderLine) error {
	l.w.Header().Set("Content-Type", "application/jsonl")
	if err := l.control.SetWriteDeadline(time.Now().Add(controlTimeout)); err != nil {
		return err
	}
	if err := json.NewEncoder(l.w).Encode(line); err != nil {
		return err
	}
	return l.control.Flush()
}
