// Quotes answers orders and publishes ticks over ZeroMQ.
package main

import "zmqfleet.example/quotes/internal/daemon"

func main() {
	daemon.Main("quotes", newServer)
}
