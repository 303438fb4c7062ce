"""Commands on hosts over the system's ssh, for what neither engine is needed."""

import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from zmqfleet.inventory import Host
from zmqfleet.text import printable

_MOST = 16 * 1024 * 1024  # bytes; a read of 10,000 clients' keys is a tenth of it


TOO_MUCH = -signal.SIGXFSZ


def bounded(
    most: int, command: Sequence[str], stdout: IO[bytes], seconds: float, stdin: str = ""
) -> tuple[int, str]:
    """Runs a command of this machine, ssh for instance, which prints into a file; returns its status and what it says,
    fit for people. When it has written `most` bytes it is ended, with status TOO_MUCH: a host that prints without end
    fills neither memory nor disk. Raises subprocess.TimeoutExpired."""
    with tempfile.TemporaryFile() as stderr:
        done = subprocess.run(
            ["sh", "-c", f'ulimit -f {most // 512}; exec "$@"', "sh", *command],  # POSIX counts in 512 bytes
            input=stdin.encode(),
            stdout=stdout,
            stderr=stderr,
            timeout=seconds,
            check=False,
        )
        stderr.seek(0)
        return done.returncode, printable(stderr.read(_MOST).decode(errors="replace"))


class RemoteError(Exception):
    """A host could not be asked; the message says why."""


@dataclass(frozen=True)
class Answer:
    """What a command on a host printed, and its exit status; `stderr` is fit for people."""

    status: int
    stdout: str
    stderr: str


def run(host: Host, *command: str, stdin: str = "", seconds: float, most: int = _MOST) -> Answer:
    """Runs a command as root, by sudo where the inventory says so. Raises RemoteError if ssh does not get that far in
    time, or the host prints more than `most` bytes; ssh's own status is 255."""
    sudo = ("sudo", "-n") if host.become else ()
    with tempfile.TemporaryFile() as stdout:
        try:
            status, stderr = bounded(most, host.ssh(*sudo, *command), stdout, seconds, stdin)
        except subprocess.TimeoutExpired:
            raise RemoteError(f"no answer over ssh within {seconds:.0f} s") from None
        if status == TOO_MUCH:
            unit, size = ("MiB", 1024**2) if most >= 1024**2 else ("KiB", 1024)
            raise RemoteError(f"printed more than {most // size} {unit}")
        if status in (126, 127) and not stdout.tell():
            raise RemoteError(f"ssh cannot be run here, or {command[0]} there: {stderr.strip()}")
        stdout.seek(0)
        return Answer(status, stdout.read().decode(errors="replace"), stderr)
