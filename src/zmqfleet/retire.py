"""A host that leaves the fleet: what runs have placed there goes, and the controller forgets it; without an engine."""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress

from zmqfleet import by_ssh, locking, remote
from zmqfleet.converge import HostError, HostRun
from zmqfleet.desired import MANIFEST
from zmqfleet.fleet.model import Fleet, FleetError
from zmqfleet.fleet.schema import nearest


def concerned(fleet: Fleet, host: str) -> str:
    """What the fleet has on a host, in words. Raises FleetError if there is no such host."""
    if host not in fleet.hosts:
        raise FleetError(
            f"{fleet.inventory}: no host {host!r} (one that was taken out before it was empty has to come back for "
            f"it); {nearest(host, fleet.hosts)}"
        )
    names = [service.name for service in fleet.services_of(host)]
    builds = ["what builds all services"] if host == fleet.builder else []
    return ", ".join([*names, *builds]) or "no service"


def retire(fleet: Fleet, host: str, say: Callable[[str], None]) -> None:
    """Stops and removes all that the host's manifest holds, in the order of a converge, and forgets the host's keys.

    `say` gets a line for each thing. Raises FleetError if it cannot be done; what was done until then is found by the
    next try.
    """
    run = HostRun(fleet, host, locking.Holder.of(os.getpid()), leaves=True)
    try:
        by_ssh.follow(run, run.read(), say)
        if run.plan.is_lost:
            raise HostError(
                f"{MANIFEST} is gone, so nobody knows what runs have placed there: converge it once more"
            )
        for actions in (run.start(rolled=True), run.retire(), run.finish()):
            by_ssh.follow(run, actions, say)
    except (HostError, remote.RemoteError, KeyboardInterrupt) as error:
        with suppress(remote.RemoteError):
            by_ssh.ask(run, locking.release(run.holder))
        _tell(run, say)
        if isinstance(error, KeyboardInterrupt):
            say(f"{host}: interrupted, and perhaps half-way; run it again")
            raise
        raise FleetError(f"{host}: {fleet.masked(str(error).removeprefix(f'{host}: '))}") from None
    _tell(run, say)
    keys = fleet.state / "curve" / host
    try:
        shutil.rmtree(keys)
    except FileNotFoundError:
        pass  # it never had any
    except OSError as error:
        raise FleetError(f"{keys}: cannot be forgotten ({error}); remove it") from None


def _tell(run: HostRun, say: Callable[[str], None]) -> None:
    for line in run.done:
        say(f"{run.host}: {line}")
