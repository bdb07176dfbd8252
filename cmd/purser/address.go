package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/purser-gitops/purser/sources/declaration"
)

// address says where the agent listens: as told, or as its configuration says.
type address struct{ server, config string }

func (a *address) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.server, "server", "http://127.0.0.1:8780", "address of the agent")
	cmd.Flags().StringVarP(&a.config, "config", "c", "", "the agent's configuration, to find its address there")
	cmd.MarkFlagsMutuallyExclusive("server", "config")
}

// said reports whether the command line names the agent.
func (a *address) said(cmd *cobra.Command) bool {
	return cmd.Flags().Changed("server") || cmd.Flags().Changed("config")
}

func (a *address) url() (string, error) {
	if a.config == "" {
		return a.server, nil
	}
	config, err := declaration.LoadAgent(a.config)
	if err != nil {
		return "", err
	}
	host, port, err := net.SplitHostPort(config.Listen)
	if err != nil {
		return "", fmt.Errorf("read the agent's address: %w", err)
	}
	if port == "0" {
		return "", fmt.Errorf("%s: the agent listens on a free port of its choice; give --server, its log says where", a.config)
	}
	switch ip := net.ParseIP(host); {
	case host == "" || ip.Equal(net.IPv4zero):
		host = "127.0.0.1" // it listens on every address
	case ip.Equal(net.IPv6unspecified):
		host = "::1"
	}
	return "http://" + net.JoinHostPort(host, port), nil
}

// answerBytes bounds what is read of an agent's answer.
const answerBytes = 64 << 20

// ask reads one document of the agent's API.
func (a *address) ask(ctx context.Context, path string, into any) error {
	server, err := a.url()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(server, "/")+"/api/v1/"+path, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("ask the agent (is purser run up at %s?): %w", server, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, answerBytes))
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("ask the agent: %s: %s", response.Status, strings.TrimSpace(string(body)))
	}
	return json.Unmarshal(body, into)
}
