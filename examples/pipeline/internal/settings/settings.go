// Package settings reads what zmqfleet gives a service on its host: endpoints and keys.
package settings

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
)

// Endpoint is what the service binds, or one peer that it connects to.
type Endpoint struct {
	Host      string `json:"host"`
	Endpoint  string `json:"endpoint"`
	ServerKey string `json:"server_key"`
}

// Settings is what endpoints.json says, and the service's own keys in Z85.
type Settings struct {
	Binds    map[string]Endpoint   `json:"binds"`
	Connects map[string][]Endpoint `json:"connects"`
	Public   string                `json:"-"`
	Secret   string                `json:"-"`
}

// Load reads the files that ZMQFLEET_ENDPOINTS and ZMQFLEET_CURVE name.
func Load() (*Settings, error) {
	path := os.Getenv("ZMQFLEET_ENDPOINTS")
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("ZMQFLEET_ENDPOINTS: %w", err)
	}
	loaded := &Settings{}
	if err := json.Unmarshal(text, loaded); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	certificate := os.Getenv("ZMQFLEET_CURVE")
	if loaded.Public, err = Key(certificate, "public-key"); err != nil {
		return nil, err
	}
	loaded.Secret, err = Key(certificate, "secret-key")
	return loaded, err
}

// Bind returns what the service binds under this name.
func (s *Settings) Bind(name string) (Endpoint, error) {
	found, there := s.Binds[name]
	if !there {
		return found, fmt.Errorf("endpoints.json: binds.%s is missing", name)
	}
	return found, nil
}

// Peers returns the endpoints to which the service connects under this name.
func (s *Settings) Peers(name string) ([]Endpoint, error) {
	found := s.Connects[name]
	if len(found) == 0 {
		return nil, fmt.Errorf("endpoints.json: connects.%s is missing or empty", name)
	}
	return found, nil
}

// Key reads one key of a certificate as CZMQ writes them (ZPL: https://rfc.zeromq.org/spec/4/).
func Key(path, name string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("certificate: %w", err)
	}
	line := regexp.MustCompile(`(?m)^\s*` + name + `\s*=\s*"(\S{40})"\s*$`)
	found := line.FindSubmatch(text)
	if found == nil {
		return "", fmt.Errorf("%s: curve/%s is missing, or no key in Z85", path, name)
	}
	return string(found[1]), nil
}

// Must returns what was given, or ends the service: starting again would not help (EX_CONFIG).
func Must[T any](given T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(78)
	}
	return given
}
