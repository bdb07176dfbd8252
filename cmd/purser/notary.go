package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/term"

	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/identity"
	"github.com/purser-gitops/purser/sources/statement"
)

// notary signs statements and takes them where they belong.
type notary struct {
	estate     estate
	named      string // name of the Estate that is meant
	agent      address
	key        string // file
	agentKey   string // fingerprint or comment of a key that ssh-agent holds
	repository string
	auth       sources.Auth
	output     string
	yes        bool
}

func (n *notary) flags(cmd *cobra.Command) {
	n.estate.flags(cmd)
	f := cmd.Flags()
	n.agent.flags(cmd)
	f.StringVar(&n.key, "key", "", "file with the private SSH key")
	f.StringVar(&n.agentKey, "agent-key", "", "fingerprint or comment of a key that ssh-agent holds")
	f.StringVar(&n.repository, "repository", "", "address of the governance repository, which the statement names and is pushed to (default: origin of --repo)")
	f.StringVar(&n.auth.UsernameFile, "username-file", "", "file with the user's name, for the repository")
	f.StringVar(&n.auth.PasswordFile, "password-file", "", "file with the password or token")
	f.StringVar(&n.auth.IdentityFile, "identity-file", "", "file with the private SSH key that opens the repository")
	f.StringVar(&n.auth.KnownHostsFile, "known-hosts-file", "", "file with the keys of SSH servers")
	f.StringVar(&n.auth.CAFile, "ca-file", "", "file with certificates to trust beside the system's")
	f.StringVar(&n.output, "output", "", "write the statement to this file and its signature beside it, and push nothing")
	f.BoolVarP(&n.yes, "yes", "y", false, "sign without asking")
}

// check refuses what cannot end well before anything is asked. named says that the statement names the repository, which else is
// wanted only to push there.
func (n *notary) check(named bool) (err error) {
	if n.key != "" && n.agentKey != "" {
		return exit{usageExit, errors.New("--key and --agent-key: name one")}
	}
	if n.repository == "" && (named || n.output == "") {
		n.repository, err = originOf(n.estate.repo)
	}
	return err
}

const (
	deliverTimeout = time.Minute
	touchPeriod    = 2 * time.Minute // for a person to touch a security token
)

func (n *notary) sign(ctx context.Context, to io.Writer, payload []byte) (statement.Signed, error) {
	if n.key != "" {
		signer, err := statement.LoadSigner(n.key, func() ([]byte, error) { return passphrase(to) })
		if err != nil {
			return statement.Signed{}, err
		}
		return statement.Sign(payload, signer)
	}
	ctx, cancel := context.WithTimeout(ctx, touchPeriod)
	defer cancel()
	socket := os.Getenv("SSH_AUTH_SOCK")
	key, err := keyByComment(ctx, socket, n.agentKey)
	if err != nil {
		return statement.Signed{}, fmt.Errorf("use ssh-agent: %w", err)
	}
	return statement.SignWithAgent(ctx, socket, key, payload)
}

// keyByComment gives the public line of the key that ssh-agent holds under a comment. Fingerprints, public lines and ""
// pass as they are.
func keyByComment(ctx context.Context, socket, name string) (string, error) {
	if socket == "" || name == "" || strings.HasPrefix(name, "SHA256:") || strings.HasPrefix(name, "ssh-") {
		return name, nil
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	keys, err := agent.NewClient(conn).List()
	if err != nil {
		return "", fmt.Errorf("list keys: %w", err)
	}
	var found []*agent.Key
	for _, k := range keys {
		if k.Comment == name && !strings.Contains(k.Type(), "-cert-") {
			found = append(found, k)
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%d of its %d keys have the comment %q: name one by its fingerprint, as ssh-add -l shows it", len(found), len(keys), name)
	}
	found[0].Comment = ""
	return found[0].String(), nil
}

// signer says whose signature it is by the declarations of the clone, as far as there is one.
func (n *notary) signer(signed statement.Signed) string {
	s, err := n.estate.at("HEAD")
	if err != nil {
		return "Signed."
	}
	said, by := statement.Verify(s.set.Keyring, signed, time.Now())
	switch {
	case by.Status == identity.UnknownKey && said.Environment == statement.Governance:
		return "Signed with a key of nobody that this clone declares: it counts if it is a root key of the agent's configuration."
	case !by.Counts():
		return "Signed; but by the declarations in this clone the agent will not count it: " + by.String()
	}
	return "Signed by " + by.Person + "."
}

// deliver pushes a signed statement, or writes it to files.
func (n *notary) deliver(ctx context.Context, to io.Writer, signed statement.Signed) error {
	if n.output != "" {
		return n.write(to, signed)
	}
	ctx, cancel := context.WithTimeout(ctx, deliverTimeout)
	defer cancel()
	_, err := statement.Push(ctx, n.repository, n.auth, signed)
	return err
}

func (n *notary) write(to io.Writer, signed statement.Signed) error {
	signature := n.output + ".sig"
	if err := writeNew(n.output, signed.Payload); err != nil {
		return err
	}
	if err := writeNew(signature, signed.Signature); err != nil {
		return errors.Join(err, os.Remove(n.output))
	}
	_, err := fmt.Fprintf(to, "ssh-keygen -Y verify -f allowed_signers -I PERSON -n %s -s %s < %s\n", statement.Namespace, quoted(signature), quoted(n.output))
	return err
}

// writeNew writes a file that must not exist.
func writeNew(name string, text []byte) error {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	return errors.Join(err, file.Close())
}

var bare = regexp.MustCompile(`^[A-Za-z0-9_./@%+=:,-]+$`)

// quoted is a word as a shell reads it.
func quoted(word string) string {
	if bare.MatchString(word) && !strings.HasPrefix(word, "-") {
		return word
	}
	if strings.HasPrefix(word, "-") {
		word = "./" + word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

var errNoTerminal = errors.New("standard input is no terminal")

// confirm asks a question that only "y" or "yes" answers with yes.
func confirm(to io.Writer, question string) (bool, error) {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return false, fmt.Errorf("%w, so nobody can confirm it: look at it, and give --yes", errNoTerminal)
	}
	fmt.Fprintf(to, "%s [y/N] ", question)
	answer, err := readLine(os.Stdin, 256)
	if err != nil {
		return false, err
	}
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes", nil
}

// readLine reads a line of less than so many bytes and nothing after it, which may be for somebody else.
func readLine(from io.Reader, most int) (string, error) {
	var line []byte
	for one := make([]byte, 1); len(line) < most; {
		n, err := from.Read(one)
		if n == 1 && one[0] != '\n' {
			line = append(line, one[0])
			continue
		}
		if n == 1 || errors.Is(err, io.EOF) {
			return string(line), nil
		}
		if err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("a line of more than %d bytes", most)
}

func passphrase(to io.Writer) ([]byte, error) {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return nil, fmt.Errorf("%w: use ssh-agent", errNoTerminal)
	}
	fmt.Fprint(to, "Passphrase of the key: ")
	phrase, err := term.ReadPassword(int(os.Stdin.Fd()))
	fmt.Fprintln(to)
	return phrase, err
}

// originOf is the address that a clone calls origin.
func originOf(dir string) (string, error) {
	repo, err := openLocal(dir)
	if err != nil {
		return "", fmt.Errorf("find the governance repository (or name it: --repository): %w", err)
	}
	origin, err := repo.Remote("origin")
	if err != nil || len(origin.Config().URLs) == 0 {
		return "", fmt.Errorf("%s has no remote \"origin\": name the governance repository with --repository", dir)
	}
	address := origin.Config().URLs[0]
	if !filepath.IsAbs(address) && !strings.Contains(address, ":") { // of a repository on this machine
		return filepath.Abs(filepath.Join(dir, address))
	}
	return address, nil
}
