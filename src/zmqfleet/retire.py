"""A host that leaves the fleet: what runs have placed there goes, and the controller forgets it; without an engine."""

import os
import shlex
import shutil
from collections.abc import Callable
from contextlib import suppress

from zmqfleet import locking, remote
from zmqfleet.converge import Actions, Answer, Ask, Execute, HostError, HostRun
from zmqfleet.desired import MANIFEST
from zmqfleet.fleet.model import Fleet, FleetError
from zmqfleet.fleet.schema import nearest

_SECONDS = 120


def retire(fleet: Fleet, host: str, say: Callable[[str], None]) -> None:
    """Stops and removes all that the host's manifest holds, in the order of a converge, and forgets the host's keys.

    `say` gets a line for each thing. Raises FleetError if there is no such host, or it cannot be done; what was done
    until then is found by the next try.
    """
    if host not in fleet.hosts:
        raise FleetError(f"{fleet.inventory}: no host {host!r}; {nearest(host, fleet.hosts)}")
    run = HostRun(fleet, host, locking.Holder.of(os.getpid()), leaves=True)
    try:
        _follow(run, run.read())
        if run.plan.is_lost:
            raise HostError(
                f"{MANIFEST} is gone, so nobody knows what runs have placed there: converge it once more"
            )
        for actions in (run.start(rolled=True), run.retire(), run.finish()):
            _follow(run, actions)
    except (HostError, remote.RemoteError) as error:
        with suppress(remote.RemoteError):
            _on(run, locking.release(run.holder))
        raise FleetError(f"{host}: {fleet.masked(str(error).removeprefix(f'{host}: '))}") from None
    for line in run.done:
        say(f"{host}: {line}")
    keys = fleet.state / "curve" / host
    try:
        shutil.rmtree(keys)
    except FileNotFoundError:
        pass  # it never had any
    except OSError as error:
        raise FleetError(f"{keys}: cannot be forgotten ({error}); remove it") from None


def _follow(run: HostRun, actions: Actions) -> None:
    answer: Answer | None = None
    while True:
        try:
            action = actions.send(answer)
        except StopIteration:
            return
        answer = None
        if isinstance(action, Ask):
            answer = _on(run, action.command)
        elif isinstance(action, Execute):
            done = _on(run, shlex.join(("env", f"{locking.MARK}={run.holder.text}", *action.command)))
            if not done.succeeded:
                raise HostError(f"{shlex.join(action.command)}: {done.stderr.strip()}")
        else:
            raise AssertionError(f"{action}: nothing is placed on a host that leaves")


def _on(run: HostRun, command: str) -> Answer:
    found = remote.run(run.fleet.hosts[run.host], "sh", "-c", shlex.quote(command), seconds=_SECONDS)
    if found.status == 255:
        raise remote.RemoteError(found.stderr.strip() or "ssh failed")
    return Answer(found.status == 0, found.stdout, found.stderr)
