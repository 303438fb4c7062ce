"""Prints, as JSON, what a host is: run on the host as root, over ssh, by test_parity. Secret keys are never read."""

import functools
import hashlib
import json
import os
import pwd
import re
import stat
import subprocess
import sys
import time
from grp import getgrgid

ROOTS = ("/etc/zmqfleet", "/opt/zmqfleet", "/usr/local", "/var/lib/zmqfleet", "/etc/systemd/system")
# caches of the compiler: they hold times, and matter to no result
CACHES = ("/var/lib/zmqfleet/caches/go", "/var/lib/zmqfleet/caches/build")
PROPERTIES = (
    "ActiveState,SubState,UnitFileState,LoadState,User,NeedDaemonReload,LimitNOFILE,Type,"
    "LoadCredential,TriggeredBy"
)
GO_ENV = (
    "/usr/local/bin/go",
    "env",
    "GOROOT",
    "GOVERSION",
    "GOPROXY",
    "GOSUMDB",
    "GOTOOLCHAIN",
    "CGO_ENABLED",
)
ADDRESSES: dict[str, str] = json.loads(sys.argv[1])
LEFT_OUT = {*CACHES, *sys.argv[2:]}
_KEY = re.compile(rb'"[0-9a-zA-Z.:+=^!/*?&<>()\[\]{}@%$#-]{40}"')


def out(*command: str) -> str:
    """What a command prints."""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def neutral(data: bytes) -> bytes:
    """Text without what must differ between twins: addresses (names instead) and public keys."""
    for address, name in sorted(ADDRESSES.items(), key=lambda item: -len(item[0])):
        data = re.sub(rb"(?<![0-9.])" + re.escape(address.encode()) + rb"(?![0-9.])", name.encode(), data)
    return _KEY.sub(b'"KEY"', data)


def entry(path: str) -> list[str]:
    """Kind, mode, owner, group, and content or target of a path."""
    info = os.lstat(path)
    content = ""
    if stat.S_ISLNK(info.st_mode):
        content = os.readlink(path)
    elif stat.S_ISREG(info.st_mode) and not path.endswith(".key_secret"):
        with open(path, "rb") as file:
            data = file.read()
        content = hashlib.sha256(neutral(data) if path.startswith("/etc/") else data).hexdigest()
    return [stat.filemode(info.st_mode), user(info.st_uid), group(info.st_gid), content]


@functools.cache
def user(number: int) -> str:
    """Its name."""
    return pwd.getpwuid(number).pw_name


@functools.cache
def group(number: int) -> str:
    """Its name."""
    return getgrgid(number).gr_name


def files() -> dict[str, list[str]]:
    """Everything under the managed paths."""
    found = {}
    for root in ROOTS:
        for directory, directories, names in os.walk(root):
            directories[:] = [name for name in directories if os.path.join(directory, name) not in LEFT_OUT]
            for path in (directory, *(os.path.join(directory, name) for name in names + directories)):
                found[path] = entry(path)
    return found


def from_cron() -> str:
    """What the job of test_parity's, which runs once a minute, has written; nothing where there is none."""
    while os.path.exists("/etc/cron.d/go-env") and not os.path.exists("/run/go-env"):
        time.sleep(1)
    return out("cat", "/run/go-env")


def units() -> dict[str, str]:
    """What systemd says of each unit that there is a file of; asked at once, as each call takes its time."""
    listed = out("systemctl", "list-unit-files", "--plain", "--no-legend").splitlines()
    names = [name for name, *_ in map(str.split, listed) if "@." not in name]
    shown = out("systemctl", "show", "-p", PROPERTIES, *names).split("\n\n")
    return {name: lasting(said) for name, said in zip(names, shown, strict=True)}


def lasting(said: str) -> str:
    """What systemd says of a unit, without what is in no order; and without what is the clock's, whether that runs
    which a timer starts."""
    passing = "TriggeredBy|ActiveState|SubState" if ".timer" in said else "TriggeredBy"
    return re.sub(rf"(?m)^({passing})=.*\n", "", said)


snapshot = {
    "package": dict(line.split(" ", 1) for line in out(
        "dpkg-query", "-Wf", "${Package} ${Version} ${db:Status-Status}\n").splitlines()),
    "user": {line.split(":")[0]: line for line in out("getent", "passwd").splitlines()},
    "group": {line.split(":")[0]: line for line in out("getent", "group").splitlines()},
    "file": files(),
    "unit": units(),
    "ruleset": {"all": neutral(out("nft", "--stateless", "list", "ruleset").encode()).decode()},
    "go env": {
        "login shell": out("bash", "-lc", " ".join(("go", *GO_ENV[1:]))),
        "unit": out("systemd-run", "--quiet", "--pipe", "--wait", *GO_ENV),
        "cron": from_cron(),
    },
}  # fmt: skip
print(json.dumps(snapshot))
