"""Whether peers get through to each other: what a run has to know where another's firewall may keep them apart."""

import pickle
import resource
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence

from zmqfleet import python
from zmqfleet.desired import INPUT, OUTPUT
from zmqfleet.fleet import Fleet
from zmqfleet.inventory import Host
from zmqfleet.probe import plan, verdict
from zmqfleet.probe.asking import ask
from zmqfleet.probe.plan import Planned
from zmqfleet.probe.verdict import Outcome

_SECONDS = 10  # for a cell, as nobody has said how slow the fleet is


def kept_out(fleet: Fleet, ways: Mapping[str, Collection[str]]) -> dict[str, list[str] | None]:
    """Tries what other hosts are to reach on these (`input`), and these on others (`output`): by host, the TCP
    connections that do not come about, a line each; None where that cannot be told."""

    def concerns(host: str, cell: Planned) -> bool:
        return host in (
            cell.destination if INPUT in ways[host] else None,
            cell.source if OUTPUT in ways[host] else None,
        )

    everywhere = any(OUTPUT in one for one in ways.values())
    cells = [
        cell
        for cell in plan.cells(fleet, fleet.public_keys(), () if everywhere else ways)
        if cell.source != cell.destination
        and cell.expected == verdict.OPEN
        and any(concerns(host, cell) for host in ways.keys() & {cell.source, cell.destination})
    ]
    outcomes = _tried({cell.source: fleet.hosts[cell.source] for cell in cells}, cells)
    found: dict[str, list[str] | None] = {}
    for host in ways:
        tried = [(cell, met) for cell, met in zip(cells, outcomes, strict=True) if concerns(host, cell)]
        lines = [
            f"{cell.source} to {cell.service}.{cell.endpoint} on {cell.destination}: {met.evidence}"
            for cell, met in tried
            if met.observed == verdict.CLOSED and met.layer == "tcp" and not met.connected
        ]
        is_known = bool(tried) and all(met.connected or met.observed == verdict.OPEN for _, met in tried)
        found[host] = lines if lines or is_known else None
    return found


def _tried(hosts: Mapping[str, Host], cells: Sequence[Planned]) -> list[Outcome]:
    """In a process of its own: engines change how this one waits (gevent's subprocess has no time-out for what is only
    fed), and how much memory it may have."""
    done = subprocess.run(
        python("zmqfleet.probe.through"),
        input=pickle.dumps((hosts, cells)),
        capture_output=True,
        check=False,
    )
    if done.returncode:
        return [Outcome(verdict.UNKNOWN, None, "the probe has failed")] * len(cells)
    outcomes: list[Outcome] = pickle.loads(done.stdout)
    return outcomes


def main() -> None:
    """Reads hosts and cells, and writes what is met in these."""
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    hosts, cells = pickle.load(sys.stdin.buffer)
    outcomes, _ = ask(hosts, cells, lambda _: None, _SECONDS)
    sys.stdout.buffer.write(pickle.dumps(outcomes))
