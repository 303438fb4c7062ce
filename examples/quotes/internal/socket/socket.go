// Package socket holds how both services make and use their ZeroMQ sockets.
package socket

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/zeromq/goczmq"

	"zmqfleet.example/quotes/internal/settings"
)

const (
	linger           = 1000 // ms that queued replies have to leave when a bound socket is closed
	heartbeatEvery   = 2000 // ms
	heartbeatTimeout = 5000 // ms without a sign of life until a connection counts as dead
	burst            = 100  // messages taken from one socket before the others get their turn
)

// Bind makes a socket and binds it as "binds" says under this name; keys are used with CURVE only.
func Bind(from *settings.Settings, name string, kind int, keys settings.KeyPair) (*goczmq.Sock, error) {
	entry := from.Binds[name]
	sock := newSock(kind, entry, keys)
	sock.SetLinger(linger)
	if entry.Curve() {
		sock.SetCurveServer(1)
	}
	// Not goczmq's Bind, which takes the endpoint for a printf format.
	if err := sock.Attach(entry.Endpoint, true); err != nil {
		sock.Destroy()
		return nil, fmt.Errorf("%s: binds.%s: cannot bind %s (port in use, or no such address here?)",
			from.Path, name, entry.Endpoint)
	}
	return sock, nil
}

// Connect makes a socket that connects to a peer; a SUB gets all that is published. The socket is there
// with an error too, and never gets an answer then.
func Connect(peer settings.Endpoint, kind int, keys settings.KeyPair) (*goczmq.Sock, error) {
	sock := newSock(kind, peer, keys)
	sock.SetLinger(0) // a request that never left is worth nothing to a closed socket
	sock.SetSndtimeo(0)
	if peer.Curve() {
		sock.SetCurveServerkey(peer.ServerKey)
	}
	if kind == goczmq.Sub {
		sock.SetSubscribe("")
	}
	// Not goczmq's Connect, which takes the endpoint for a printf format.
	return sock, sock.Attach(peer.Endpoint, false)
}

func newSock(kind int, entry settings.Endpoint, keys settings.KeyPair) *goczmq.Sock {
	sock := goczmq.NewSock(kind)
	sock.SetHeartbeatIvl(heartbeatEvery)
	sock.SetHeartbeatTimeout(heartbeatTimeout)
	if entry.Curve() {
		sock.SetCurvePublickey(keys.Public)
		sock.SetCurveSecretkey(keys.Secret)
	}
	return sock
}

// Wait waits for a message on any socket of the poller and says whether there is one. On which, it
// cannot say: the poller names one only, always the first. Ask each, so that none starves.
func Wait(poller *goczmq.Poller, wait time.Duration) bool {
	return poller.Wait(int(max(wait, 0).Milliseconds())) != nil
}

// Receive hands over the messages that wait on a socket. goczmq's RecvMessageNoWait will not do:
// it finds nothing on a socket that can be read and written at once.
func Receive(sock *goczmq.Sock, log *slog.Logger, handle func([][]byte)) {
	for range burst {
		if sock.Events()&goczmq.Pollin == 0 {
			return
		}
		message, err := sock.RecvMessage()
		if err != nil {
			log.Warn("a message could not be received", "error", err.Error())
			return
		}
		handle(message)
	}
}

// Send sends a message; where that fails, the peer has to do without.
func Send(sock *goczmq.Sock, frames ...[]byte) {
	if err := sock.SendMessage(frames); err != nil {
		slog.Warn("a message could not be sent", "error", err.Error())
	}
}

// JSON makes a frame of a value.
func JSON(value any) []byte {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err) // only of types that JSON does not know
	}
	return text
}

// Close ends a poller and sockets, those of them that there are.
func Close(poller *goczmq.Poller, socks ...*goczmq.Sock) {
	if poller != nil {
		poller.Destroy()
	}
	for _, sock := range socks {
		if sock != nil {
			sock.Destroy()
		}
	}
}
