"""What operators do with a service that runs: start it anew, go back to an earlier release, read its journal."""

import os
import re
import shlex
import subprocess
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, SimpleQueue

from zmqfleet import by_ssh, drift, locking, remote
from zmqfleet.converge import HostError, HostRun
from zmqfleet.fleet.model import Fleet, FleetError, Service
from zmqfleet.fleet.schema import nearest
from zmqfleet.releases import release as declared_release
from zmqfleet.text import printable

_AT_ONCE = 64
_SECONDS = 120
_TIME = re.compile(r"\d{4}-\d\d-\d\dT")
# Debian 12's has no colon
_ZONE = re.compile(r"(?<=^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}[+-]\d\d)(?=\d\d )")
_CURSOR = "-- cursor: "  # journalctl's last line, if asked for
_LONGEST = 65536  # characters of a line of a journal


def service_of(fleet: Fleet, name: str) -> Service:
    """The service of that name. Raises FleetError."""
    if name not in fleet.services:
        raise FleetError(f"no service {name!r}; {nearest(name, fleet.services)}")
    return fleet.services[name]


def releases(fleet: Fleet, service: Service) -> tuple[list[dict[str, object]], Mapping[str, str]]:
    """The releases of a service on each of its hosts, those that ran last first: `host`, `release`, whether it `runs`,
    whether it `ran` before, whether it is `declared`; and of other hosts why they could not be asked."""
    seen = drift.read(fleet, fleet.instances(service))
    declared = declared_release(fleet, service).id
    return [
        {
            "host": host,
            "release": one,
            "runs": one == run.running(service),
            "ran": bool(replaced),
            "declared": one == declared,
        }
        for host, run in seen.runs.items()
        for one, replaced in run.releases(service).items()
    ], seen.unknown


def restart(fleet: Fleet, service: Service, say: Callable[[str], None]) -> None:
    """Starts a service anew on one host after the other, each proven before the next. `say` gets a line for each host.

    Raises FleetError at the first host that fails, which goes back to what ran before; later ones are not touched.
    """
    _start_anew(fleet, service, fleet.instances(service), say)


def rollback(fleet: Fleet, service: Service, release: str, say: Callable[[str], None]) -> None:
    """The same, with another release: the given one, or the one that ran before on all hosts if it is empty. Hosts that
    run it already are passed over, so that what was interrupted can be finished.

    Raises FleetError before any host is touched if one does not have it, or if nobody can tell which one is meant; and
    at the end if hosts could not be asked.
    """
    seen = drift.read(fleet, fleet.instances(service))
    unknown = "\n".join(f"{host}: {why}" for host, why in seen.unknown.items())
    if not seen.runs:
        raise FleetError(unknown)
    release = release or _before(seen.runs, service)
    lacking = [host for host, run in seen.runs.items() if release not in run.releases(service)]
    if lacking:
        common = set.intersection(*(set(run.releases(service)) for run in seen.runs.values()))
        known = f"; all have: {', '.join(sorted(common))}" if common else ""
        raise FleetError(f"{service.name} has no release {release} on {', '.join(lacking)}{known}")
    left = []
    for host, run in seen.runs.items():
        if run.running(service) == run.current(service) == release:
            say(f"{host}: runs {release} already")
        else:
            left.append(host)
    _start_anew(fleet, service, left, say, release)
    if unknown:
        raise FleetError(unknown)


def _before(runs: Mapping[str, HostRun], service: Service) -> str:
    """The release that ran before the one that is to run, on all hosts."""
    current = {host: run.current(service) for host, run in runs.items()}
    if len(set(current.values())) > 1:
        each = ", ".join(f"{host} {release or 'none'}" for host, release in current.items())
        raise FleetError(
            f"{service.name} is not of one release on its hosts ({each}): name the one that is to run"
        )
    ran = [
        [one for one, replaced in run.releases(service).items() if replaced and one != current[host]]
        for host, run in runs.items()
    ]
    for one in ran[0]:
        if all(one in others for others in ran):
            return one
    raise FleetError(
        f"{service.name} has no release that ran before on all of its hosts; see zmqfleet releases"
    )


def _start_anew(
    fleet: Fleet, service: Service, hosts: Sequence[str], say: Callable[[str], None], release: str = ""
) -> None:
    for number, host in enumerate(hosts):
        run = HostRun(fleet, host, locking.Holder.of(os.getpid()))
        try:
            by_ssh.follow(run, run.read(), say)
            by_ssh.follow(run, run.start_anew(service, release), say)
        except (HostError, remote.RemoteError) as error:
            left = hosts[number + 1 :]
            more = f"; not touched: {', '.join(left)}" if left else ""
            raise FleetError(f"{host}: {fleet.masked(str(error).removeprefix(f'{host}: '))}{more}") from None
        except KeyboardInterrupt:
            say(f"{host}: interrupted, and perhaps half-way; see zmqfleet status")
            raise
        finally:
            with suppress(remote.RemoteError):
                by_ssh.ask(run, locking.release(run.holder))
        for line in run.done:
            say(f"{host}: {line}")


def journal(fleet: Fleet, service: Service, lines: int) -> tuple[list[str], Mapping[str, str]]:
    """The latest lines of a service's journal, those of all its hosts by time, each with its host's name; and of other
    hosts why they could not be asked."""
    shown, _, unknown = _latest(fleet, service, lines)
    return shown, unknown


def follow_journal(fleet: Fleet, service: Service, lines: int) -> Generator[str | None, None, None]:
    """The same, and then each line as it comes, until no host says anything more; None once a second meanwhile, so that
    whoever waits may give up. Raises FleetError if no host can be asked."""
    shown, cursors, unknown = _latest(fleet, service, lines)
    if not cursors:
        raise FleetError("\n".join(f"{host}: {why}" for host, why in unknown.items()))
    yield from shown
    yield from (f"{host}: {why}" for host, why in unknown.items())
    came: SimpleQueue[str | None] = SimpleQueue()

    def read(host: str, process: "subprocess.Popen[str]") -> None:
        assert process.stdout
        while line := process.stdout.readline(_LONGEST):
            came.put(_shown(fleet, host, line.rstrip("\n")))
        came.put(f"{host}: nothing more comes (status {process.wait()})")
        came.put(None)

    processes = {}
    for host, cursor in cursors.items():
        one = fleet.hosts[host]
        sudo = ("sudo", "-n") if one.become else ()
        after = (f"--after-cursor={cursor}",) if cursor else ()
        processes[host] = subprocess.Popen(
            one.ssh(*sudo, shlex.join(_command(service, "-f", "--no-tail", *after))),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    try:
        for both in processes.items():
            threading.Thread(target=read, args=both, daemon=True).start()
        left = len(processes)
        while left:
            try:
                line = came.get(timeout=1)
            except Empty:
                yield None
                continue
            if line is None:
                left -= 1
            else:
                yield line
    finally:
        for process in processes.values():
            process.terminate()


def _latest(
    fleet: Fleet, service: Service, lines: int
) -> tuple[list[str], Mapping[str, str], Mapping[str, str]]:
    """The latest lines; of each host, where its journal goes on; of others, why they could not be asked."""

    def read(host: str) -> tuple[str, list[str], str]:
        command = _command(service, "-n", str(lines), "--show-cursor")
        try:
            said = remote.run(fleet.hosts[host], *command, seconds=_SECONDS)
        except remote.RemoteError as error:
            return host, [], str(error)
        # a journal without an entry of it is a failure to some versions, and none to others
        return host, said.stdout.splitlines(), said.stderr.strip() if said.status else ""

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = list(pool.map(read, fleet.instances(service)))
    entries, cursors, silent = [], {}, {}
    for host, every, why in found:
        if not why and not every:
            silent[host] = "nothing of it is in the journal: is it converged there?"
        if not why:
            cursors[host] = (
                every.pop().removeprefix(_CURSOR) if every and every[-1].startswith(_CURSOR) else ""
            )
        time = ""
        for line in every:
            # those without a time belong to the one before
            if _TIME.match(line):
                time = line.partition(" ")[0]
            entries.append((time, line, host))
    # those of one moment stay in their order
    entries.sort(key=lambda entry: entry[0])
    shown = [_shown(fleet, host, line) for _, line, host in entries[-lines:]]
    return shown, cursors, {host: why for host, _, why in found if why} | silent


def _command(service: Service, *options: str) -> Sequence[str]:
    how = ("-q", "--no-pager", "--utc", "-o", "short-iso-precise")
    return ("journalctl", *how, "-u", f"{service.name}.service", *options)


def _shown(fleet: Fleet, host: str, line: str) -> str:
    return f"{host}: {printable(fleet.masked(_ZONE.sub(':', line)))}"
