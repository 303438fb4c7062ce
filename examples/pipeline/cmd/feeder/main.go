// Feeder gives numbered jobs to whoever pulls them.
package main

import (
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	zmq "github.com/pebbe/zmq4"

	"zmqfleet.example/pipeline/internal/settings"
	"zmqfleet.example/pipeline/internal/socket"
)

const interval = 50 * time.Millisecond

func main() {
	loaded := settings.Must(settings.Load())
	jobs := settings.Must(open(loaded))
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

// open binds the socket.
func open(loaded *settings.Settings) (*zmq.Socket, error) {
	if err := socket.Admit(); err != nil {
		return nil, err
	}
	jobs, err := socket.Bind(zmq.PUSH, loaded, "jobs")
	if err != nil {
		return nil, err
	}
	return jobs, jobs.SetLinger(time.Second)
}
