package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestCheckAllowList(t *testing.T) {
	allowed := certificate(testPublic, testSecret)
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
			directory := t.TempDir()
			for file, text := range test.files {
				if err := os.WriteFile(filepath.Join(directory, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			expect(t, checkAllowList(directory), test.complaint)
		})
	}
	expect(t, checkAllowList("/does/not/exist"), "ZMQFLEET_CLIENTS")
}
