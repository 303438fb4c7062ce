// Package settingstest helps with tests of what reads a host's settings.
package settingstest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"zmqfleet.example/quotes/internal/settings"
)

// The example pair of the zmq_curve(7) manual page.
const (
	Public = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"
	Secret = "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs"
)

// Certificate is the text of a certificate file with these keys.
func Certificate(public, secret string) string {
	return "# made for a test\nmetadata\n    public-key = \"not this one\"\ncurve\n" +
		"    public-key = \"" + public + "\"\n    secret-key = \"" + secret + "\"\n"
}

// Write makes files in a directory of the test's own, and returns that.
func Write(t *testing.T, files map[string]string) string {
	t.Helper()
	directory := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(directory, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return directory
}

// ExpectError holds an error to a part of its message, and to being a settings.Error; "" expects none.
func ExpectError(t *testing.T, err error, complaint string) {
	t.Helper()
	var mistake *settings.Error
	switch {
	case complaint == "" && err != nil:
		t.Fatalf("refused: %v", err)
	case complaint == "":
	case err == nil || !strings.Contains(err.Error(), complaint):
		t.Fatalf("got %v, expected %q", err, complaint)
	case !errors.As(err, &mistake):
		t.Errorf("%v is no settings.Error", err)
	}
}
