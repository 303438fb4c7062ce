"""Whom the processes of a unit may exchange packets with."""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from zmqfleet.resources.base import Actual, Commanded

LOOPBACK = ("127.0.0.0/8", "::1/128")
_NAME_SERVERS = r"s/^[[:space:]]*nameserver[[:space:]]\{1,\}\([0-9A-Fa-f.:]\{1,\}\).*/\1/p"
_REMOVE = 'rm -rf "/run/systemd/system.control/$0.d"; systemctl daemon-reload'


@dataclass(frozen=True)
class Peers(Commanded):
    """The addresses and networks to which systemd holds a unit's processes (IPAddressAllow=), beside the host's
    loopback and its name servers, whatever its firewall says. `name` is the unit's, `guard` the command that brings it
    about."""

    kind: ClassVar[str] = "peers"
    name: str
    networks: tuple[str, ...]
    guard: tuple[str, ...]

    def commands(self, actual: Actual, triggered: bool) -> list[tuple[str, ...]]:
        return [("systemctl", "daemon-reload"), self.guard]

    def differs(self, actual: Actual) -> str:
        found = actual.units.get(self.name, {}).get("IPAddressAllow", "").split()
        if _all(found) == _all([*self.networks, *LOOPBACK, *actual.name_servers]):
            return ""
        return "differ" if found else "missing"

    def is_there(self, actual: Actual) -> bool:
        return bool(actual.units.get(self.name, {}).get("IPAddressAllow"))

    @classmethod
    def remove(cls, entry: Mapping[str, str]) -> list[tuple[str, ...]]:
        return [("sh", "-c", _REMOVE, entry["name"])]

    @classmethod
    def read(cls, items: Sequence["Peers"]) -> str:
        # what they are now is among the properties of their units
        return f"sed -n '{_NAME_SERVERS}' /etc/resolv.conf 2>/dev/null"

    @classmethod
    def parse(cls, line: str, actual: Actual) -> None:
        actual.name_servers.append(str(ipaddress.ip_address(line)))


def _all(networks: Iterable[str]) -> set[object]:
    """The addresses in some networks: systemd leaves out those that are inside others."""
    every = [ipaddress.ip_network(one) for one in networks]
    old = [one for one in every if isinstance(one, ipaddress.IPv4Network)]
    new = [one for one in every if isinstance(one, ipaddress.IPv6Network)]
    return {*ipaddress.collapse_addresses(old), *ipaddress.collapse_addresses(new)}
