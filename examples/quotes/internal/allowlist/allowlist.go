// Package allowlist decides which clients' keys a service admits.
package allowlist

import (
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	"github.com/zeromq/goczmq"

	"zmqfleet.example/quotes/internal/settings"
)

// Start starts the ZAP handler, which admits the keys in this directory. The directory is
// read anew at each handshake, so a key that is added or removed counts without a restart.
func Start(directory string) (*goczmq.Auth, error) {
	if err := check(directory); err != nil {
		return nil, err
	}
	// The handler's thread ends for good when a signal interrupts its poll, and libzmq admits
	// every client that finds no ZAP handler. So that thread must never see a signal: a new
	// thread inherits the mask of the one that makes it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, err := setSignalMask(^uint64(0))
	if err != nil {
		return nil, err
	}
	defer setSignalMask(before)
	auth := goczmq.NewAuth()
	return auth, auth.Curve(directory)
}

// setSignalMask sets which signals this thread blocks and returns which it blocked until now.
func setSignalMask(mask uint64) (uint64, error) {
	const setMask = 2 // SIG_SETMASK
	var before uint64
	_, _, failed := syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, setMask,
		uintptr(unsafe.Pointer(&mask)), uintptr(unsafe.Pointer(&before)), unsafe.Sizeof(mask), 0, 0)
	if failed != 0 {
		return 0, os.NewSyscallError("rt_sigprocmask", failed)
	}
	return before, nil
}

// check refuses what the ZAP handler would not survive or would pass over in silence.
func check(directory string) error {
	entries, err := os.ReadDir(directory)
	if err != nil {
		return settings.Errorf("ZMQFLEET_CLIENTS: %v", err)
	}
	owners := map[string]string{}
	for _, entry := range entries {
		path := filepath.Join(directory, entry.Name())
		if entry.IsDir() || strings.HasPrefix(entry.Name(), ".") || strings.HasSuffix(path, "_secret") {
			continue // the handler skips hidden and secret files too
		}
		key, err := settings.PublicKey(path)
		if err != nil {
			slog.Warn("a client's certificate is ignored", "error", err.Error())
			continue
		}
		// zcertstore asserts that keys are unique: the first handshake would end the service.
		if other, taken := owners[key]; taken {
			return settings.Errorf("%s: curve/public-key is the same as in %s", path, other)
		}
		owners[key] = path
	}
	if len(owners) == 0 {
		slog.Warn("no client is allowed yet", "directory", directory)
	}
	return nil
}
