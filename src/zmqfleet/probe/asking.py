"""Asks hosts what they meet where they connect to."""

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from importlib import resources
from typing import Any

from zmqfleet import remote
from zmqfleet.fleet import Fleet
from zmqfleet.inventory import Host
from zmqfleet.probe import plan, verdict
from zmqfleet.probe.plan import Planned
from zmqfleet.probe.verdict import Cell, Outcome
from zmqfleet.text import printable

TIMEOUT = 3
"""Seconds that one connection may take, if nothing else is said."""

_NEED_SERVER_KEY = (plan.RIGHT, plan.UNKNOWN_KEY)
_HOSTS_AT_ONCE = 64
_HOST_DEADLINE = 120  # seconds
# of the time-out of a cell, where that is longer: a host with very many cells tries them in turns
_TURNS = 40
_LONGEST = 500  # characters of an evidence
_MOST = 4096  # bytes of an answer, for each cell and for what a login prints


def run(
    fleet: Fleet,
    public_keys: Mapping[tuple[str, str], str],
    say: Callable[[str], None],
    timeout: int = TIMEOUT,
) -> tuple[list[Cell], dict[str, str]]:
    """Tries every cell of the fleet, each for `timeout` seconds, over one ssh connection a host, all hosts in parallel.

    `public_keys` are the Z85 server keys by (host, service); `say` gets a line a host as results come in.
    Nothing is changed anywhere and no application message is sent. Returns all cells with their verdicts, and why
    hosts could not be asked, which is no error.
    """
    planned = plan.cells(fleet, public_keys)
    outcomes, unreachable = ask(fleet.hosts, planned, say, timeout, max(_HOST_DEADLINE, _TURNS * timeout))
    return verdict.judge(planned, outcomes), unreachable


def ask(
    hosts: Mapping[str, Host],
    planned: Sequence[Planned],
    say: Callable[[str], None],
    timeout: int,
    seconds: float = _HOST_DEADLINE,
) -> tuple[list[Outcome], dict[str, str]]:
    """What was met in each of some cells, and why hosts could not be asked; each of these has `seconds` for its answer,
    and each cell `timeout`."""
    outcomes: dict[int, Outcome] = {}
    to_ask: dict[str, list[int]] = {}
    unreachable: dict[str, str] = {}
    for number, cell in enumerate(planned):
        if cell.credentials in _NEED_SERVER_KEY and cell.server_key is None:
            why = f"no public key of {cell.service} on {cell.destination} is known here"
            outcomes[number] = Outcome(verdict.UNKNOWN, None, f"{why}: converge {cell.destination}")
        else:
            to_ask.setdefault(cell.source, []).append(number)
    with ThreadPoolExecutor(_HOSTS_AT_ONCE) as pool:
        asked = {
            pool.submit(
                _ask, hosts[host], [(number, planned[number]) for number in numbers], timeout, seconds
            ): host
            for host, numbers in to_ask.items()
        }
        for answer in as_completed(asked):
            host = asked[answer]
            try:
                results = answer.result()
                say(f"{host}: {len(to_ask[host])} cells tried")
            except remote.RemoteError as error:
                unreachable[host] = str(error)
                results = {number: Outcome(verdict.UNKNOWN, None, str(error)) for number in to_ask[host]}
                say(f"{host}: could not be asked: {error}")
            outcomes.update(results)
    return [outcomes[number] for number in range(len(planned))], unreachable


def _ask(
    host: Host, cells: Sequence[tuple[int, Planned]], timeout: int, seconds: float
) -> dict[int, Outcome]:
    """What `host` met on its cells, by number. Raises remote.RemoteError."""
    ssh = remote.run(
        host,
        "/usr/bin/python3",
        "-",
        stdin=_program(cells, timeout),
        seconds=seconds,
        most=_MOST * (len(cells) + 4),
    )
    said = [line for line in ssh.stderr.splitlines() if line.strip()]
    try:
        answer = json.loads(ssh.stdout.splitlines()[-1])
        if "error" in answer:
            raise remote.RemoteError(_line(str(answer["error"])))
        results = dict(map(_outcome, answer["results"]))
    except (IndexError, ValueError, TypeError, KeyError, RecursionError):
        silent = f"ssh ended with status {ssh.status}, and what it printed is no result of the agent's"
        raise remote.RemoteError("; ".join(said)[-_LONGEST:] if said else silent) from None
    if results.keys() != {number for number, _ in cells}:
        raise remote.RemoteError(
            "the agent answered for other cells than it was asked: this is a bug of the probe"
        )
    return results


def _outcome(said: Any) -> tuple[int, Outcome]:
    """The number of a cell, and what a host says of it. Raises ValueError, TypeError or KeyError if that is none."""
    found = Outcome(*(said[key] for key in ("observed", "layer", "evidence", "milliseconds", "connected")))
    kinds = (type(said["id"]), type(found.evidence), type(found.milliseconds), type(found.connected))
    if (
        kinds != (int, str, int, bool)
        or found.observed not in (verdict.OPEN, verdict.CLOSED, verdict.UNKNOWN)
        or not isinstance(found.layer, str | None)
        or not 0 <= found.milliseconds <= _HOST_DEADLINE * 1000
    ):
        raise ValueError("no outcome")
    layer = found.layer and _line(found.layer)
    return said["id"], replace(found, layer=layer, evidence=_line(found.evidence))


def _line(text: str) -> str:
    """What a host says, in one line that is fit to be shown."""
    return " ".join(printable(text).split())[:_LONGEST]


def _program(cells: Sequence[tuple[int, Planned]], timeout: int) -> str:
    """The agent followed by its cells: what Python reads on a host."""
    asked = [
        {
            "id": number,
            "address": cell.address,
            "port": cell.port,
            "socket": cell.socket,
            "credentials": cell.credentials,
            "secret_file": cell.secret_file,
            "server_key": cell.server_key,
        }
        for number, cell in cells
    ]
    source = resources.files("zmqfleet.probe").joinpath("agent.py").read_text("utf-8")
    return f"{source}\nmain({json.dumps(asked)!a}, {timeout})\n"
