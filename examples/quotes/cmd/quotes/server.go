package main

import (
	"log/slog"
	"math/rand/v2"
	"os"
	"time"

	"github.com/zeromq/goczmq"

	"zmqfleet.example/quotes/internal/allowlist"
	"zmqfleet.example/quotes/internal/daemon"
	"zmqfleet.example/quotes/internal/settings"
	"zmqfleet.example/quotes/internal/socket"
)

const (
	tickInterval = 200 * time.Millisecond
	drainQuiet   = 100 * time.Millisecond // no request for so long: nothing is queued any more
	drainLimit   = 2 * time.Second
)

// server owns the sockets. They are not thread-safe: one goroutine uses them.
type server struct {
	settings *settings.Settings
	region   string
	keys     settings.KeyPair
	zap      bool

	auth                  *goczmq.Auth
	orders, ticks, health *goczmq.Sock
	poller                *goczmq.Poller

	started  time.Time
	nextTick time.Time
	counts   counts
}

type counts struct {
	Orders uint64 `json:"orders"`
	Pings  uint64 `json:"pings"`
	Ticks  uint64 `json:"ticks"`
}

func newServer() (*server, error) {
	region, err := settings.Environment("QUOTES_REGION", "the region that this service quotes for")
	if err != nil {
		return nil, err
	}
	loaded, err := settings.Load()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	s := &server{settings: loaded, region: region, started: now, nextTick: now}
	if err := s.open(); err != nil {
		s.Close()
		return nil, err
	}
	slog.Info("ready", "region", region, "host", loaded.Host)
	return s, nil
}

// open binds every socket. The ZAP handler comes first: a client that found none would be admitted.
func (s *server) open() error {
	endpoints := []struct {
		name, socket string
		kind         int
		sock         **goczmq.Sock
	}{
		{"orders", "ROUTER", goczmq.Router, &s.orders},
		{"ticks", "PUB", goczmq.Pub, &s.ticks},
		{"health", "REP", goczmq.Rep, &s.health},
	}
	curve := false
	for _, endpoint := range endpoints {
		entry, err := s.settings.Bind(endpoint.name, endpoint.socket)
		if err != nil {
			return err
		}
		curve = curve || entry.Curve()
	}
	if curve {
		if err := s.secure(); err != nil {
			return err
		}
	}
	for _, endpoint := range endpoints {
		var err error
		if *endpoint.sock, err = socket.Bind(s.settings, endpoint.name, endpoint.kind, s.keys); err != nil {
			return err
		}
	}
	var err error
	s.poller, err = goczmq.NewPoller(s.orders, s.health)
	return err
}

// secure loads this service's keys and starts the ZAP handler.
func (s *server) secure() error {
	var err error
	if s.keys, err = settings.LoadKeys(); err != nil {
		return err
	}
	if os.Getenv("QUOTES_TEST_NO_ZAP") == "1" {
		slog.Warn("QUOTES_TEST_NO_ZAP=1: without a ZAP handler every CURVE client is admitted")
		return nil
	}
	directory, err := settings.Environment("ZMQFLEET_CLIENTS", "the directory with the allowed clients' public keys")
	if err != nil {
		return err
	}
	s.auth, err = allowlist.Start(directory)
	s.zap = err == nil
	return err
}

// Turn publishes when it is time, and answers.
func (s *server) Turn(now time.Time) {
	if !now.Before(s.nextTick) {
		s.publish(now)
		s.nextTick = now.Add(tickInterval)
	}
	s.answer(min(daemon.LongestWait, time.Until(s.nextTick)))
}

// Drain answers what is queued already, for a bounded time.
func (s *server) Drain() {
	for deadline := time.Now().Add(drainLimit); time.Now().Before(deadline); {
		if !s.answer(drainQuiet) {
			break
		}
	}
	slog.Info("stopping", "orders", s.counts.Orders, "ticks", s.counts.Ticks)
}

// answer waits for requests and answers them; it says whether there were any.
func (s *server) answer(wait time.Duration) bool {
	if !socket.Wait(s.poller, wait) {
		return false
	}
	socket.Receive(s.orders, slog.Default(), s.answerOrder)
	socket.Receive(s.health, slog.Default(), s.answerHealth)
	return true
}

// answerOrder answers "PING" with "PONG"; all else is an order. Clients are DEALER or REQ: the
// latter's empty delimiter goes back with the reply.
func (s *server) answerOrder(message [][]byte) {
	envelope := 1
	if len(message) > 2 && len(message[1]) == 0 {
		envelope = 2
	}
	if len(message) <= envelope {
		return
	}
	reply := []byte("PONG")
	if order := string(message[envelope]); order == "PING" {
		s.counts.Pings++
	} else {
		s.counts.Orders++
		reply = socket.JSON(struct {
			Order  string `json:"order"`
			Region string `json:"region"`
			Host   string `json:"host"`
		}{order, s.region, s.settings.Host})
	}
	socket.Send(s.orders, append(message[:envelope:envelope], reply)...)
}

func (s *server) answerHealth([][]byte) {
	socket.Send(s.health, socket.JSON(struct {
		Status  string `json:"status"`
		Service string `json:"service"`
		Host    string `json:"host"`
		Region  string `json:"region"`
		ZAP     bool   `json:"zap"`
		Uptime  int    `json:"uptime_seconds"`
		counts
	}{"ok", s.settings.Service, s.settings.Host, s.region, s.zap, int(time.Since(s.started).Seconds()), s.counts}))
}

// publish sends a tick: the topic, then the tick itself.
func (s *server) publish(now time.Time) {
	const topic = "ACME"
	s.counts.Ticks++
	socket.Send(s.ticks, []byte(topic), socket.JSON(struct {
		Symbol string    `json:"symbol"`
		Price  float64   `json:"price"`
		Region string    `json:"region"`
		Number uint64    `json:"number"`
		Time   time.Time `json:"time"`
	}{topic, float64(9900+rand.IntN(200)) / 100, s.region, s.counts.Ticks, now}))
}

// Close ends everything. The ZAP handler goes last: while a socket is open, clients are checked.
func (s *server) Close() {
	socket.Close(s.poller, s.orders, s.ticks, s.health)
	if s.auth != nil {
		s.auth.Destroy()
	}
}
