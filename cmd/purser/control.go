package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/declaration"
)

// control orders things from the agent on this machine.
type control struct {
	config string
	client *http.Client
	socket string
}

func (c *control) flags(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&c.config, "config", "c", "purser.yaml", "the agent's configuration, to find its control socket")
}

// maxLine bounds a line of an answer, in bytes: a record is in one.
const maxLine = 64 << 20

// connect finds the socket for orders about an environment.
func (c *control) connect(environment string) error {
	if err := checkEnvironment(environment); err != nil {
		return err
	}
	config, err := declaration.LoadAgent(c.config)
	if err != nil {
		return err
	}
	c.socket = reconciler.ControlSocket(config.DataDir)
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	c.client = &http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, "unix", c.socket)
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return nil
}

// order has something done and waits for it. It returns what was recorded. If the context ends, so does the job.
func (c *control) order(ctx context.Context, environment string, o reconciler.OrderRequest, progress func(reconciler.OrderProgress)) ([]reconciler.OrderRecord, error) {
	body, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	address := "http://agent/api/v1/environments/" + url.PathEscape(environment) + "/orders"
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	response, err := c.client.Do(request)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &sources.HintError{
			Err:  fmt.Errorf("order from the agent: %w", errors.Unwrap(err)),
			Hint: "orders are given on the agent's machine and as its user, while purser run is up with a database to back up",
		}
	}
	defer response.Body.Close()
	scanner := bufio.NewScanner(response.Body)
	scanner.Buffer(nil, maxLine)
	for scanner.Scan() {
		var line reconciler.OrderLine
		if err := json.Unmarshal(scanner.Bytes(), &line); err != nil {
			return nil, fmt.Errorf("read the agent's answer: %s: %w", response.Status, err)
		}
		switch {
		case line.Progress != nil:
			progress(*line.Progress)
		case line.Error != "" && line.Hint != "":
			return nil, &sources.HintError{Err: errors.New(line.Error), Hint: line.Hint}
		case line.Error != "":
			return nil, errors.New(line.Error)
		default:
			return line.Records, nil
		}
	}
	switch err := scanner.Err(); {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, fmt.Errorf("read the agent's answer: %w", err)
	}
	return nil, fmt.Errorf("the agent went away before it was done: %w", io.ErrUnexpectedEOF)
}

// ordered has one thing done, and gives the record of it.
func ordered[P any](ctx context.Context, c *control, environment string, o reconciler.OrderRequest, m *meter) (r recorded[P], err error) {
	records, err := c.order(ctx, environment, o, m.show)
	m.end()
	if err != nil {
		return r, err
	}
	if len(records) != 1 {
		return r, fmt.Errorf("the agent says that %d records were made, not one", len(records))
	}
	return decoded[P](records[0])
}

// recorded is a record with what it says.
type recorded[P any] struct {
	Index  uint64 `json:"record"`
	Record P      `json:"predicate"`
}

func decoded[P any](r reconciler.OrderRecord) (recorded[P], error) {
	d := recorded[P]{Index: r.Index}
	if err := json.Unmarshal(r.Predicate, &d.Record); err != nil {
		return d, fmt.Errorf("read record %d: %w", r.Index, err)
	}
	return d, nil
}
