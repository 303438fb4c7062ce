"""One controller at a time changes a host: a lock there, that a dead holder does not keep.

The lock is a file in /run with its holder and a time until which it holds at the most. A holder renews it with all that
it does; one that was killed on this machine is known to be gone, and any other's ends by itself. What a killed run
started on the host may outlive it: all that runs start there is marked, and the next run waits for it.
"""

import getpass
import os
import shlex
import socket
import time
from dataclasses import dataclass
from pathlib import Path

PATH = "/run/zmqfleet.lock"
WORKING = 900  # seconds that one step may take at the most
PAUSE = 120  # seconds between two steps, while other hosts are at work
MARK = "ZMQFLEET_RUN"  # environment variable of all commands of a run that change something
RENEWED = "renewed"
PATIENCE = 100  # seconds that those of a killed run are waited for


@dataclass(frozen=True)
class Holder:
    """A run of an engine: which process, on which machine, whose."""

    machine: str
    pid: int
    started: str
    who: str

    @classmethod
    def of(cls, pid: int) -> "Holder":
        """The run whose process has this id on this machine."""
        return cls(_machine(), pid, _started(pid), f"{getpass.getuser()}@{socket.gethostname()}")

    @property
    def text(self) -> str:
        """One word, which names the run alone."""
        return f"{self.machine}:{self.pid}:{self.started}:{self.who}"

    @property
    def is_gone(self) -> bool:
        """Whether it ran on this machine, and does no more."""
        return self.machine == _machine() and _started(self.pid) != self.started


def acquire(holder: Holder, seconds: int, instead_of: str = "") -> str:
    """A shell command that takes or renews the lock for so long, also if `instead_of`, which is gone, holds it.

    It prints RENEWED if nobody else has had it meanwhile. Where another run holds it, the command prints that run's
    words and how long, and ends with status 75.
    """
    mine, gone = shlex.quote(holder.text), shlex.quote(instead_of or holder.text)
    return (
        f"exec 9>>{PATH}; flock 9; read -r who until <{PATH} || :; "
        f'if [ -n "$who" ] && [ "$who" != {mine} ] && [ "$who" != {gone} ] && '
        f'[ "$until" -gt "$(date +%s)" ] && [ "$until" -le "$(($(date +%s) + {WORKING}))" ]; then '
        f'echo "locked $who $until"; exit 75; fi; if [ "$who" = {mine} ]; then echo {RENEWED}; fi; '
        f"echo {mine} $(($(date +%s) + {seconds})) >{PATH}"
    )


def wait_for_others(holder: Holder) -> str:
    """A shell command that waits until no command of another run is at work on the host, for PATIENCE at the most; it
    prints the process ids of those that still are, and ends with status 75."""
    mine = shlex.quote(f"{MARK}={holder.text}")
    # whoever else's processes on the host bear that name is nobody's concern
    own = 'grep -lsE "^Uid:[[:space:]]$(id -u)[[:space:]]" /proc/[0-9]*/status | sed s/status/environ/'
    others = f"{own} | xargs -r grep -lsz ^{MARK}= | xargs -r grep -LszxF -e {mine} | cut -d / -f 3"
    return (
        f"until=$(($(date +%s) + {PATIENCE})); "
        f'while others=$({others}); [ -n "$others" ] && [ "$(date +%s)" -lt "$until" ]; do sleep 1; done; '
        '[ -z "$others" ] || { echo $others; exit 75; }'
    )


def release(holder: Holder) -> str:
    """A shell command that gives the lock back, if it is this run's."""
    return f"if grep -qsF {shlex.quote(holder.text)} {PATH}; then rm -f {PATH}; fi"


def held_by(printed: str) -> tuple[Holder, int] | None:
    """The other run that `acquire` has printed, and until when (seconds since 1970); None if it printed none."""
    for line in printed.splitlines():
        try:
            word, text, until = line.split(" ")
            machine, pid, started, who = text.split(":", 3)
            if word == "locked":
                time.localtime(int(until))
                return Holder(machine, int(pid), started, who), int(until)
        except (ValueError, OverflowError, OSError):  # it is the host that says so
            continue
    return None


def refusal(host: str, holder: Holder, until: int) -> str:
    """What to tell people whose run was not let in."""
    at = time.strftime("%H:%M:%S", time.localtime(until))
    return (
        f"{host}: {holder.who} (process {holder.pid}) is at work on it, until {at} at the latest: wait for that run; "
        f"if it is gone, remove {PATH} there"
    )


def _machine() -> str:
    """This boot of this machine, and the name space that process ids are of."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}.{os.stat('/proc/self/ns/pid').st_ino}"


def _started(pid: int) -> str:
    """When a process began, in the kernel's ticks; empty if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""
