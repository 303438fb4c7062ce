// Package allowlist is a ZAP handler that admits the CURVE clients whose public keys are in a directory.
//
// zmq4's own handler (AuthStart, AuthCurveAdd) does not do for a list that changes: what it knows is in maps without a
// lock, which the handler reads while AuthCurveAdd writes, and Go ends a process that does both at once.
package allowlist

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"

	zmq "github.com/pebbe/zmq4"

	"zmqfleet.example/pipeline/internal/settings"
)

// Start answers libzmq's questions from now on, each by reading the directory anew: a key that is added or removed counts
// from the next handshake on. There is one handler in a process.
func Start(directory string) error {
	if directory == "" {
		return errors.New("ZMQFLEET_CLIENTS: is not set")
	}
	handler, err := zmq.NewSocket(zmq.REP)
	if err != nil {
		return err
	}
	if err := handler.Bind("inproc://zeromq.zap.01"); err != nil {
		return err
	}
	go func() {
		for {
			request, err := handler.RecvMessage(0)
			if err != nil {
				if zmq.AsErrno(err) == zmq.ETERM { // the service stops, and waits for this
					_ = handler.Close()
					return
				}
				// without a handler libzmq would admit everybody
				slog.Error("the ZAP handler failed", "error", err.Error())
				os.Exit(1)
			}
			_, _ = handler.SendMessage(answer(directory, request))
		}
	}()
	return nil
}

// answer makes a reply of a request (ZAP: https://rfc.zeromq.org/spec/27/).
func answer(directory string, request []string) []string {
	const version, id, mechanism, credentials = 0, 1, 5, 6
	if len(request) <= credentials {
		return []string{"1.0", "", "500", "no request of ZAP", "", ""}
	}
	status, text := "400", "no such client"
	if request[version] == "1.0" && request[mechanism] == "CURVE" && admits(directory, zmq.Z85encode(request[credentials])) {
		status, text = "200", "OK"
	}
	return []string{"1.0", request[id], status, text, "", ""}
}

// admits says whether a public key, in Z85, is in one of the directory's certificates.
func admits(directory, key string) bool {
	paths, _ := filepath.Glob(filepath.Join(directory, "*.key"))
	for _, path := range paths {
		if found, err := settings.Key(path, "public-key"); err == nil && found == key {
			return true
		}
	}
	return false
}
