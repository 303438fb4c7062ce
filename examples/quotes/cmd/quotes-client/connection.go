package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/zeromq/goczmq"

	"zmqfleet.example/quotes/internal/settings"
	"zmqfleet.example/quotes/internal/socket"
)

const patience = 3 * time.Second // without an answer for so long, a socket is made anew

const (
	starting     = "starting"
	answering    = "answering"
	notAnswering = "not answering"
)

// connection is one socket to one peer: a DEALER for orders, or a SUB for ticks.
type connection struct {
	connect string // "quotes.orders"
	peer    settings.Endpoint
	kind    int
	keys    settings.KeyPair
	log     *slog.Logger

	sock         *goczmq.Sock
	state        string
	waitingSince time.Time // zero: no answer is due
	lastAnswer   time.Time
	roundTrip    time.Duration
	asked        uint64
	answers      uint64
	recreated    uint64
}

func newConnection(connect string, peer settings.Endpoint, kind int) *connection {
	c := &connection{connect: connect, peer: peer, kind: kind, state: starting}
	c.log = slog.With("connection", c)
	return c
}

func (c *connection) open(now time.Time) error {
	c.waitingSince = time.Time{}
	if c.kind == goczmq.Sub {
		c.waitingSince = now // ticks come unasked
	}
	var err error
	c.sock, err = socket.Connect(c.peer, c.kind, c.keys)
	return err
}

// ask sends a PING or an order, by turns, unless an answer is still due (the Lazy Pirate of the
// ZeroMQ guide: https://zguide.zeromq.org/docs/chapter4/).
func (c *connection) ask(now time.Time) {
	if c.kind != goczmq.Dealer || !c.waitingSince.IsZero() {
		return
	}
	request := "PING"
	if c.asked%2 == 1 {
		request = fmt.Sprintf("order %d", c.asked)
	}
	c.asked++
	c.waitingSince = now
	if err := c.sock.SendMessage([][]byte{[]byte(request)}); err != nil {
		c.log.Warn("a request could not be sent", "error", err.Error())
	}
}

// receive takes the answers or ticks that wait.
func (c *connection) receive() {
	socket.Receive(c.sock, c.log, func([][]byte) {
		now := time.Now()
		c.answers++
		c.lastAnswer = now
		if c.kind == goczmq.Dealer {
			c.roundTrip = now.Sub(c.waitingSince)
			c.waitingSince = time.Time{}
		} else {
			c.waitingSince = now
		}
		c.become(answering)
	})
}

func (c *connection) overdue(now time.Time) bool {
	return !c.waitingSince.IsZero() && now.Sub(c.waitingSince) > patience
}

// owesReply says whether a reply is due from a broker that answers.
func (c *connection) owesReply() bool {
	return c.kind == goczmq.Dealer && c.state == answering && !c.waitingSince.IsZero()
}

// become notes a state and logs it when it is a new one.
func (c *connection) become(state string) {
	if c.state == state {
		return
	}
	level := slog.LevelInfo
	if state == notAnswering {
		level = slog.LevelWarn
	}
	c.log.Log(context.Background(), level, state, "before", c.state)
	c.state = state
}

// LogValue names the connection in logs.
func (c *connection) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("connect", c.connect),
		slog.String("host", c.peer.Host),
		slog.String("endpoint", c.peer.Endpoint))
}

// MarshalJSON is the connection's part of the health report.
func (c *connection) MarshalJSON() ([]byte, error) {
	report := struct {
		Connect   string   `json:"connect"`
		Host      string   `json:"host"`
		Endpoint  string   `json:"endpoint"`
		State     string   `json:"state"`
		Replies   *uint64  `json:"replies,omitempty"`
		RoundTrip *float64 `json:"round_trip_ms,omitempty"`
		Ticks     *uint64  `json:"ticks,omitempty"`
		TickAge   *float64 `json:"last_tick_age_seconds,omitempty"`
		Recreated uint64   `json:"recreated"`
	}{Connect: c.connect, Host: c.peer.Host, Endpoint: c.peer.Endpoint, State: c.state, Recreated: c.recreated}
	if c.kind == goczmq.Dealer {
		report.Replies = &c.answers
		if c.answers > 0 {
			milliseconds := float64(c.roundTrip.Microseconds()) / 1000
			report.RoundTrip = &milliseconds
		}
	} else {
		report.Ticks = &c.answers
		if c.answers > 0 {
			age := time.Since(c.lastAnswer).Round(time.Millisecond).Seconds()
			report.TickAge = &age
		}
	}
	return json.Marshal(report)
}
