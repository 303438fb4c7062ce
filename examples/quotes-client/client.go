package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/zeromq/goczmq"
)

const (
	askInterval  = 500 * time.Millisecond
	longestWait  = 100 * time.Millisecond // so soon a signal is noticed
	drainLimit   = time.Second
	healthLinger = 1000 // ms that a queued health reply has to leave
)

// client owns the sockets. They are not thread-safe: one goroutine uses them.
type client struct {
	config      *config
	connections []*connection
	health      *goczmq.Sock
	poller      *goczmq.Poller
}

func newClient() (*client, error) {
	loaded, err := loadConfig()
	if err != nil {
		return nil, err
	}
	c := &client{config: loaded}
	if err := c.open(time.Now()); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// open binds the health socket and makes a connection for each peer in the configuration.
func (c *client) open(now time.Time) error {
	health, err := c.config.bind("health", "REP")
	if err != nil {
		return err
	}
	if health.Security != "null" {
		return badConfig(`%s: binds.health.security is %q, this service needs "null"`, c.config.path, health.Security)
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

	c.health = goczmq.NewSock(goczmq.Rep)
	c.health.SetLinger(healthLinger)
	if err := c.health.Attach(health.Endpoint, true); err != nil {
		return fmt.Errorf("%s: binds.health: cannot bind %s (port in use, or no such address here?)",
			c.config.path, health.Endpoint)
	}
	for _, connection := range c.connections {
		if err := connection.open(now); err != nil {
			return badConfig("%s: connects.%s: cannot connect to %q (%s)",
				c.config.path, connection.connect, connection.peer.Endpoint, connection.peer.Host)
		}
	}
	return c.watch()
}

// plan adds a connection of this kind for each peer of one entry of "connects".
func (c *client) plan(connect, socket string, kind int) error {
	peers := c.config.Connects[connect]
	if len(peers) == 0 {
		return badConfig("%s: connects.%s is missing or empty", c.config.path, connect)
	}
	for number, peer := range peers {
		key := fmt.Sprintf("connects.%s[%d]", connect, number)
		if err := c.config.check(key, peer, socket); err != nil {
			return err
		}
		if _, valid := decodeKey(peer.ServerKey); peer.Security == "curve" && !valid {
			return badConfig("%s: %s.server_key is not a Z85 key of 40 characters", c.config.path, key)
		}
		c.connections = append(c.connections, &connection{connect: connect, peer: peer, kind: kind, state: starting})
	}
	return nil
}

// addKeys gives this service's own keys to the connections that use CURVE.
func (c *client) addKeys() error {
	var keys keyPair
	for _, connection := range c.connections {
		if connection.peer.Security != "curve" {
			continue
		}
		if keys == (keyPair{}) {
			var err error
			if keys, err = loadKeys(); err != nil {
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

// talk asks every broker again and again until a signal ends it.
func (c *client) talk(stop <-chan os.Signal) {
	sign := newWatchdog()
	nextAsk := time.Now()
	for {
		select {
		case <-stop:
			return
		default:
		}
		now := time.Now()
		sign.feed(now)
		c.recreateOverdue(now)
		if !now.Before(nextAsk) {
			for _, connection := range c.connections {
				connection.ask(now)
			}
			nextAsk = now.Add(askInterval)
		}
		c.receive(min(longestWait, time.Until(nextAsk)))
	}
}

// drain waits for the answers that are still due, for a bounded time.
func (c *client) drain() {
	for deadline := time.Now().Add(drainLimit); time.Now().Before(deadline); {
		due := false
		for _, connection := range c.connections {
			due = due || connection.owesReply()
		}
		if !due {
			return
		}
		c.receive(longestWait)
	}
}

func (c *client) receive(wait time.Duration) {
	if c.poller.Wait(int(max(wait, 0).Milliseconds())) == nil {
		return
	}
	// The poller names one socket only, always the first: ask each, so that none starves.
	for _, connection := range c.connections {
		connection.receive()
	}
	if c.health.Events()&goczmq.Pollin != 0 {
		c.answerHealth()
	}
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
			slog.Error("cannot connect", "connection", connection, "error", err.Error())
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

func (c *client) answerHealth() {
	if _, err := c.health.RecvMessage(); err != nil {
		slog.Warn("a message could not be received", "error", err.Error())
		return
	}
	report := struct {
		Status      string        `json:"status"`
		Service     string        `json:"service"`
		Host        string        `json:"host"`
		Replies     uint64        `json:"replies"`
		TickAge     *float64      `json:"last_tick_age_seconds"` // null: no tick yet
		Connections []*connection `json:"connections"`
	}{Status: "ok", Service: c.config.Service, Host: c.config.Host, Connections: c.connections}
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
	text, err := json.Marshal(report)
	if err != nil {
		panic(err) // only of types that JSON does not know
	}
	if err := c.health.SendMessage([][]byte{text}); err != nil {
		slog.Warn("a message could not be sent", "error", err.Error())
	}
}

// close ends everything.
func (c *client) close() {
	if c.poller != nil {
		c.poller.Destroy()
	}
	if c.health != nil {
		c.health.Destroy()
	}
	for _, connection := range c.connections {
		if connection.sock != nil {
			connection.sock.Destroy()
		}
	}
	// Ends the ZeroMQ context, which waits for LINGER. Go's exit runs no atexit function of C.
	goczmq.Shutdown()
}
