"""Where hosts are reached."""

import ipaddress
import socket

from zmqfleet.fleet.model import FleetError
from zmqfleet.inventory import Host


def addresses(host: Host) -> list[str]:
    """A host's IP addresses: its ansible_host, resolved if it is a name. Raises FleetError if it has none."""
    try:
        return [str(ipaddress.ip_address(host.address))]
    except ValueError:
        pass
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host.address, None)}
    except OSError as error:
        raise FleetError(
            f"{host.name}: its address {host.address!r} does not resolve ({error}); set ansible_host to an IP address"
        ) from None
    return sorted(found)
