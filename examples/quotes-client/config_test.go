package main

// This file is the same in every example: each is built from its own directory alone.

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The example pair of the zmq_curve(7) manual page.
const (
	testPublic = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"
	testSecret = "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func certificate(public, secret string) string {
	return "# made for a test\nmetadata\n    public-key = \"not this one\"\ncurve\n" +
		"    public-key = \"" + public + "\"\n    secret-key = \"" + secret + "\"\n"
}

func TestLoadKeys(t *testing.T) {
	cases := map[string]struct{ text, complaint string }{
		"a pair":         {certificate(testPublic, testSecret), ""},
		"public only":    {"curve\n    public-key = \"" + testPublic + "\"\n", "curve/secret-key is missing"},
		"too short":      {certificate(testPublic, testSecret[1:]), "curve/secret-key is not a Z85 key"},
		"not Z85":        {certificate("~"+testPublic[1:], testSecret), "curve/public-key is not a Z85 key"},
		"not a pair":     {certificate(testSecret, testSecret), "does not belong to"},
		"no certificate": {"", "curve/public-key is missing"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			t.Setenv("ZMQFLEET_CURVE", write(t, test.text))
			keys, err := loadKeys()
			expect(t, err, test.complaint)
			if test.complaint == "" && keys != (keyPair{testPublic, testSecret}) {
				t.Errorf("read %v", keys)
			}
		})
	}
}

func TestBind(t *testing.T) {
	cases := map[string]struct{ text, complaint string }{
		"right":          {`{"binds":{"health":{"socket":"REP","endpoint":"tcp://127.0.0.1:1","security":"null"}}}`, ""},
		"missing":        {`{"binds":{}}`, "binds.health is missing"},
		"socket type":    {`{"binds":{"health":{"socket":"PUB"}}}`, `binds.health.socket is "PUB"`},
		"no endpoint":    {`{"binds":{"health":{"socket":"REP"}}}`, "binds.health.endpoint is missing"},
		"wrong security": {`{"binds":{"health":{"socket":"REP","endpoint":"tcp://*:1","security":"plain"}}}`, "binds.health.security"},
		"not JSON":       {`{`, "unexpected end"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			t.Setenv("ZMQFLEET_ENDPOINTS", write(t, test.text))
			loaded, err := loadConfig()
			if err == nil {
				_, err = loaded.bind("health", "REP")
			}
			expect(t, err, test.complaint)
		})
	}
}

// expect holds an error to a part of its message, and to the exit status for wrong configuration.
func expect(t *testing.T, err error, complaint string) {
	t.Helper()
	switch {
	case complaint == "" && err != nil:
		t.Fatalf("refused: %v", err)
	case complaint == "":
	case err == nil || !strings.Contains(err.Error(), complaint):
		t.Fatalf("got %v, expected %q", err, complaint)
	case exitCode("test", err) != exitConfig:
		t.Errorf("exit status %d", exitCode("test", err))
	}
}
