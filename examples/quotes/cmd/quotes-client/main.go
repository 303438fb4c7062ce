// Quotes-client sends orders to every quotes broker, listens to their ticks and watches both.
package main

import "zmqfleet.example/quotes/internal/daemon"

func main() {
	daemon.Main("quotes-client", newClient)
}
