// Feeder gives numbered jobs to whoever pulls them.
package main

import (
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	zmq "github.com/pebbe/zmq4"

	"zmqfleet.example/pipeline/internal/allowlist"
	"zmqfleet.example/pipeline/internal/settings"
	"zmqfleet.example/pipeline/internal/socket"
)

const interval = 50 * time.Millisecond

func main() {
	loaded := settings.Must(settings.Load())
	settings.Must(true, allowlist.Start(os.Getenv("ZMQFLEET_CLIENTS")))
	jobs := settings.Must(socket.Bind(zmq.PUSH, loaded, "jobs"))
	settings.Must(true, jobs.SetLinger(time.Second))
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	ticker := time.NewTicker(interval)
	for number := 1; ; {
		select {
		case <-stop:
			_ = jobs.Close()
			_ = zmq.Term() // waits for what is on its way, for as long as the socket lingers
			return
		case <-ticker.C:
			// fails as long as no worker is connected, or all have enough to do
			if _, err := jobs.Send(strconv.Itoa(number), zmq.DONTWAIT); err == nil {
				number++
			}
		}
	}
}
