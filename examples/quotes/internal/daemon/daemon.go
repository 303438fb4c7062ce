// Package daemon runs a ZeroMQ service under systemd: signals, readiness, watchdog, exit status.
package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/zeromq/goczmq"

	"zmqfleet.example/quotes/internal/settings"
)

// LongestWait bounds a turn of the main loop: so soon a signal is noticed.
const LongestWait = 100 * time.Millisecond

const exitConfig = 78 // EX_CONFIG of sysexits.h: starting again does not help

// Service is a service that is open: it can be reached, and its main loop turns.
type Service interface {
	// Turn does what is due and waits for messages, for LongestWait at most.
	Turn(now time.Time)
	// Drain finishes what is under way, for a bounded time.
	Drain()
	// Close ends all sockets.
	Close()
}

// Main runs a service until a signal asks it to stop, and ends the process.
func Main[S Service](name string, open func() (S, error)) {
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, nil)))
	os.Exit(exitStatus(name, run(open)))
}

func run[S Service](open func() (S, error)) error {
	// goczmq sets ZSYS_SIGHANDLER=false when it is loaded, so czmq leaves the signals to Go.
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)

	// Ends the ZeroMQ context, which waits for LINGER. Go's exit runs no atexit function of C.
	defer goczmq.Shutdown()
	service, err := open()
	if err != nil {
		return err
	}
	defer service.Close()
	notify("READY=1")
	turn(service, stop)
	notify("STOPPING=1")
	service.Drain()
	return nil
}

// turn is the main loop.
func turn(service Service, stop <-chan os.Signal) {
	sign := newWatchdog()
	for {
		select {
		case <-stop:
			return
		default:
		}
		now := time.Now()
		sign.feed(now)
		service.Turn(now)
	}
}

// exitStatus tells people what ended the service and returns the exit status for it.
func exitStatus(service string, err error) int {
	var mistake *settings.Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &mistake):
		fmt.Fprintf(os.Stderr, "%s: %s\n", service, mistake)
		return exitConfig
	default:
		slog.Error("stopped by an error", "error", err.Error())
		return 1
	}
}
