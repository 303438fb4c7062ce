"""What operators do with a service that runs: start it anew, go back to an earlier release, read its journal."""

import os
import re
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from zmqfleet import by_ssh, drift, locking, remote
from zmqfleet.converge import HostError, HostRun
from zmqfleet.fleet.model import Fleet, FleetError, Service
from zmqfleet.fleet.schema import nearest
from zmqfleet.releases import release as declared_release
from zmqfleet.text import printable

_AT_ONCE = 64
_SECONDS = 120
_TIME = re.compile(r"\d{4}-\d\d-\d\dT")
_LONGEST = 65536  # characters of a line of a journal


def service_of(fleet: Fleet, name: str) -> Service:
    """The service of that name. Raises FleetError."""
    if name not in fleet.services:
        raise FleetError(f"no service {name!r}; {nearest(name, fleet.services)}")
    return fleet.services[name]


def releases(fleet: Fleet, service: Service) -> tuple[list[dict[str, object]], Mapping[str, str]]:
    """The releases of a service on each of its hosts, those that ran last first: `host`, `release`, whether it `runs`,
    whether it is `declared`; and of other hosts why they could not be asked."""
    seen = drift.read(fleet, fleet.instances(service))
    declared = declared_release(fleet, service).id
    return [
        {"host": host, "release": one, "runs": one == run.running(service), "declared": one == declared}
        for host, run in seen.runs.items()
        for one in run.releases(service)
    ], seen.unknown


def start_anew(
    fleet: Fleet, service: Service, say: Callable[[str], None], release: str | None = None
) -> None:
    """Starts a service anew on one host after the other, each proven before the next; with a release, that one, or the
    one before if it is empty. `say` gets a line for each host.

    Raises FleetError at the first host that fails, which goes back to what ran before; later ones are not touched.
    """
    hosts = fleet.instances(service)
    for number, host in enumerate(hosts):
        run = HostRun(fleet, host, locking.Holder.of(os.getpid()))
        try:
            by_ssh.follow(run, run.read(), say)
            by_ssh.follow(run, run.start_anew(service, release), say)
        except (HostError, remote.RemoteError) as error:
            left = hosts[number + 1 :]
            more = f"; not touched: {', '.join(left)}" if left else ""
            raise FleetError(f"{host}: {fleet.masked(str(error).removeprefix(f'{host}: '))}{more}") from None
        finally:
            with suppress(remote.RemoteError):
                by_ssh.ask(run, locking.release(run.holder))
        for line in run.done:
            say(f"{host}: {line}")


def journal(fleet: Fleet, service: Service, lines: int) -> tuple[list[str], Mapping[str, str]]:
    """The latest lines of a service's journal, those of all its hosts by time, each with its host's name; and of other
    hosts why they could not be asked."""

    def read(host: str) -> tuple[str, list[str], str]:
        try:
            said = remote.run(fleet.hosts[host], *_command(service, lines), seconds=_SECONDS)
        except remote.RemoteError as error:
            return host, [], str(error)
        return host, said.stdout.splitlines(), (said.stderr.strip() or "failed") if said.status else ""

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = list(pool.map(read, fleet.instances(service)))
    entries = []
    for host, every, _ in found:
        time = ""
        for line in every:
            # those without a time belong to the one before
            if _TIME.match(line):
                time = line.partition(" ")[0]
            entries.append((time, line, host))
    # those of one moment stay in their order
    entries.sort(key=lambda entry: entry[0])
    shown = [_shown(fleet, host, line) for _, line, host in entries[-lines:]]
    return shown, {host: why for host, _, why in found if why}


def follow_journal(fleet: Fleet, service: Service, lines: int, say: Callable[[str], None]) -> None:
    """The same, and then each line as it comes, until it is interrupted or no host says anything more."""

    def read(host: str, process: "subprocess.Popen[str]") -> None:
        assert process.stdout
        while line := process.stdout.readline(_LONGEST):
            say(_shown(fleet, host, line.rstrip("\n")))
        say(f"{host}: nothing more comes (status {process.wait()})")

    processes = {}
    for host in fleet.instances(service):
        one = fleet.hosts[host]
        sudo = ("sudo", "-n") if one.become else ()
        processes[host] = subprocess.Popen(
            one.ssh(*sudo, *_command(service, lines, "-f")),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    threads = [threading.Thread(target=read, args=one, daemon=True) for one in processes.items()]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        for process in processes.values():
            process.terminate()


def _command(service: Service, lines: int, *options: str) -> Sequence[str]:
    unit = f"{service.name}.service"
    return (
        "journalctl",
        "-q",
        "--no-pager",
        "--utc",
        "-o",
        "short-iso-precise",
        "-n",
        str(lines),
        "-u",
        unit,
        *options,
    )


def _shown(fleet: Fleet, host: str, line: str) -> str:
    return f"{host}: {printable(fleet.masked(line))}"
