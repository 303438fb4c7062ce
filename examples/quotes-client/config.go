package main

// This file is the same in every example: each is built from its own directory alone.

import (
	"bytes"
	"crypto/ecdh"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
)

const exitConfig = 78 // EX_CONFIG of sysexits.h: starting again does not help

// configError is a mistake in what the host gives the service.
type configError struct{ message string }

func (e *configError) Error() string { return e.message }

func badConfig(format string, values ...any) error {
	return &configError{fmt.Sprintf(format, values...)}
}

// exitCode tells people what ended the service and returns the exit status for it.
func exitCode(service string, err error) int {
	var mistake *configError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &mistake):
		fmt.Fprintf(os.Stderr, "%s: %s\n", service, mistake)
		return exitConfig
	default:
		slog.Error("stopped by an error", "error", err.Error())
		return 1
	}
}

// endpoint is one entry of "binds", or one peer in "connects".
type endpoint struct {
	Host      string `json:"host"`
	Socket    string `json:"socket"`
	Endpoint  string `json:"endpoint"`
	Security  string `json:"security"`
	ServerKey string `json:"server_key"`
}

// config is what endpoints.json says.
type config struct {
	path     string
	Service  string                `json:"service"`
	Host     string                `json:"host"`
	Binds    map[string]endpoint   `json:"binds"`
	Connects map[string][]endpoint `json:"connects"`
}

// environment returns a variable that the service cannot do without.
func environment(name, purpose string) (string, error) {
	value := os.Getenv(name)
	if value == "" {
		return "", badConfig("the environment variable %s is not set or empty: it names %s", name, purpose)
	}
	return value, nil
}

func loadConfig() (*config, error) {
	path, err := environment("ZMQFLEET_ENDPOINTS", "the file with this service's endpoints")
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, badConfig("ZMQFLEET_ENDPOINTS: %v", err)
	}
	loaded := &config{path: path}
	if err := json.Unmarshal(text, loaded); err != nil {
		return nil, badConfig("%s: %v", path, err)
	}
	return loaded, nil
}

// bind returns the entry that the service binds under this name, with a socket of this type.
func (c *config) bind(name, socket string) (endpoint, error) {
	found, there := c.Binds[name]
	if !there {
		return endpoint{}, badConfig("%s: binds.%s is missing", c.path, name)
	}
	return found, c.check("binds."+name, found, socket)
}

func (c *config) check(key string, entry endpoint, socket string) error {
	switch {
	case entry.Socket != socket:
		return badConfig("%s: %s.socket is %q, this service needs %q", c.path, key, entry.Socket, socket)
	case entry.Endpoint == "":
		return badConfig("%s: %s.endpoint is missing", c.path, key)
	case entry.Security != "curve" && entry.Security != "null":
		return badConfig(`%s: %s.security is %q, not "curve" or "null"`, c.path, key, entry.Security)
	}
	return nil
}

// keyPair holds both CURVE keys of this service, in Z85.
type keyPair struct{ public, secret string }

func loadKeys() (keyPair, error) {
	path, err := environment("ZMQFLEET_CURVE", "the file with this service's CURVE keys")
	if err != nil {
		return keyPair{}, err
	}
	public, err := certificateKey(path, "public-key")
	if err != nil {
		return keyPair{}, err
	}
	secret, err := certificateKey(path, "secret-key")
	if err != nil {
		return keyPair{}, err
	}
	// libzmq does not compare the two: a wrong pair would only ever show as failed handshakes.
	publicBytes, _ := decodeKey(public)
	secretBytes, _ := decodeKey(secret)
	private, err := ecdh.X25519().NewPrivateKey(secretBytes)
	if err != nil || !bytes.Equal(private.PublicKey().Bytes(), publicBytes) {
		return keyPair{}, badConfig("%s: curve/public-key does not belong to curve/secret-key", path)
	}
	return keyPair{public, secret}, nil
}

// certificateKey reads one key of a certificate file (ZPL, RFC 4: https://rfc.zeromq.org/spec/4/).
// Keys are checked here because czmq ends the process by an assertion when given a wrong one.
func certificateKey(path, name string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", badConfig("certificate: %v", err)
	}
	section := ""
	for line := range strings.Lines(string(text)) {
		content := strings.TrimSpace(line)
		if content == "" || strings.HasPrefix(content, "#") {
			continue
		}
		key, value, assigned := strings.Cut(content, "=")
		if !assigned {
			section = content
			continue
		}
		if section != "curve" || strings.TrimSpace(key) != name {
			continue
		}
		value = strings.Trim(strings.TrimSpace(value), `"`)
		if _, valid := decodeKey(value); !valid {
			return "", badConfig("%s: curve/%s is not a Z85 key of 40 characters", path, name)
		}
		return value, nil
	}
	return "", badConfig("%s: curve/%s is missing", path, name)
}

const z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"

// decodeKey turns 40 characters of Z85 (RFC 32) into the 32 bytes of a key.
func decodeKey(text string) ([]byte, bool) {
	if len(text) != 40 {
		return nil, false
	}
	var key []byte
	for group := 0; group < len(text); group += 5 {
		number := uint64(0)
		for _, character := range []byte(text[group : group+5]) {
			digit := strings.IndexByte(z85, character)
			if digit < 0 {
				return nil, false
			}
			number = number*85 + uint64(digit)
		}
		if number > 0xffffffff {
			return nil, false
		}
		key = binary.BigEndian.AppendUint32(key, uint32(number))
	}
	return key, true
}
