package daemon

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"zmqfleet.example/quotes/internal/settings"
)

func TestExitStatus(t *testing.T) {
	cases := map[int]error{
		0:  nil,
		1:  errors.New("port in use"),
		78: fmt.Errorf("while opening: %w", settings.Errorf("file: key is missing")),
	}
	for status, err := range cases {
		if found := exitStatus("test", err); found != status {
			t.Errorf("%v: exit status %d, expected %d", err, found, status)
		}
	}
}

// recorder is a service that is sent a signal in its second turn.
type recorder struct{ calls []string }

func (r *recorder) Turn(time.Time) {
	r.calls = append(r.calls, "turn")
	if len(r.calls) == 2 {
		syscall.Kill(os.Getpid(), syscall.SIGTERM)
	}
}
func (r *recorder) Drain() { r.calls = append(r.calls, "drain") }
func (r *recorder) Close() { r.calls = append(r.calls, "close") }

func TestRunEndsOnASignal(t *testing.T) {
	states := listen(t)
	service := &recorder{}
	if err := run(func() (*recorder, error) { return service, nil }); err != nil {
		t.Fatal(err)
	}
	// Go hands a signal over on a thread of its own, so the loop may turn on a little.
	calls := slices.Compact(service.calls)
	if !slices.Equal(calls, []string{"turn", "drain", "close"}) {
		t.Errorf("was asked to %v", calls)
	}
	for _, state := range []string{"READY=1", "STOPPING=1"} {
		if found := states(); found != state {
			t.Errorf("systemd was told %q, expected %q", found, state)
		}
	}
}

func TestRunDoesNotBecomeReadyWhenOpeningFails(t *testing.T) {
	states := listen(t)
	refused := settings.Errorf("refused")
	if err := run(func() (*recorder, error) { return nil, refused }); err != refused {
		t.Errorf("ended with %v", err)
	}
	notify("last")
	if found := states(); found != "last" {
		t.Errorf("systemd was told %q", found)
	}
}
