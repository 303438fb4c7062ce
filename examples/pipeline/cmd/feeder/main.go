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

// open binds the socket. The ZAP handler comes first: a client that found none would be admitted.
func open(loaded *settings.Settings) (*zmq.Socket, error) {
	bind, err := loaded.Bind("jobs")
	if err != nil {
		return nil, err
	}
	if err := allowlist.Start(os.Getenv("ZMQFLEET_CLIENTS")); err != nil {
		return nil, err
	}
	jobs, err := zmq.NewSocket(zmq.PUSH)
	if err != nil {
		return nil, err
	}
	if err := jobs.SetLinger(time.Second); err != nil {
		return nil, err
	}
	if err := jobs.ServerAuthCurve("jobs", loaded.Secret); err != nil {
		return nil, err
	}
	return jobs, jobs.Bind(bind.Endpoint)
}
