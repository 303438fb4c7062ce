// Presence publishes its host's name by way of the hub, and says which others it hears.
package main

import (
	"log/slog"
	"os"
	"time"

	zmq "github.com/pebbe/zmq4"

	"zmqfleet.example/pipeline/internal/settings"
	"zmqfleet.example/pipeline/internal/socket"
)

const (
	beat     = time.Second
	patience = 5 * beat // a host that was not heard for so long is gone
)

func main() {
	loaded := settings.Must(settings.Load())
	out := settings.Must(socket.Connect(zmq.PUB, loaded, "hub.in"))
	in := settings.Must(socket.Connect(zmq.SUB, loaded, "hub.out"))
	settings.Must(true, in.SetSubscribe(""))
	settings.Must(true, in.SetRcvtimeo(beat))
	name := settings.Must(os.Hostname())
	heard := map[string]time.Time{}
	var last time.Time
	for {
		if time.Since(last) >= beat {
			_, _ = out.Send(name, zmq.DONTWAIT) // the next one counts as much
			last = time.Now()
		}
		if host, err := in.Recv(0); err == nil {
			if _, known := heard[host]; !known {
				slog.Info("is there", "host", host)
			}
			heard[host] = time.Now()
		}
		for host, when := range heard {
			if time.Since(when) > patience {
				slog.Info("is gone", "host", host)
				delete(heard, host)
			}
		}
	}
}
