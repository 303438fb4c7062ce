package settings_test

import (
	"testing"

	"zmqfleet.example/quotes/internal/settings"
	"zmqfleet.example/quotes/internal/settings/settingstest"
)

func TestLoadKeys(t *testing.T) {
	const public, secret = settingstest.Public, settingstest.Secret
	cases := map[string]struct{ text, complaint string }{
		"a pair":         {settingstest.Certificate(public, secret), ""},
		"public only":    {"curve\n    public-key = \"" + public + "\"\n", "curve/secret-key is missing"},
		"too short":      {settingstest.Certificate(public, secret[1:]), "curve/secret-key is not a Z85 key"},
		"not Z85":        {settingstest.Certificate("~"+public[1:], secret), "curve/public-key is not a Z85 key"},
		"not a pair":     {settingstest.Certificate(secret, secret), "does not belong to"},
		"no certificate": {"", "curve/public-key is missing"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			setFile(t, "ZMQFLEET_CURVE", test.text)
			keys, err := settings.LoadKeys()
			settingstest.ExpectError(t, err, test.complaint)
			if test.complaint == "" && keys != (settings.KeyPair{Public: public, Secret: secret}) {
				t.Errorf("read %v", keys)
			}
		})
	}
}
