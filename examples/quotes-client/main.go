// Quotes-client sends orders to every quotes broker, listens to their ticks and watches both.
package main

import (
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, nil)))
	os.Exit(exitCode("quotes-client", run()))
}

func run() error {
	// goczmq sets ZSYS_SIGHANDLER=false when it is loaded, so czmq leaves the signals to Go.
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)

	service, err := newClient()
	if err != nil {
		return err
	}
	defer service.close()
	notify("READY=1")
	slog.Info("ready", "host", service.config.Host, "connections", len(service.connections))
	service.talk(stop)
	notify("STOPPING=1")
	service.drain()
	slog.Info("stopping")
	return nil
}
