"""Commands on hosts over the system's ssh, for what neither engine is needed."""

import subprocess
from dataclasses import dataclass

from zmqfleet.inventory import Host


class RemoteError(Exception):
    """A host could not be asked; the message says why."""


@dataclass(frozen=True)
class Answer:
    """What a command on a host printed, and its exit status."""

    status: int
    stdout: str
    stderr: str


def run(host: Host, *command: str, stdin: str = "", seconds: float) -> Answer:
    """Runs a command as root, by sudo where the inventory says so. Raises RemoteError if ssh does not get that far in
    time; ssh's own status is 255."""
    sudo = ("sudo", "-n") if host.become else ()
    try:
        done = subprocess.run(
            host.ssh(*sudo, *command),
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RemoteError(f"no answer over ssh within {seconds:.0f} s") from None
    except OSError as error:
        raise RemoteError(f"ssh cannot be run here: {error}") from None
    return Answer(done.returncode, done.stdout, done.stderr)
