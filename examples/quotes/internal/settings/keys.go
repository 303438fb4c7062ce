package settings

import (
	"bytes"
	"crypto/ecdh"
	"encoding/binary"
	"os"
	"strings"
)

// KeyPair holds both CURVE keys of a service, in Z85.
type KeyPair struct{ Public, Secret string }

// LoadKeys reads this service's keys from the certificate that ZMQFLEET_CURVE names.
func LoadKeys() (KeyPair, error) {
	path, err := Environment("ZMQFLEET_CURVE", "the file with this service's CURVE keys")
	if err != nil {
		return KeyPair{}, err
	}
	public, err := PublicKey(path)
	if err != nil {
		return KeyPair{}, err
	}
	secret, err := certificateKey(path, "secret-key")
	if err != nil {
		return KeyPair{}, err
	}
	// libzmq does not compare the two: a wrong pair would only ever show as failed handshakes.
	publicBytes, _ := decodeKey(public)
	secretBytes, _ := decodeKey(secret)
	private, err := ecdh.X25519().NewPrivateKey(secretBytes)
	if err != nil || !bytes.Equal(private.PublicKey().Bytes(), publicBytes) {
		return KeyPair{}, Errorf("%s: curve/public-key does not belong to curve/secret-key", path)
	}
	return KeyPair{public, secret}, nil
}

// PublicKey reads the public key of a certificate.
func PublicKey(path string) (string, error) {
	return certificateKey(path, "public-key")
}

// certificateKey reads one key of a certificate file (ZPL, RFC 4: https://rfc.zeromq.org/spec/4/).
// Keys are checked here because czmq ends the process by an assertion when given a wrong one.
func certificateKey(path, name string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", Errorf("certificate: %v", err)
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
			return "", Errorf("%s: curve/%s is not a Z85 key of 40 characters", path, name)
		}
		return value, nil
	}
	return "", Errorf("%s: curve/%s is missing", path, name)
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
