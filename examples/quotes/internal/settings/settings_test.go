package settings_test

import (
	"path/filepath"
	"testing"

	"zmqfleet.example/quotes/internal/settings"
	"zmqfleet.example/quotes/internal/settings/settingstest"
)

// setFile puts the path of a new file with this text into a variable of the environment.
func setFile(t *testing.T, variable, text string) {
	t.Helper()
	directory := settingstest.Write(t, map[string]string{"file": text})
	t.Setenv(variable, filepath.Join(directory, "file"))
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
			setFile(t, "ZMQFLEET_ENDPOINTS", test.text)
			loaded, err := settings.Load()
			if err == nil {
				_, err = loaded.Bind("health", "REP")
			}
			settingstest.ExpectError(t, err, test.complaint)
		})
	}
}

func TestPeers(t *testing.T) {
	null := settings.Endpoint{Socket: "PUB", Endpoint: "tcp://192.0.2.1:1", Security: "null"}
	curve := settings.Endpoint{Socket: "PUB", Endpoint: "tcp://192.0.2.2:1", Security: "curve", ServerKey: settingstest.Public}
	router, keyless := null, curve
	router.Socket, keyless.ServerKey = "ROUTER", ""
	cases := map[string]struct {
		peers     []settings.Endpoint
		complaint string
	}{
		"right":         {[]settings.Endpoint{null, curve}, ""},
		"none":          {nil, "connects.quotes.ticks is missing or empty"},
		"socket type":   {[]settings.Endpoint{null, router}, `connects.quotes.ticks[1].socket is "ROUTER", this service needs "PUB"`},
		"no server key": {[]settings.Endpoint{keyless}, "connects.quotes.ticks[0].server_key is not a Z85 key"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			loaded := settings.Settings{Connects: map[string][]settings.Endpoint{"quotes.ticks": test.peers}}
			peers, err := loaded.Peers("quotes.ticks", "PUB")
			settingstest.ExpectError(t, err, test.complaint)
			if test.complaint == "" && len(peers) != len(test.peers) {
				t.Errorf("found %v", peers)
			}
		})
	}
}
