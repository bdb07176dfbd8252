package lab

import (
	"context"
	"net/http"
	"os/exec"
	"syscall"
)

// alertmanagerConfig keeps alerts and notifies nobody.
const alertmanagerConfig = `route: {receiver: nobody}
receivers: [{name: nobody}]
`

// alertmanager takes alerts. It is a cluster of its own: no other one is looked for.
type alertmanager struct{}

func (alertmanager) Name() string    { return Alertmanager }
func (alertmanager) Needs() []string { return nil }

func (alertmanager) Command(_ context.Context, l *Lab, binary string) (*exec.Cmd, error) {
	port, err := l.port(Alertmanager)
	if err != nil {
		return nil, err
	}
	l.AlertmanagerURL = "http://" + loopback(port)
	config := l.path("alertmanager.yml")
	if err := writeFile(config, []byte(alertmanagerConfig), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command(binary, "--config.file="+config, "--storage.path="+l.path("alertmanager"),
		"--web.listen-address="+loopback(port), "--cluster.listen-address=", "--log.level=warn")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd, nil
}

func (alertmanager) Ready(ctx context.Context, l *Lab) error {
	return getOK(ctx, http.DefaultTransport, l.AlertmanagerURL+"/-/ready")
}
