"""The cells that a fleet must show: who connects where, with what, and whether it must work."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from zmqfleet.fleet import Endpoint, Fleet, Service

NOTHING, RIGHT, UNKNOWN_KEY, WRONG_SERVER = "none", "right", "unknown", "wrong-server-key"
CREDENTIALS = (RIGHT, NOTHING, UNKNOWN_KEY, WRONG_SERVER)


@dataclass(frozen=True)
class Planned:
    """One connection to try from `source` to `address`:`port`, and what must come of it.

    `shut_at_tcp`: if it must be closed, then because no TCP connection comes about (firewall, bind address);
    otherwise because the handshake is refused. `secret_file` is a path on the source host.
    """

    source: str
    destination: str
    service: str
    endpoint: str
    socket: str
    mechanism: str
    credentials: str
    expected: str
    address: str
    port: int
    shut_at_tcp: bool = False
    secret_file: str | None = None
    server_key: str | None = None

    @property
    def where(self) -> tuple[str, str, str]:
        """What is connected to: destination, service, endpoint."""
        return self.destination, self.service, self.endpoint


def cells(
    fleet: Fleet, public_keys: Mapping[tuple[str, str], str], destinations: Collection[str] = ()
) -> list[Planned]:
    """All cells of a fleet, or those of some destinations, by destination; `public_keys` are Z85 server keys by (host,
    service)."""
    return [
        cell
        for destination in destinations or fleet.hosts
        for service in fleet.services_of(destination)
        for endpoint in service.endpoints
        for source in fleet.hosts
        for cell in _between(fleet, source, destination, service, endpoint, public_keys)
    ]


def _between(
    fleet: Fleet,
    source: str,
    destination: str,
    service: Service,
    endpoint: Endpoint,
    public_keys: Mapping[tuple[str, str], str],
) -> Iterator[Planned]:
    outside = fleet.hosts[destination].peer_address

    def cell(credentials: str, expected: str, shut_at_tcp: bool = False) -> Planned:
        # what is bound to a loopback address is tried from elsewhere at the host's own address
        address = outside if endpoint.loopback and source != destination else endpoint.own_address or outside
        own_key = credentials in (RIGHT, WRONG_SERVER)
        return Planned(
            source=source,
            destination=destination,
            service=service.name,
            endpoint=endpoint.name,
            socket=endpoint.socket,
            mechanism=endpoint.security.upper(),
            credentials=credentials,
            expected=expected,
            address=address,
            port=endpoint.port,
            shut_at_tcp=shut_at_tcp,
            secret_file=fleet.identity(source, service, endpoint).secret_file if own_key else None,
            server_key=public_keys.get((destination, service.name)),
        )

    if source not in fleet.allowed(service, endpoint, destination):
        # no firewall stands between a host and itself
        if source != destination:
            yield cell(NOTHING, "closed", shut_at_tcp=True)
    elif endpoint.curve:
        yield cell(RIGHT, "open")
        for credentials in (NOTHING, UNKNOWN_KEY, WRONG_SERVER):
            yield cell(credentials, "closed")
    else:
        yield cell(NOTHING, "open")
