"""What differs between hosts and what is declared, without an engine: one command a host."""

import os
import shlex
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from zmqfleet import locking, remote
from zmqfleet.converge import Answer, Ask, HostError, HostRun, Warn
from zmqfleet.desired import UNTRIED
from zmqfleet.fleet.model import Fleet, FleetError
from zmqfleet.fleet.schema import nearest
from zmqfleet.text import counted

_AT_ONCE = 64
_SECONDS = 120


@dataclass(frozen=True)
class Report:
    """For each host the changes that a run would make; `unknown` says of others why that could not be told, and
    `warnings` what people should know beside that."""

    changes: Mapping[str, Sequence[str]]
    unknown: Mapping[str, str]
    warnings: Sequence[str] = ()

    @property
    def exit_status(self) -> int:
        """0 nothing differs, 1 something does, 2 that could not be told of a host."""
        if self.unknown:
            return 2
        return 1 if any(self.changes.values()) else 0

    def as_json(self) -> dict[str, Any]:
        """The report as JSON data."""
        return {
            "schema": 1,
            "changes": {name: list(lines) for name, lines in self.changes.items()},
            "unknown": dict(self.unknown),
            "warnings": list(self.warnings),
        }

    def as_text(self) -> str:
        """A line for each thing that differs, and a summary."""
        lines = [f"{host}: {change}" for host, changes in self.changes.items() for change in changes]
        lines += [f"{host}: {why}" for host, why in self.unknown.items()]
        known = {host: changes for host, changes in self.changes.items() if host not in self.unknown}
        drifted = sum(1 for changes in known.values() if changes)
        total = len(known) + len(self.unknown)
        summary = f"{counted(total, 'host')}: {len(known) - drifted} as declared, {drifted} not"
        return "\n".join(
            [*self.warnings, *lines, summary + (f"; {len(self.unknown)} unknown" if self.unknown else "")]
        )


@dataclass(frozen=True)
class Seen:
    """Hosts that were read, each with its plan; of others why they could not be; and what people should know."""

    runs: Mapping[str, HostRun]
    unknown: Mapping[str, str]
    warnings: Sequence[str]

    @property
    def findings(self) -> list[str]:
        """What is as declared, and people should see to all the same: whose firewalls peers may not get through, what
        AppArmor denies services."""
        return [
            run.fleet.masked(f"{host}: {line}")
            for host, run in self.runs.items()
            for line in (*(f"{one.words}: {UNTRIED}" for one in run.plan.barred), *run.plan.denied)
        ]


def read(fleet: Fleet, names: Sequence[str] = ()) -> Seen:
    """Reads hosts, given by name or group (all of them by default); one command a host, all at once.

    Raises FleetError if a name is neither. A host that cannot be asked is no error.
    """
    for name in names:
        if name not in fleet.hosts and name not in fleet.groups:
            raise FleetError(
                f"{fleet.inventory}: no host or group {name!r}; {nearest(name, [*fleet.hosts, *fleet.groups])}"
            )
    chosen = sorted({host for name in names or ("all",) for host in fleet.groups.get(name, [name])})
    holder = locking.Holder.of(os.getpid())
    runs = {host: HostRun(fleet, host, holder) for host in chosen}
    warnings: list[str] = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = pool.map(lambda run: _read(run, warnings), runs.values())
        unknown = {host: why for host, why in found if why}
    known = {host: run for host, run in runs.items() if host not in unknown}
    for run in known.values():
        # all have been read now, so that each knows the keys of the others
        for _ in run.look_again():
            raise AssertionError("nothing was placed")
    return Seen(known, unknown, sorted(warnings))


def look(fleet: Fleet, names: Sequence[str] = ()) -> Report:
    """Reads hosts as `read` does, and compares. Raises FleetError."""
    seen = read(fleet, names)
    changes, refused = {}, {}
    for host, run in seen.runs.items():
        changes[host] = run.plan.forecast
        if run.plan.refusals:
            refused[host] = f"cannot be converged: {'; '.join(run.plan.refusals)}"
        elif run.plan.undecided:
            refused[host] = "; ".join(run.plan.undecided)
    return Report(changes, {**seen.unknown, **refused}, [*seen.warnings, *seen.findings])


def _read(run: HostRun, warnings: list[str]) -> tuple[str, str]:
    """Reads a host; says why if that failed."""
    reading = run.read()
    answer: Answer | None = None
    try:
        while True:
            match reading.send(answer):
                case Ask(command):
                    said = remote.run(
                        run.fleet.hosts[run.host], "sh", "-c", shlex.quote(command), seconds=_SECONDS
                    )
                    answer = Answer(said.status == 0, said.stdout, said.stderr)
                case Warn(message):
                    warnings.append(run.fleet.masked(message))
                case action:
                    raise AssertionError(f"a read changes nothing: {action}")
    except StopIteration:
        return run.host, ""
    except (HostError, remote.RemoteError) as error:
        lines = str(error).removeprefix(f"{run.host}: ").splitlines()
        return run.host, run.fleet.masked("; ".join(line.strip() for line in lines))
