package settings

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const key = "c?q+&m-tRuofuGEMwLFKEzpGu=0-=q}[(e#:7=B%"

func TestKeysAreReadFromCertificates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "curve.key")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("metadata\ncurve\n    public-key = \"" + key + "\"\n")
	if found, err := Key(path, "public-key"); found != key || err != nil {
		t.Errorf("%q, %v", found, err)
	}
	for _, text := range []string{"", "curve\n    public-key = \"short\"\n", "curve\n    secret-key = \"" + key + "\"\n"} {
		write(text)
		if _, err := Key(path, "public-key"); err == nil || !strings.Contains(err.Error(), "curve/public-key") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
