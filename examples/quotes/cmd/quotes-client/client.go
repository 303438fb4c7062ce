package main

import (
	"log/slog"
	"slices"
	"time"

	"github.com/zeromq/goczmq"

	"zmqfleet.example/quotes/internal/daemon"
	"zmqfleet.example/quotes/internal/settings"
	"zmqfleet.example/quotes/internal/socket"
)

const (
	askInterval = 500 * time.Millisecond
	drainLimit  = time.Second
)

// client owns the sockets. They are not thread-safe: one goroutine uses them.
type client struct {
	settings    *settings.Settings
	connections []*connection
	health      *goczmq.Sock
	poller      *goczmq.Poller
	nextAsk     time.Time
}

func newClient() (*client, error) {
	loaded, err := settings.Load()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	c := &client{settings: loaded, nextAsk: now}
	if err := c.open(now); err != nil {
		c.Close()
		return nil, err
	}
	slog.Info("ready", "host", loaded.Host, "connections", len(c.connections))
	return c, nil
}

// open binds the health socket and makes a connection for each peer in the settings.
func (c *client) open(now time.Time) error {
	health, err := c.settings.Bind("health", "REP")
	if err != nil {
		return err
	}
	if health.Curve() {
		return settings.Errorf(`%s: binds.health.security is "curve", this service needs "null"`, c.settings.Path)
	}
	if err := c.plan("quotes.orders", "ROUTER", goczmq.Dealer); err != nil {
		return err
	}
	if err := c.plan("quotes.ticks", "PUB", goczmq.Sub); err != nil {
		return err
	}
	if err := c.addKeys(); err != nil {
		return err
	}

	if c.health, err = socket.Bind(c.settings, "health", goczmq.Rep, settings.KeyPair{}); err != nil {
		return err
	}
	for _, connection := range c.connections {
		if err := connection.open(now); err != nil {
			return settings.Errorf("%s: connects.%s: cannot connect to %q (%s)",
				c.settings.Path, connection.connect, connection.peer.Endpoint, connection.peer.Host)
		}
	}
	return c.watch()
}

// plan adds a connection of this kind for each peer of one entry of "connects".
func (c *client) plan(connect, peersType string, kind int) error {
	peers, err := c.settings.Peers(connect, peersType)
	for _, peer := range peers {
		c.connections = append(c.connections, newConnection(connect, peer, kind))
	}
	return err
}

// addKeys gives this service's own keys to the connections that use CURVE.
func (c *client) addKeys() error {
	var keys settings.KeyPair
	for _, connection := range c.connections {
		if !connection.peer.Curve() {
			continue
		}
		if keys == (settings.KeyPair{}) {
			var err error
			if keys, err = settings.LoadKeys(); err != nil {
				return err
			}
		}
		connection.keys = keys
	}
	return nil
}

// watch makes the poller for the sockets there are now. goczmq's Remove will not do when a socket
// is replaced: it leaves the socket in the poller of czmq.
func (c *client) watch() error {
	if c.poller != nil {
		c.poller.Destroy()
	}
	socks := []*goczmq.Sock{c.health}
	for _, connection := range c.connections {
		socks = append(socks, connection.sock)
	}
	var err error
	c.poller, err = goczmq.NewPoller(socks...)
	return err
}

// Turn asks every broker when it is time, and takes what they answer.
func (c *client) Turn(now time.Time) {
	c.recreateOverdue(now)
	if !now.Before(c.nextAsk) {
		for _, connection := range c.connections {
			connection.ask(now)
		}
		c.nextAsk = now.Add(askInterval)
	}
	c.receive(min(daemon.LongestWait, time.Until(c.nextAsk)))
}

// Drain waits for the answers that are still due, for a bounded time.
func (c *client) Drain() {
	deadline := time.Now().Add(drainLimit)
	for slices.ContainsFunc(c.connections, (*connection).owesReply) && time.Now().Before(deadline) {
		c.receive(daemon.LongestWait)
	}
	slog.Info("stopping")
}

func (c *client) receive(wait time.Duration) {
	if !socket.Wait(c.poller, wait) {
		return
	}
	for _, connection := range c.connections {
		connection.receive()
	}
	socket.Receive(c.health, slog.Default(), c.answerHealth)
}

// recreateOverdue closes the sockets whose peer owes an answer for too long and makes new ones.
// Waiting longer would not do: libzmq connects again by itself after a lost connection, but not
// after the peer's ZAP handler has refused the key (400), not even once the key is allowed.
func (c *client) recreateOverdue(now time.Time) {
	replaced := false
	for _, connection := range c.connections {
		if !connection.overdue(now) {
			continue
		}
		connection.become(notAnswering)
		connection.sock.Destroy()
		connection.recreated++
		if err := connection.open(now); err != nil {
			connection.log.Error("cannot connect", "error", err.Error())
		}
		replaced = true
	}
	if !replaced {
		return
	}
	if err := c.watch(); err != nil {
		slog.Error("sockets cannot be polled", "error", err.Error())
	}
}

func (c *client) answerHealth([][]byte) {
	report := struct {
		Status      string        `json:"status"`
		Service     string        `json:"service"`
		Host        string        `json:"host"`
		Replies     uint64        `json:"replies"`
		TickAge     *float64      `json:"last_tick_age_seconds"` // null: no tick yet
		Connections []*connection `json:"connections"`
	}{Status: "ok", Service: c.settings.Service, Host: c.settings.Host, Connections: c.connections}
	var lastTick time.Time
	for _, connection := range c.connections {
		if connection.state != answering {
			report.Status = "degraded"
		}
		if connection.kind == goczmq.Dealer {
			report.Replies += connection.answers
		} else if connection.lastAnswer.After(lastTick) {
			lastTick = connection.lastAnswer
		}
	}
	if !lastTick.IsZero() {
		age := time.Since(lastTick).Round(time.Millisecond).Seconds()
		report.TickAge = &age
	}
	socket.Send(c.health, socket.JSON(report))
}

// Close ends everything.
func (c *client) Close() {
	socks := []*goczmq.Sock{c.health}
	for _, connection := range c.connections {
		socks = append(socks, connection.sock)
	}
	socket.Close(c.poller, socks...)
}
