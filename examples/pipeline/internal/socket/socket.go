// Package socket makes sockets of what zmqfleet gives a service: endpoints, and keys for CURVE.
package socket

import (
	zmq "github.com/pebbe/zmq4"

	"zmqfleet.example/pipeline/internal/settings"
)

// Bind makes a socket that serves one of the service's endpoints. The ZAP handler comes first: a client that found none
// would be admitted.
func Bind(kind zmq.Type, loaded *settings.Settings, name string) (*zmq.Socket, error) {
	bind, err := loaded.Bind(name)
	if err != nil {
		return nil, err
	}
	made, err := zmq.NewSocket(kind)
	if err != nil {
		return nil, err
	}
	if err := made.ServerAuthCurve(name, loaded.Secret); err != nil {
		return nil, err
	}
	return made, made.Bind(bind.Endpoint)
}

// Connect makes one socket that is connected to all hosts that serve an endpoint; each has a key of its own.
func Connect(kind zmq.Type, loaded *settings.Settings, name string) (*zmq.Socket, error) {
	peers, err := loaded.Peers(name)
	if err != nil {
		return nil, err
	}
	made, err := zmq.NewSocket(kind)
	if err != nil {
		return nil, err
	}
	for _, peer := range peers {
		// what is set holds for the connections that are made after it
		if err := made.ClientAuthCurve(peer.ServerKey, loaded.Public, loaded.Secret); err != nil {
			return nil, err
		}
		if err := made.Connect(peer.Endpoint); err != nil {
			return nil, err
		}
	}
	return made, nil
}
