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


def bounded(most: int, command: Sequence[str]) -> list[str]:
    """The argument list of a command that is ended, with status TOO_MUCH, when it has written so many bytes to a file:
    a host that prints without end fills neither memory nor disk."""
    return ["sh", "-c", f'ulimit -f {most // 512}; exec "$@"', "sh", *command]  # POSIX counts in 512 bytes


class RemoteError(Exception):
    """A host could not be asked; the message says why."""


@dataclass(frozen=True)
class Answer:
    """What a command on a host printed, and its exit status; `stderr` is fit for people."""

    status: int
    stdout: str
    stderr: str


def run(host: Host, *command: str, stdin: str = "", seconds: float) -> Answer:
    """Runs a command as root, by sudo where the inventory says so. Raises RemoteError if ssh does not get that far in
    time, or the host prints more than 16 MiB; ssh's own status is 255."""
    sudo = ("sudo", "-n") if host.become else ()
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        try:
            done = subprocess.run(
                bounded(_MOST, host.ssh(*sudo, *command)),
                input=stdin.encode(),
                stdout=stdout,
                stderr=stderr,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise RemoteError(f"no answer over ssh within {seconds:.0f} s") from None
        if done.returncode == TOO_MUCH:
            raise RemoteError(f"printed more than {_MOST // 1024**2} MiB")
        if done.returncode in (126, 127) and not stdout.tell():
            raise RemoteError(
                f"ssh cannot be run here, or {command[0]} there: {printable(_text(stderr)).strip()}"
            )
        return Answer(done.returncode, _text(stdout), printable(_text(stderr)))


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
