// Package settings reads what zmqfleet gives a service on its host: environment, endpoints, keys.
package settings

import (
	"encoding/json"
	"fmt"
	"os"
)

// Error is a mistake in what the host gives the service: starting again does not help.
type Error struct{ message string }

func (e *Error) Error() string { return e.message }

// Errorf makes an Error.
func Errorf(format string, values ...any) error {
	return &Error{fmt.Sprintf(format, values...)}
}

// Endpoint is one entry of "binds", or one peer in "connects".
type Endpoint struct {
	Host      string `json:"host"`
	Socket    string `json:"socket"`
	Endpoint  string `json:"endpoint"`
	Security  string `json:"security"`
	ServerKey string `json:"server_key"`
}

// Curve says whether the endpoint uses CURVE.
func (e Endpoint) Curve() bool { return e.Security == "curve" }

// Settings is what endpoints.json says.
type Settings struct {
	Path     string                `json:"-"`
	Service  string                `json:"service"`
	Host     string                `json:"host"`
	Binds    map[string]Endpoint   `json:"binds"`
	Connects map[string][]Endpoint `json:"connects"`
}

// Environment returns a variable that the service cannot do without.
func Environment(name, purpose string) (string, error) {
	value := os.Getenv(name)
	if value == "" {
		return "", Errorf("the environment variable %s is not set or empty: it names %s", name, purpose)
	}
	return value, nil
}

// Load reads endpoints.json, which ZMQFLEET_ENDPOINTS names.
func Load() (*Settings, error) {
	path, err := Environment("ZMQFLEET_ENDPOINTS", "the file with this service's endpoints")
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, Errorf("ZMQFLEET_ENDPOINTS: %v", err)
	}
	loaded := &Settings{Path: path}
	if err := json.Unmarshal(text, loaded); err != nil {
		return nil, Errorf("%s: %v", path, err)
	}
	return loaded, nil
}

// Bind returns the entry that the service binds under this name, with a socket of this type.
func (s *Settings) Bind(name, socket string) (Endpoint, error) {
	found, there := s.Binds[name]
	if !there {
		return Endpoint{}, Errorf("%s: binds.%s is missing", s.Path, name)
	}
	return found, s.check("binds."+name, found, socket)
}

// Peers returns the endpoints to which the service connects under this name, with sockets of this type there.
func (s *Settings) Peers(name, socket string) ([]Endpoint, error) {
	peers := s.Connects[name]
	if len(peers) == 0 {
		return nil, Errorf("%s: connects.%s is missing or empty", s.Path, name)
	}
	for number, peer := range peers {
		key := fmt.Sprintf("connects.%s[%d]", name, number)
		if err := s.check(key, peer, socket); err != nil {
			return nil, err
		}
		if _, valid := decodeKey(peer.ServerKey); peer.Curve() && !valid {
			return nil, Errorf("%s: %s.server_key is not a Z85 key of 40 characters", s.Path, key)
		}
	}
	return peers, nil
}

func (s *Settings) check(key string, entry Endpoint, socket string) error {
	switch {
	case entry.Socket != socket:
		return Errorf("%s: %s.socket is %q, this service needs %q", s.Path, key, entry.Socket, socket)
	case entry.Endpoint == "":
		return Errorf("%s: %s.endpoint is missing", s.Path, key)
	case entry.Security != "curve" && entry.Security != "null":
		return Errorf(`%s: %s.security is %q, not "curve" or "null"`, s.Path, key, entry.Security)
	}
	return nil
}
