// Quotes answers orders and publishes ticks over ZeroMQ.
package main

import (
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, nil)))
	os.Exit(exitCode("quotes", run()))
}

func run() error {
	// goczmq sets ZSYS_SIGHANDLER=false when it is loaded, so czmq leaves the signals to Go.
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)

	service, err := newServer()
	if err != nil {
		return err
	}
	defer service.close()
	notify("READY=1")
	slog.Info("ready", "region", service.region, "host", service.config.Host)
	service.serve(stop)
	notify("STOPPING=1")
	service.drain()
	slog.Info("stopping", "orders", service.counts.Orders, "ticks", service.counts.Ticks)
	return nil
}
