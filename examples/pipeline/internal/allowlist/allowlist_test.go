package allowlist

import (
	"os"
	"path/filepath"
	"testing"

	zmq "github.com/pebbe/zmq4"
)

func TestAClientIsAdmittedAsLongAsItsKeyIsThere(t *testing.T) {
	directory := t.TempDir()
	public, _, err := zmq.NewCurveKeypair()
	if err != nil {
		t.Fatal(err)
	}
	request := []string{"1.0", "7", "jobs", "192.0.2.1", "", "CURVE", zmq.Z85decode(public)}
	status := func() string {
		reply := answer(directory, request)
		if len(reply) != 6 || reply[1] != "7" {
			t.Fatalf("%q", reply)
		}
		return reply[2]
	}
	if found := status(); found != "400" {
		t.Errorf("before: %s", found)
	}
	path := filepath.Join(directory, "gateway1.worker.key")
	if err := os.WriteFile(path, []byte("curve\n    public-key = \""+public+"\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if found := status(); found != "200" {
		t.Errorf("with its key: %s", found)
	}
	request[5] = "PLAIN"
	if found := status(); found != "400" {
		t.Errorf("by another mechanism: %s", found)
	}
	request[5] = "CURVE"
	if err := os.Rename(path, filepath.Join(directory, ".gateway1.worker.key.new")); err != nil {
		t.Fatal(err)
	}
	if found := status(); found != "400" {
		t.Errorf("after: %s", found)
	}
}

func TestWhatIsNoRequestIsRefused(t *testing.T) {
	if found := answer(t.TempDir(), []string{"1.0", "7"}); found[2] != "500" {
		t.Errorf("%q", found)
	}
}
