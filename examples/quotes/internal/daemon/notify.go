package daemon

import (
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"
)

// notifyPatience bounds the wait for a systemd that does not read its socket.
const notifyPatience = 5 * time.Second

// notify tells systemd about a state ("READY=1", …); without NOTIFY_SOCKET it does nothing.
// A leading "@" means an abstract socket, to systemd as to Go.
func notify(state string) {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return
	}
	connection, err := net.Dial("unixgram", name)
	if err != nil {
		slog.Warn("systemd cannot be notified", "state", state, "error", err.Error())
		return
	}
	defer connection.Close()
	connection.SetWriteDeadline(time.Now().Add(notifyPatience))
	if _, err := connection.Write([]byte(state)); err != nil {
		slog.Warn("systemd cannot be notified", "state", state, "error", err.Error())
	}
}

// watchdog keeps systemd's WatchdogSec= from ending a service whose main loop is alive.
type watchdog struct {
	interval time.Duration // zero: systemd expects no sign of life
	next     time.Time
}

func newWatchdog() watchdog {
	microseconds, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || microseconds <= 0 {
		return watchdog{}
	}
	// A process started by the service inherits the variables, though not the duty.
	if pid := os.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return watchdog{}
	}
	return watchdog{interval: time.Duration(microseconds) * time.Microsecond / 2}
}

// feed is called from the main loop, so that a loop that hangs is noticed.
func (w *watchdog) feed(now time.Time) {
	if w.interval == 0 || now.Before(w.next) {
		return
	}
	go notify("WATCHDOG=1") // beside the loop, which must not wait for systemd
	w.next = now.Add(w.interval)
}
