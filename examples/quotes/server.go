package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"time"

	"github.com/zeromq/goczmq"
)

const (
	tickInterval = 200 * time.Millisecond
	longestWait  = 100 * time.Millisecond // so soon a signal is noticed
	drainQuiet   = 100 * time.Millisecond // no request for so long: nothing is queued any more
	drainLimit   = 2 * time.Second
	burst        = 100 // messages taken from one socket before the others get their turn

	linger           = 1000 // ms that queued replies have to leave when a socket is closed
	heartbeatEvery   = 2000 // ms
	heartbeatTimeout = 5000 // ms without a sign of life until a connection counts as dead
)

// server owns the sockets. They are not thread-safe: one goroutine uses them.
type server struct {
	config *config
	region string
	keys   keyPair
	zap    bool

	auth                  *goczmq.Auth
	orders, ticks, health *goczmq.Sock
	poller                *goczmq.Poller

	started time.Time
	counts  counts
}

type counts struct {
	Orders uint64 `json:"orders"`
	Pings  uint64 `json:"pings"`
	Ticks  uint64 `json:"ticks"`
}

func newServer() (*server, error) {
	region, err := environment("QUOTES_REGION", "the region that this service quotes for")
	if err != nil {
		return nil, err
	}
	loaded, err := loadConfig()
	if err != nil {
		return nil, err
	}
	s := &server{config: loaded, region: region, started: time.Now()}
	if err := s.open(); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// open binds every socket. The ZAP handler comes first: a client that found none would be admitted.
func (s *server) open() error {
	sockets := []struct {
		name, socket string
		kind         int
		sock         **goczmq.Sock
	}{
		{"orders", "ROUTER", goczmq.Router, &s.orders},
		{"ticks", "PUB", goczmq.Pub, &s.ticks},
		{"health", "REP", goczmq.Rep, &s.health},
	}
	curve := false
	for _, socket := range sockets {
		entry, err := s.config.bind(socket.name, socket.socket)
		if err != nil {
			return err
		}
		curve = curve || entry.Security == "curve"
	}
	if curve {
		if err := s.secure(); err != nil {
			return err
		}
	}
	for _, socket := range sockets {
		entry := s.config.Binds[socket.name]
		*socket.sock = goczmq.NewSock(socket.kind)
		if err := s.attach(*socket.sock, entry); err != nil {
			return fmt.Errorf("%s: binds.%s: cannot bind %s (port in use, or no such address here?)",
				s.config.path, socket.name, entry.Endpoint)
		}
	}
	var err error
	s.poller, err = goczmq.NewPoller(s.orders, s.health)
	return err
}

// secure loads this service's keys and starts the ZAP handler.
func (s *server) secure() error {
	var err error
	if s.keys, err = loadKeys(); err != nil {
		return err
	}
	if os.Getenv("QUOTES_TEST_NO_ZAP") == "1" {
		slog.Warn("QUOTES_TEST_NO_ZAP=1: without a ZAP handler every CURVE client is admitted")
		return nil
	}
	directory, err := environment("ZMQFLEET_CLIENTS", "the directory with the allowed clients' public keys")
	if err != nil {
		return err
	}
	s.auth, err = startAuth(directory)
	s.zap = err == nil
	return err
}

func (s *server) attach(sock *goczmq.Sock, entry endpoint) error {
	sock.SetLinger(linger)
	sock.SetHeartbeatIvl(heartbeatEvery)
	sock.SetHeartbeatTimeout(heartbeatTimeout)
	if entry.Security == "curve" {
		sock.SetCurveServer(1)
		sock.SetCurvePublickey(s.keys.public)
		sock.SetCurveSecretkey(s.keys.secret)
	}
	// Not Bind, which takes the endpoint for a printf format.
	return sock.Attach(entry.Endpoint, true)
}

// serve answers and publishes until a signal asks it to stop.
func (s *server) serve(stop <-chan os.Signal) {
	sign := newWatchdog()
	nextTick := time.Now()
	for {
		select {
		case <-stop:
			return
		default:
		}
		now := time.Now()
		sign.feed(now)
		if !now.Before(nextTick) {
			s.publish(now)
			nextTick = now.Add(tickInterval)
		}
		s.answer(min(longestWait, time.Until(nextTick)))
	}
}

// drain answers what is queued already, for a bounded time.
func (s *server) drain() {
	for deadline := time.Now().Add(drainLimit); time.Now().Before(deadline); {
		if !s.answer(drainQuiet) {
			return
		}
	}
}

// answer waits for requests and answers them; it says whether there were any.
func (s *server) answer(wait time.Duration) bool {
	if s.poller.Wait(int(max(wait, 0).Milliseconds())) == nil {
		return false
	}
	// The poller names one socket only, always the first: ask each, so that none starves.
	receive(s.orders, s.answerOrder)
	receive(s.health, s.answerHealth)
	return true
}

// receive hands over the messages that wait on a socket. goczmq's RecvMessageNoWait will not do:
// it finds nothing on a socket that can be read and written at once.
func receive(sock *goczmq.Sock, handle func([][]byte)) {
	for range burst {
		if sock.Events()&goczmq.Pollin == 0 {
			return
		}
		message, err := sock.RecvMessage()
		if err != nil {
			slog.Warn("a message could not be received", "error", err.Error())
			return
		}
		handle(message)
	}
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
		reply = encode(struct {
			Order  string `json:"order"`
			Region string `json:"region"`
			Host   string `json:"host"`
		}{order, s.region, s.config.Host})
	}
	send(s.orders, append(message[:envelope:envelope], reply))
}

func (s *server) answerHealth([][]byte) {
	send(s.health, [][]byte{encode(struct {
		Status  string `json:"status"`
		Service string `json:"service"`
		Host    string `json:"host"`
		Region  string `json:"region"`
		ZAP     bool   `json:"zap"`
		Uptime  int    `json:"uptime_seconds"`
		counts
	}{"ok", s.config.Service, s.config.Host, s.region, s.zap, int(time.Since(s.started).Seconds()), s.counts})})
}

// publish sends a tick: the topic, then the tick itself.
func (s *server) publish(now time.Time) {
	const topic = "ACME"
	s.counts.Ticks++
	send(s.ticks, [][]byte{[]byte(topic), encode(struct {
		Symbol string    `json:"symbol"`
		Price  float64   `json:"price"`
		Region string    `json:"region"`
		Number uint64    `json:"number"`
		Time   time.Time `json:"time"`
	}{topic, float64(9900+rand.IntN(200)) / 100, s.region, s.counts.Ticks, now})})
}

func send(sock *goczmq.Sock, message [][]byte) {
	if err := sock.SendMessage(message); err != nil {
		slog.Warn("a message could not be sent", "error", err.Error())
	}
}

func encode(value any) []byte {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err) // only of types that JSON does not know
	}
	return text
}

// close ends everything. The ZAP handler goes last: while a socket is open, clients are checked.
func (s *server) close() {
	if s.poller != nil {
		s.poller.Destroy()
	}
	for _, sock := range []*goczmq.Sock{s.orders, s.ticks, s.health} {
		if sock != nil {
			sock.Destroy()
		}
	}
	if s.auth != nil {
		s.auth.Destroy()
	}
	// Ends the ZeroMQ context, which waits for LINGER. Go's exit runs no atexit function of C.
	goczmq.Shutdown()
}
