"""Where hosts reach each other."""

import ipaddress
import socket

from zmqfleet.fleet.model import FleetError
from zmqfleet.inventory import Host


def addresses(host: Host) -> list[str]:
    """A host's IP addresses: its zmq_address, else its ansible_host, resolved if it is a name. Raises FleetError if it
    has none."""
    try:
        return [str(ipaddress.ip_address(host.peer_address))]
    except ValueError:
        pass
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host.peer_address, None)}
    except OSError as error:
        raise FleetError(
            f"{host.name}: its address {host.peer_address!r} does not resolve ({error}); set ansible_host to an IP "
            "address, or zmq_address to the one by which other hosts reach it"
        ) from None
    return sorted(found)
