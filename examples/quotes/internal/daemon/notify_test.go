package daemon

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// listen takes systemd's place; what it returns waits for the next state and returns that.
func listen(t *testing.T) func() string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "")
	return func() string {
		state := make([]byte, 100)
		count, err := socket.Read(state)
		if err != nil {
			t.Fatal(err)
		}
		return string(state[:count])
	}
}

func TestNewWatchdog(t *testing.T) {
	own := strconv.Itoa(os.Getpid())
	cases := map[string]struct {
		microseconds, pid string
		interval          time.Duration
	}{
		"none":           {"", "", 0},
		"no number":      {"soon", "", 0},
		"ours":           {"20000000", own, 10 * time.Second},
		"anybody's":      {"20000000", "", 10 * time.Second},
		"somebody's own": {"20000000", "1", 0},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			t.Setenv("WATCHDOG_USEC", test.microseconds)
			t.Setenv("WATCHDOG_PID", test.pid)
			if found := newWatchdog().interval; found != test.interval {
				t.Errorf("every %v, expected %v", found, test.interval)
			}
		})
	}
}

func TestFeed(t *testing.T) {
	states := listen(t)
	start := time.Unix(1000, 0)
	sign := watchdog{interval: 10 * time.Second}
	sign.feed(start)
	if found := states(); found != "WATCHDOG=1" {
		t.Errorf("systemd was told %q", found)
	}
	sign.feed(start.Add(9 * time.Second)) // too soon
	if expected := start.Add(10 * time.Second); sign.next != expected {
		t.Errorf("next at %v, expected %v", sign.next, expected)
	}
	sign.feed(start.Add(10 * time.Second))
	if found := states(); found != "WATCHDOG=1" {
		t.Errorf("systemd was told %q", found)
	}
}
