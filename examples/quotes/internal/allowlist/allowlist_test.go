package allowlist

import (
	"testing"

	"zmqfleet.example/quotes/internal/settings/settingstest"
)

func TestCheck(t *testing.T) {
	allowed := settingstest.Certificate(settingstest.Public, settingstest.Secret)
	cases := map[string]struct {
		files     map[string]string
		complaint string
	}{
		"empty":         {nil, ""},
		"one":           {map[string]string{"a.key": allowed}, ""},
		"the same key":  {map[string]string{"a.key": allowed, "b.key": allowed}, "b.key: curve/public-key is the same as in"},
		"hidden file":   {map[string]string{"a.key": allowed, ".a.key.new": allowed}, ""},
		"secret file":   {map[string]string{"a.key": allowed, "a.key_secret": allowed}, ""},
		"no key inside": {map[string]string{"a.key": "curve\n"}, ""},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			settingstest.ExpectError(t, check(settingstest.Write(t, test.files)), test.complaint)
		})
	}
	settingstest.ExpectError(t, check("/does/not/exist"), "ZMQFLEET_CLIENTS")
}
