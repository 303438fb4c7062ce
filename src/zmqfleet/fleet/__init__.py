"""The fleet model: hosts, services, endpoints, and who may talk to whom; validated."""

from collections.abc import Sequence
from pathlib import Path

from zmqfleet import inventory as _inventory
from zmqfleet.fleet.model import Endpoint, Fleet, FleetError, Identity, Instance, Service, service_from
from zmqfleet.fleet.validate import NO_SERVICES, problems
from zmqfleet.inventory import Vault

__all__ = ["NO_SERVICES", "Endpoint", "Fleet", "FleetError", "Identity", "Instance", "Service", "load"]


def load(project: Path, inventory: Path, alone: bool = False, vaults: Sequence[Vault] = ()) -> Fleet:
    """Reads and validates a project's fleet; with `alone` it may declare no services, as where a capability is used by
    itself; `vaults` are passwords beside those that ansible.cfg and the environment name.

    Raises FleetError with one line a problem: file, key, what is wrong, nearest right name.
    """
    try:
        hosts = _inventory.load(project, inventory, vaults)
        found = problems(hosts, project, inventory, alone)
    except _inventory.InventoryError as error:
        raise FleetError(str(error)) from None
    if found:
        raise FleetError("\n".join(found))
    entries = next(iter(hosts.values())).variables.get("zmq_services", [])
    services = {entry["name"]: service_from(entry) for entry in entries}
    return Fleet(project, inventory, hosts, services)
