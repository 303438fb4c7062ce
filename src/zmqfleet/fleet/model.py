"""The fleet as data: which service binds which endpoints on which hosts, and who may connect."""

import ipaddress
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

from zmqfleet.inventory import Host, groups_of

PROBE = "probe"  # name of the client key that every host has for the probe
ETC = "/etc/zmqfleet"
OPT = "/opt/zmqfleet"
LIB = "/usr/local/lib/zmqfleet"
BUILD = "/var/lib/zmqfleet"
BUILD_VARIABLES = {
    "golang_version",
    "golang_arch",
    "golang_env",
}  # what of the toolchain can end up in a binary


class FleetError(Exception):
    """The variables or the inventory are wrong; the message has one line a problem."""


# directives of a unit that have a command
COMMANDS = ("ExecCondition", "ExecReload", "ExecStartPost", "ExecStartPre", "ExecStop", "ExecStopPost")

_EVERYWHERE = ("*", "0.0.0.0", "::")
_SECRET_LENGTH = 8  # characters: shorter values of `env` are words such as `warning`
_PASSWORD = re.compile(r"(?<=://)[^/\s]+(?=@)")


def is_loopback(address: str) -> bool:
    """Whether this address is each host's own, so that what is bound to it can be reached from the same host only."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address.lower().rstrip(".") == "localhost"


@dataclass(frozen=True)
class Endpoint:
    """What a service binds: socket type, TCP port, mechanism (`curve` or `null`), allowed groups, address."""

    name: str
    socket: str
    port: int
    security: str
    allow: tuple[str, ...]
    bind: str = "*"

    @property
    def loopback(self) -> bool:
        """Whether only the host itself can reach it."""
        return is_loopback(self.bind)

    @property
    def curve(self) -> bool:
        """Whether its mechanism is CURVE."""
        return self.security == "curve"

    @property
    def own_address(self) -> str | None:
        """The one address that it is bound to; None if it is bound to all of its host's."""
        return None if self.bind in _EVERYWHERE else self.bind

    @property
    def zmq(self) -> str:
        """Where the service binds, in libzmq's notation."""
        return f"tcp://{_bracketed(self.bind)}:{self.port}"

    def at(self, address: str) -> str:
        """Where a peer connects, in libzmq's notation."""
        return f"tcp://{_bracketed(address)}:{self.port}"


@dataclass(frozen=True)
class Service:
    """One service of the fleet; see docs/variables.md for each field."""

    name: str
    hosts: str
    endpoints: tuple[Endpoint, ...]
    build: dict[str, Any] | None
    artifact: dict[str, str] | None
    connects: tuple[str, ...]
    requires_env: tuple[str, ...]
    egress: tuple[str, ...] = ()
    batch: int = 1
    type: str = "notify"
    start_timeout: int = 30  # seconds
    state: bool = False

    @property
    def etc(self) -> str:
        """Its configuration directory on a host."""
        return f"{ETC}/{self.name}"

    @property
    def opt(self) -> str:
        """Its directory of releases on a host."""
        return f"{OPT}/{self.name}"

    def program(self, release: str) -> str:
        """The binary of one of its releases on a host."""
        return f"{self.opt}/releases/{release}/{self.name}"

    @property
    def serves_curve(self) -> bool:
        """Whether it binds at least one CURVE endpoint."""
        return any(endpoint.curve for endpoint in self.endpoints)

    def endpoint(self, name: str) -> Endpoint:
        """Its endpoint of that name. Raises KeyError."""
        return {endpoint.name: endpoint for endpoint in self.endpoints}[name]


@dataclass(frozen=True)
class Instance:
    """What of a service may be another on each host that runs it; its fields are those of PER_HOST."""

    args: tuple[str, ...]
    credentials: dict[str, str]
    env: dict[str, str]
    files: dict[str, str]
    limits: dict[str, int]
    mac: str
    unit: dict[str, dict[str, str]]

    @property
    def secrets(self) -> Iterator[str]:
        """What no output may show: values of `env` and `credentials`, these also line by line."""
        yield from self.env.values()
        for value in self.credentials.values():
            yield value
            # -----BEGIN … is no secret
            yield from (line for line in value.splitlines() if not line.startswith("-----"))


PER_HOST = tuple(one.name for one in fields(Instance))


@dataclass(frozen=True)
class Identity:
    """A client's CURVE key: on which host, and whose (a service's, or the probe's)."""

    host: str
    name: str

    @property
    def secret_file(self) -> str:
        """The secret certificate on that host; it never leaves it."""
        return f"{ETC}/{self.name}/curve.key_secret"


class _PublicKeys(Mapping[tuple[str, str], str]):
    """What the files of a directory hold, each read when it is asked for, once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._read: dict[tuple[str, str], str | None] = {}

    def __getitem__(self, key: tuple[str, str]) -> str:
        if key not in self._read:
            path = self._directory / key[0] / f"{key[1]}.pub"
            self._read[key] = path.read_text().strip() if path.exists() else None
        if (found := self._read[key]) is None:
            raise KeyError(key)
        return found

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return ((path.parent.name, path.stem) for path in sorted(self._directory.glob("*/*.pub")))

    def __len__(self) -> int:
        return sum(1 for _ in self)


@dataclass(frozen=True)
class Fleet:
    """All hosts and services of one inventory. Made by zmqfleet.fleet.load, which validates."""

    project: Path
    inventory: Path
    hosts: dict[str, Host]
    services: dict[str, Service]
    _once: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` gives, made at the first call with this name and kept with the fleet."""
        if name not in self._once:
            self._once[name] = make()
        return self._once[name]

    @property
    def environment(self) -> str:
        """The inventory's name."""
        return self.inventory.name if self.inventory.is_dir() else self.inventory.parent.name

    @property
    def state(self) -> Path:
        """Where the controller keeps public keys and artefacts of this inventory."""
        return self.project / ".zmqfleet" / self.environment

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        """The hosts of every group, sorted."""
        return groups_of(self.hosts)

    def instance(self, host: str, service: Service) -> Instance:
        """A service as it is on one of its hosts."""
        entries = self.hosts[host].variables["zmq_services"]
        # hosts with equal values share one list
        found: dict[str, Instance] = self.once(
            f"instances {id(entries)}", lambda: {entry["name"]: instance_from(entry) for entry in entries}
        )
        return found[service.name]

    def members(self, group: str) -> list[str]:
        """The hosts of a group, sorted."""
        return self.groups.get(group, [])

    def instances(self, service: Service) -> list[str]:
        """The hosts that run a service, sorted."""
        return self.members(service.hosts)

    @cached_property
    def _running(self) -> dict[str, list[Service]]:
        running: dict[str, list[Service]] = {}
        for service in self.services.values():
            for host in self.instances(service):
                running.setdefault(host, []).append(service)
        return running

    def services_of(self, host: str) -> list[Service]:
        """The services that a host runs, in the order of zmq_services."""
        return self._running.get(host, [])

    @cached_property
    def builder(self) -> str | None:
        """The host that builds, if any service is built."""
        if not any(service.build for service in self.services.values()):
            return None
        variables = next(iter(self.hosts.values())).variables
        return self.members(variables["zmq_build_hosts"])[0]

    @cached_property
    def verifier(self) -> str | None:
        """The host that builds everything again, so that the builder alone is not believed, if there is one."""
        group = next(iter(self.hosts.values())).variables["zmq_build_verify"] if self.builder else ""
        return next((host for host in self.members(group) if host != self.builder), None)

    def builds(self, host: str) -> bool:
        """Whether services are built on a host."""
        return host in (self.builder, self.verifier)

    def allowed(self, service: Service, endpoint: Endpoint, instance: str) -> list[str]:
        """The hosts that may connect to an endpoint of one instance; a loopback one: that host only."""
        if endpoint.loopback:
            return [] if set(endpoint.allow).isdisjoint(self.hosts[instance].groups) else [instance]
        return self._members_of_any(endpoint.allow)

    def _members_of_any(self, groups: tuple[str, ...]) -> list[str]:
        """The hosts that are in any of some groups, found once for the same groups."""
        found: list[str] = self.once(
            f"members of {groups}", lambda: sorted({host for group in groups for host in self.members(group)})
        )
        return found

    def connects(self, service: Service) -> list[tuple[Service, Endpoint]]:
        """The endpoints to which a service connects."""
        pairs = (name.split(".", 1) for name in service.connects)
        return [(self.services[other], self.services[other].endpoint(name)) for other, name in pairs]

    def servers(self, host: str, service: Service) -> list[tuple[Service, Endpoint, list[str]]]:
        """The endpoints to which an instance of a service connects, and their hosts: of a loopback one
        that host itself, of its own service the others."""
        return [
            (
                other,
                endpoint,
                [
                    peer
                    for peer in self.instances(other)
                    if (peer == host if endpoint.loopback else (peer, other) != (host, service))
                ],
            )
            for other, endpoint in self.connects(service)
        ]

    def has_key(self, service: Service) -> bool:
        """Whether a service has a CURVE key: it serves or uses a CURVE endpoint."""
        return service.serves_curve or any(endpoint.curve for _, endpoint in self.connects(service))

    def identity(self, host: str, service: Service, endpoint: Endpoint) -> Identity:
        """The key with which a host connects to an endpoint: that of its own service which does, else the probe's."""
        return Identity(host, self._users(host, service, endpoint)[0])

    def _users(self, host: str, service: Service, endpoint: Endpoint) -> list[str]:
        """Whose keys a host uses at an endpoint: those of its services that connect there, else the probe's."""
        target = f"{service.name}.{endpoint.name}"
        return [own.name for own in self.services_of(host) if target in own.connects] or [PROBE]

    def clients(self, service: Service, instance: str) -> list[Identity]:
        """The client keys that one instance of a service admits (its ZAP allow-list).

        CZMQ's ZAP handler has one list a process, so it is the union over the service's CURVE endpoints; the
        firewall keeps hosts apart endpoint by endpoint.
        """
        admitted = {
            Identity(host, name)
            for endpoint in service.endpoints
            if endpoint.curve
            for host in self.allowed(service, endpoint, instance)
            for name in self._users(host, service, endpoint)
        }
        return sorted(admitted, key=lambda identity: (identity.host, identity.name))

    def identities(self, host: str) -> list[Identity]:
        """The CURVE keys that are born on a host."""
        names = [service.name for service in self.services_of(host) if self.has_key(service)]
        return [Identity(host, name) for name in (PROBE, *names)]

    def public_key_file(self, identity: Identity) -> Path:
        """Where the controller keeps an identity's public key (Z85)."""
        return self.state / "curve" / identity.host / f"{identity.name}.pub"

    def public_key(self, identity: Identity) -> str | None:
        """An identity's public key (Z85); None if the controller does not have it."""
        try:
            return self.public_key_file(identity).read_text().strip()
        except FileNotFoundError:
            return None

    @cached_property
    def turns(self) -> list[list[Service]]:
        """All services in the turns in which they are rolled out: those that others connect to first, else by name."""
        left = sorted(self.services.values(), key=lambda service: service.name)
        found: list[list[Service]] = []
        while left:
            names = {service.name for service in left}
            free = [s for s in left if not names & {other.name for other, _ in self.connects(s)} - {s.name}]
            # of services that connect to each other in a ring, one has to be the first
            found.append(free or left[:1])
            left = [service for service in left if service not in found[-1]]
        return found

    def in_start_order(self, services: Iterable[Service]) -> list[Service]:
        """Services in the order of their turns."""
        wanted = {service.name for service in services}
        return [service for turn in self.turns for service in turn if service.name in wanted]

    @cached_property
    def _secrets(self) -> list[str]:
        values = {
            value
            for service in self.services.values()
            for host in self.instances(service)
            for value in self.instance(host, service).secrets
        }
        for host in self.hosts.values():
            values.update(one["password"] for one in host.variables["golang_netrc"])
        # words that a message is about
        values -= {*self.hosts, *self.groups, *self.services}
        values -= {one for host in self.hosts.values() for one in (host.address, host.peer_address)}
        long = [one for one in values if len(one) >= _SECRET_LENGTH]
        # also as a log in JSON, or a URL, has them
        escaped = [json.dumps(one)[1:-1] for one in long]
        for sign in "<>&":
            escaped += [one.replace(sign, f"\\u{ord(sign):04x}") for one in escaped]
        return sorted({*long, *escaped, *(quote(one, safe="") for one in long)}, key=len, reverse=True)

    def masked(self, text: str) -> str:
        """What a host has printed, or a message that quotes it, as people and logs may see it: without values of `env`
        and `credentials`, passwords of netrc and in URLs."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return _PASSWORD.sub("***", text)

    def public_keys(self) -> Mapping[tuple[str, str], str]:
        """The public keys that the controller has, by host and name."""
        return _PublicKeys(self.state / "curve")


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def service_from(entry: dict[str, Any]) -> Service:
    """A service from its validated variables."""
    return Service(
        name=entry["name"],
        hosts=entry["hosts"],
        endpoints=tuple(
            Endpoint(e["name"], e["socket"], e["port"], e["security"], tuple(e["allow"]), e.get("bind", "*"))
            for e in entry.get("endpoints", [])
        ),
        build=entry.get("build"),
        artifact=entry.get("artifact"),
        connects=tuple(entry.get("connects", [])),
        requires_env=tuple(entry.get("requires_env", [])),
        egress=tuple(entry.get("egress", [])),
        batch=entry.get("rollout", {}).get("batch", 1),
        type=entry.get("type", "notify"),
        start_timeout=entry.get("start_timeout", 30),
        state=entry.get("state", False),
    )


def instance_from(entry: dict[str, Any]) -> Instance:
    """What is a host's own in the validated variables of a service."""
    limits = {"nofile": 65536, "tasks": 4096, **entry.get("limits", {})}
    return Instance(
        args=tuple(entry.get("args", [])),
        credentials=_texts(entry.get("credentials", {})),
        env=_texts(entry.get("env", {})),
        files=dict(entry.get("files", {})),
        limits={"max_sockets": min(1023, limits["nofile"]), **limits},
        mac=entry.get("mac", "enforce"),
        unit={section: _texts(directives) for section, directives in sorted(entry.get("unit", {}).items())},
    )


def _texts(values: dict[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in sorted(values.items())}


def without_others(services: Any, groups: Iterable[str]) -> Any:
    """zmq_services as it concerns a host in these groups: without what services that it does not run are elsewhere, or
    that name no group. What is no list of services stays as it is."""

    def runs(entry: Any) -> bool:
        group = entry.get("hosts") if isinstance(entry, dict) else "{"
        return isinstance(group, str) and ("{" in group or group in groups)

    if not isinstance(services, list) or all(map(runs, services)):
        return services
    return [
        entry if runs(entry) else {key: value for key, value in entry.items() if key not in PER_HOST}
        for entry in services
    ]
