// Worker pulls jobs from all feeders, and keeps count of them in its state directory.
package main

import (
	"flag"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	zmq "github.com/pebbe/zmq4"

	"zmqfleet.example/pipeline/internal/settings"
	"zmqfleet.example/pipeline/internal/socket"
)

const patience = 500 * time.Millisecond // without a job for so long, it looks whether it is to stop

func main() {
	every := flag.Int("every", 20, "write the count down each so many jobs")
	flag.Parse()
	loaded := settings.Must(settings.Load())
	jobs := settings.Must(socket.Connect(zmq.PULL, loaded, "feeder.jobs"))
	settings.Must(true, jobs.SetRcvtimeo(patience))
	path := filepath.Join(os.Getenv("STATE_DIRECTORY"), "done")
	done := count(path)
	slog.Info("ready", "feeders", len(loaded.Connects["feeder.jobs"]), "done", done)

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	for len(stop) == 0 {
		if _, err := jobs.Recv(0); err != nil {
			continue // none has come in time
		}
		done++
		if done%*every == 0 {
			keep(path, done)
		}
	}
	keep(path, done)
}

// count is how many were done before, by this release or another one.
func count(path string) int {
	text, _ := os.ReadFile(path)
	number, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return number
}

// keep writes the count down at once: a reader has the one before or this one.
func keep(path string, done int) {
	err := os.WriteFile(path+".new", []byte(strconv.Itoa(done)+"\n"), 0o600)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		slog.Error("the count cannot be kept", "error", err.Error())
	}
}
