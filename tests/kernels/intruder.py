"""What somebody tries who got into a service: prints, as JSON, what is denied, by name. `profile` is the service's."""

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys

service = "quotes"
own = f"/etc/zmqfleet/{service}"
libc = ctypes.CDLL(None, use_errno=True)


def read(path):
    return lambda: os.listdir(path) if os.path.isdir(path) else os.close(os.open(path, os.O_RDONLY))


def write(path):
    return lambda: os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))


def call(name, *arguments):
    def attempt():
        if getattr(libc, name)(*arguments) < 0:
            raise OSError(ctypes.get_errno(), name)

    return attempt


TRIES = {
    "read its endpoints": read(f"{own}/endpoints.json"),
    "write to /tmp": write("/tmp/intruder"),
    "serve": lambda: socket.create_server(("127.0.0.1", 0)).close(),
    "read its key": read(f"{own}/curve.key_secret"),
    "read its environment": read(f"{own}/environment"),
    "read another's key": read("/etc/zmqfleet/probe/curve.key_secret"),
    "read passwords": read("/etc/shadow"),
    "read homes": read("/home/admin"),
    "read another's environment": read("/proc/1/environ"),
    "write its endpoints": write(f"{own}/endpoints.json"),
    "write beside its program": write(f"/opt/zmqfleet/{service}/current/intruder"),
    "write for cron": write("/etc/cron.d/intruder"),
    "run another program": lambda: subprocess.run(["/usr/bin/id"], check=False, stdout=subprocess.DEVNULL),
    "run a program of its own": lambda: subprocess.run(["/tmp/intruder-program"], check=False),
    "listen to all packets": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
    "make packets": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close(),
    "signal others": lambda: os.kill(1, signal.SIGCONT),
    "trace others": call("ptrace", 16, 1, 0, 0),
    "mount": call("mount", b"none", b"/mnt", b"tmpfs", 0, None),
    "name the host": call("sethostname", b"intruder", 8),
}

shutil.copy("/usr/bin/true", "/tmp/intruder-program")
with open("/proc/self/attr/apparmor/current", "w", encoding="ascii") as attribute:
    attribute.write(f"changeprofile zmqfleet.{service}")
denied = []
for name, attempt in TRIES.items():
    try:
        attempt()
    except PermissionError:
        denied.append(name)
    except OSError as error:
        sys.exit(f"{name}: {error}")
json.dump(denied, sys.stdout)
