"""Rules of the host's firewall, as data: what places them is the table that is made of all of them."""

import ipaddress
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from zmqfleet.resources.base import Actual, Resource

_LISTENER = r's/^\S* *\S* *\S* *\S*:\([0-9]*\) .*(("\([^"]*\)",pid=\([0-9]*\),.*/\1 \3 \2/p'
# the unit of a process, by the shell alone: many listen on some hosts
_UNIT = (
    "unit=; while read -r line; do case $line in 0::*.service*) unit=${line%.service*}.service; unit=${unit##*/};; "
    'esac; done 2>/dev/null <"/proc/$pid/cgroup"'
)


def families(addresses: Iterable[str]) -> set[str]:
    """nftables' families of tables that packets from or to these IP addresses pass."""
    versions = {ipaddress.ip_address(one).version for one in addresses}
    return {name for one in versions for name in ("inet", "ip" if one == 4 else "ip6")}


@dataclass(frozen=True)
class Rule(Resource):
    """A TCP port that only `peers`, IP addresses, may reach, for an endpoint."""

    kind: ClassVar[str] = "rule"
    endpoint: str
    port: int
    peers: tuple[str, ...]
    name: str = field(init=False)

    def __post_init__(self) -> None:
        # an endpoint that moves to another port is another rule
        object.__setattr__(self, "name", f"{self.endpoint} {self.port}")

    def differs(self, actual: Actual) -> str:
        return ""

    def commands(self, actual: Actual, triggered: bool) -> list[tuple[str, ...]]:
        """None: it is a part of the table."""
        return []

    def is_there(self, actual: Actual) -> bool:
        return False

    @property
    def data(self) -> dict[str, Any]:
        """What a manifest has to know of it, so that it can stay until its process is gone."""
        return {"endpoint": self.endpoint, "port": self.port, "peers": list(self.peers)}

    @classmethod
    def check(cls, entry: Mapping[str, Any]) -> None:
        """Raises ValueError if what a manifest says of a rule can be none."""
        if isinstance(entry["port"], bool) or not 1 <= entry["port"] <= 65535:
            raise ValueError("no port")
        if not re.fullmatch(r"[a-z0-9._-]+", entry["endpoint"]):
            raise ValueError("no endpoint")
        for peer in entry["peers"]:
            ipaddress.ip_address(str(peer))

    @classmethod
    def read(cls, items: Sequence["Rule"]) -> str:
        # what listens, also on ports that are no longer declared: its unit, else the program's name
        return (
            f"ss -Hltnp 2>/dev/null | sed -n {shlex.quote(_LISTENER)} | while read -r port pid name; do "
            f'{_UNIT}; echo "$port|$unit|$name"; done'
        )

    @classmethod
    def parse(cls, line: str, actual: Actual) -> None:
        port, unit, program = line.split("|", 2)
        actual.listeners.setdefault(int(port), set()).add(unit or program)
