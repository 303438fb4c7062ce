"""The fleet model: hosts, services, endpoints, and who may talk to whom; validated, with each host's view."""

from pathlib import Path

from zmqfleet import inventory as _inventory
from zmqfleet.fleet.model import Endpoint, Fleet, FleetError, Identity, Service, service_from
from zmqfleet.fleet.validate import problems
from zmqfleet.fleet.view import View, view

__all__ = ["Endpoint", "Fleet", "FleetError", "Identity", "Service", "View", "load", "view"]


def load(project: Path, inventory: Path) -> Fleet:
    """Reads and validates a project's fleet.

    Raises FleetError with one line a problem: file, key, what is wrong, nearest right name.
    """
    try:
        hosts = _inventory.load(project, inventory)
        found = problems(hosts, project, inventory)
    except _inventory.InventoryError as error:
        raise FleetError(str(error)) from None
    if found:
        raise FleetError("\n".join(found))
    entries = next(iter(hosts.values())).variables["zmq_services"]
    services = {entry["name"]: service_from(entry) for entry in entries}
    return Fleet(project, inventory, hosts, services)
