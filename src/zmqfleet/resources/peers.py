"""Whom the processes of a unit may exchange packets with."""

import ipaddress
import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar

from zmqfleet.resources.base import Actual, Resource

_LOOPBACK = ("127.0.0.0/8", "::1/128")
_NAME_SERVER = r"s/^[[:space:]]*nameserver[[:space:]]\{1,\}\([^[:space:]]*\).*/\1/p"
# what `systemctl set-property --runtime` wrote; a team's own drop-ins beside that may allow more
_CONTROL = "/run/systemd/system.control"
_ALLOW = r"s/^IPAddressAllow=\(.\{1,\}\)/|\1/p"
_REMOVE = f'rm -rf "{_CONTROL}/$0.d"; systemctl daemon-reload'
_MOST = 20_000  # networks of a unit: no fleet has more, and comparing takes its time


@dataclass(frozen=True)
class Peers(Resource):
    """The addresses and networks to which systemd holds a unit's processes (IPAddressAllow=), beside the host's
    loopback and its name servers, whatever its firewall says. `name` is the unit's, `guard` the command that brings it
    about."""

    kind: ClassVar[str] = "peers"
    name: str
    networks: tuple[str, ...]
    guard: tuple[str, ...]

    def commands(self, actual: Actual, triggered: bool) -> list[tuple[str, ...]]:
        return [self.guard]

    def differs(self, actual: Actual) -> str:
        found = actual.peers.get(self.name)
        if not found:
            return "missing"
        return "" if _all(found) == _all([*self.networks, *_LOOPBACK, *actual.name_servers]) else "differ"

    def is_there(self, actual: Actual) -> bool:
        return self.name in actual.peers

    @classmethod
    def remove(cls, entry: Mapping[str, str]) -> list[tuple[str, ...]]:
        return [("sh", "-c", _REMOVE, entry["name"])]

    @classmethod
    def read(cls, items: Sequence["Peers"]) -> str:
        drop_ins = "; ".join(
            f"sed -n {shlex.quote(_ALLOW)} {shlex.quote(f'{_CONTROL}/{one.name}.d/50-IPAddressAllow.conf')} "
            f"| while read -r line; do printf '%s%s\\n' {shlex.quote(one.name)} \"$line\"; done"
            for one in items
        )
        return f"(sed -n {shlex.quote(_NAME_SERVER)} /etc/resolv.conf; {drop_ins}) 2>/dev/null"

    @classmethod
    def parse(cls, line: str, actual: Actual) -> None:
        unit, separator, network = line.rpartition("|")
        if separator:
            found = actual.peers.setdefault(unit, [])
            found.append(str(ipaddress.ip_network(network)))
            if len(found) > _MOST:
                raise ValueError(f"more than {_MOST} networks")
            return
        with suppress(ValueError):  # resolvers leave out what is no address, too
            actual.name_servers.append(str(ipaddress.ip_address(line.partition("%")[0])))


def _all(networks: Iterable[str]) -> set[object]:
    """The addresses in some networks: systemd leaves out those that are inside others."""
    every = [ipaddress.ip_network(one) for one in networks]
    old = [one for one in every if isinstance(one, ipaddress.IPv4Network)]
    new = [one for one in every if isinstance(one, ipaddress.IPv6Network)]
    return {*ipaddress.collapse_addresses(old), *ipaddress.collapse_addresses(new)}
