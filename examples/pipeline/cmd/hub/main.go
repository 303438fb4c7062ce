// Hub passes on what is published to it to all who subscribe; their subscriptions go the other way.
package main

import (
	"log/slog"
	"os"

	zmq "github.com/pebbe/zmq4"

	"zmqfleet.example/pipeline/internal/allowlist"
	"zmqfleet.example/pipeline/internal/settings"
	"zmqfleet.example/pipeline/internal/socket"
)

func main() {
	loaded := settings.Must(settings.Load())
	settings.Must(true, allowlist.Start(os.Getenv("ZMQFLEET_CLIENTS")))
	in := settings.Must(socket.Bind(zmq.XSUB, loaded, "in"))
	out := settings.Must(socket.Bind(zmq.XPUB, loaded, "out"))
	// it keeps nothing, so that a signal may end it anywhere
	slog.Error("the proxy ended", "error", zmq.Proxy(in, out, nil).Error())
	os.Exit(1)
}
