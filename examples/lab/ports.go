package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
)

// firstPort is the lowest port the lab uses.
const firstPort = 10000

// freePort returns a port on which nothing listens now. It lies below the kernel's ephemeral range: a port of that
// range could be given to any outgoing connection while its server is down. The caller must be ready to try
// another one when something else takes the port first.
func freePort() (int, error) {
	low := ephemeralStart()
	for range 200 {
		port := firstPort + rand.IntN(low-firstPort)
		if portFree(port) {
			return port, nil
		}
	}
	return 0, fmt.Errorf("find free port: all tried ports between %d and %d are taken", firstPort, low)
}

// portFree reports whether a server could listen on the port now.
func portFree(port int) bool {
	l, err := net.Listen("tcp", loopback(port))
	if err != nil {
		return false
	}
	return l.Close() == nil
}

// ephemeralStart is the first port that the kernel gives to outgoing connections.
func ephemeralStart() int {
	const usual = 32768
	data, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return usual
	}
	var low, high int
	if _, err := fmt.Sscan(string(data), &low, &high); err != nil || low < firstPort+1000 {
		return usual
	}
	return low
}

// loopback is the address of a port on this machine.
func loopback(port int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// listenLoopback listens on a free port outside the ephemeral range.
func listenLoopback() (net.Listener, error) {
	var errs []error
	for range 10 {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		l, err := net.Listen("tcp", loopback(port))
		if err == nil {
			return l, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("listen on loopback: %w", errors.Join(errs...))
}

// port returns the port of a server of the lab and chooses it at the first call.
func (l *Lab) port(server string) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if port, ok := l.Ports[server]; ok {
		return port, nil
	}
	port, err := freePort()
	if err == nil {
		l.Ports[server] = port
	}
	return port, err
}

// forgetPort makes the next call of port choose another one.
func (l *Lab) forgetPort(server string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.Ports, server)
}

// earlierPorts returns the ports that a lab described by data had and that are free now.
func earlierPorts(data []byte) map[string]int {
	var earlier Endpoints
	free := map[string]int{}
	if json.Unmarshal(data, &earlier) != nil {
		return free
	}
	for server, port := range earlier.Ports {
		if portFree(port) {
			free[server] = port
		}
	}
	return free
}
