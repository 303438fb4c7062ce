"""ZeroMQ services: user, key, releases, allow-list, configuration, sandboxed unit."""

import ipaddress
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from zmqfleet.capabilities.part import CONFIGURE, INSTALL, RETIRE, START, Part, script
from zmqfleet.capabilities.zmq_probe import KEYPAIR
from zmqfleet.fleet.addresses import addresses
from zmqfleet.fleet.model import COMMANDS, ETC, LIB, OPT, Endpoint, Fleet, Identity, Instance, Service
from zmqfleet.inventory import TEMPLATE
from zmqfleet.releases import release
from zmqfleet.render import render
from zmqfleet.resources import (
    Artefact,
    Content,
    Directory,
    File,
    Generations,
    Inline,
    Key,
    Link,
    Package,
    Peers,
    Pending,
    Profile,
    Rule,
    Step,
    Unit,
    User,
)
from zmqfleet.resources.profile import ENABLED, PREFIX, literally

UNIT_START = f"{LIB}/unit-start"  # starts a unit and proves that it runs
# systemd ignores what it does not understand, and says so
_VERIFY = 'if systemd-analyze verify --man=no "$0" 2>&1 | grep -F "$1" >&2; then exit 1; fi'
_UNIT_GUARD = f"{LIB}/unit-guard"  # holds a unit to its peers


def parts(fleet: Fleet, host: str, leaving: Sequence[Rule]) -> Iterator[Part]:
    """Each service's of the host, those that others connect to first."""
    for service in fleet.in_start_order(fleet.services_of(host)):
        yield _install(fleet, host, service)
        if service.serves_curve:
            # whom it admits does not wait for its release
            yield Part("zmq_service", CONFIGURE, _clients(fleet, host, service), service.name)
        yield _configure(fleet, host, service)
        yield _start(fleet, host, service)
        keep = fleet.hosts[host].variables["zmq_service_releases_kept"]
        kept = Generations(f"{service.opt}/releases", keep, (release(fleet, service).id,), service.name)
        yield Part("zmq_service", RETIRE, (kept,), service.name)


def _install(fleet: Fleet, host: str, service: Service) -> Part:
    """What needs nothing of other hosts."""
    keys = [script("zmq_probe", KEYPAIR), _key(service)] if fleet.has_key(service) else []
    confined = fleet.instance(host, service).mac != "none"
    resources = (
        *([Package("apparmor", where=ENABLED)] if confined else []),
        User(service.name, service.opt),
        *(Directory(path) for path in (LIB, ETC, OPT, service.etc, service.opt, f"{service.opt}/releases")),
        script("fleet", "unit-start"),
        script("zmq_service", "unit-guard"),
        *keys,
    )
    return Part("zmq_service", INSTALL, resources, service.name)


def _configure(fleet: Fleet, host: str, service: Service) -> Part:
    """What others have built or shown, and disturbs no process that runs."""
    new = release(fleet, service)
    resources = (
        Directory(f"{service.opt}/releases/{new.id}", released=True),
        File(new.on_host, Artefact(new.artifact, new.sha256), "755", released=True),
        *(_verified(fleet, host, service) if fleet.instance(host, service).unit else ()),
    )
    return Part("zmq_service", CONFIGURE, resources, service.name)


def _verified(fleet: Fleet, host: str, service: Service) -> tuple[Directory, File, Step]:
    """A unit that a team has changed, as the host's systemd understands it, before it replaces the one that runs."""
    # the program may not be there yet
    variables = {**service_variables(fleet, host, service), "command": "/bin/true"}
    text = render("zmq_service", "service.service.j2", {"_zmq_service": variables})
    path = f"{service.etc}/unit/{service.name}.service"
    verify = ("sh", "-c", _VERIFY, path, f"{service.name}.service:")
    step = Step(f"unit of {service.name}, verified", shlex.join(verify), verify, after=(path,))
    return Directory(f"{service.etc}/unit"), File(path, Inline.text(text)), step


def _key(service: Service) -> Key:
    return Key(service.name, service.etc, f"{LIB}/{KEYPAIR}")


def _clients(fleet: Fleet, host: str, service: Service) -> tuple[Directory | File, ...]:
    """The ZAP allow-list: apart from the rest, since the service reads it again by itself. Of a host whose new key is
    not known, the old ones stay."""
    files = []
    for client in fleet.clients(service, host):
        key = fleet.public_key(client)
        text = key and render("zmq_service", "client.key.j2", {"_zmq_client": {"public_key": key}})
        path = f"{service.etc}/clients/{client.host}.{client.name}.key"
        files.append(
            File(path, Inline.text(text) if text else _unknown([client], blocks=False), released=True)
        )
    names = tuple(file.path.rpartition("/")[2] for file in files)
    spared = tuple(
        sorted(
            {
                rf"{re.escape(one.host)}\.[^.]*\.key"
                for one in fleet.clients(service, host)
                if not fleet.public_key(one)
            }
        )
    )
    return Directory(f"{service.etc}/clients", only=names, spared=spared), *files


def _unknown(whose: Sequence[Identity], blocks: bool = True) -> Pending:
    names = ", ".join(sorted({f"{one.name} on {one.host}" for one in whose}))
    return Pending(
        f"needs the public key of {names}, which no run has seen yet: it comes once that host is converged",
        blocks,
    )


def _start(fleet: Fleet, host: str, service: Service) -> Part:
    """What the process runs with: replaced together, proven, and put back where it does not run."""
    variables = {"_zmq_service": service_variables(fleet, host, service)}
    servers = [
        Identity(peer, other.name)
        for other, endpoint, peers in fleet.servers(host, service)
        if endpoint.curve
        for peer in peers
    ]
    unknown = [server for server in servers if fleet.public_key(server) is None]
    new = release(fleet, service)
    unit_name = f"{service.name}.service"
    kept = f"{service.etc}/.proven"
    own_directories, own_files = _own_files(fleet, host, service)
    profile_file, profile = _profile(fleet.instance(host, service), service, variables)
    endpoints: Content = (
        _unknown(unknown) if unknown else Inline.text(render("zmq_service", "endpoints.json.j2", variables))
    )
    placed = (
        File(
            f"{service.etc}/environment",
            Inline.text(render("zmq_service", "environment.j2", variables), secret=True),
            "640",
        ),
        File(f"{service.etc}/endpoints.json", endpoints),
        File(
            f"/etc/systemd/system/{unit_name}",
            Inline.text(render("zmq_service", "service.service.j2", variables)),
        ),
        *own_files,
        *profile_file,
        Link(f"{service.opt}/current", f"releases/{new.id}"),
    )
    paths = tuple(one.path for one in placed)
    peers_file, peers = _peers(fleet, host, service, unit_name)
    secret = (_key(service).secret_file,) if fleet.has_key(service) else ()
    ports = sorted(str(endpoint.port) for endpoint in service.endpoints)
    # what says READY has bound its sockets by then
    within = ("--within", str(service.start_timeout)) if service.type == "simple" else ()
    unit = Unit(
        unit_name,
        start=(UNIT_START, "--proven", kept, *within, unit_name, *ports),
        restarted_by=(*paths, new.on_host, *secret),
        program=new.on_host,
        user=service.name,
        unproven=kept,
        confined=profile[0].label if profile else "",
    )
    keep = Step(
        f"what {service.name} runs with, kept",
        ":",
        (UNIT_START, "--keep", kept, unit_name, *paths, peers_file.path),
        after=paths,
    )
    # a unit that starts sees to its profile and its peers by itself; they come last for one that does not
    resources = (keep, peers_file, *own_directories, *placed, unit, *profile, peers)
    return Part("zmq_service", START, resources, service.name)


def _profile(
    own: Instance, service: Service, variables: dict[str, Any]
) -> tuple[tuple[File, ...], tuple[Profile, ...]]:
    """What AppArmor lets the service do; in its own directory, so that nothing but its start loads it."""
    if own.mac == "none":
        return (), ()
    file = File(f"{service.etc}/apparmor", Inline.text(render("zmq_service", "apparmor.j2", variables)))
    return (file,), (Profile(f"{PREFIX}{service.name}", file.path, own.mac),)


def _own_files(fleet: Fleet, host: str, service: Service) -> tuple[list[Directory], list[File]]:
    """What a team gives its service beside the environment: its files and credentials, and their directories."""
    own, templates = fleet.instance(host, service), fleet.hosts[host].templates
    directories, files = [], []
    if own.files:
        directories.append(Directory(f"{service.etc}/files", "750", group=service.name))
    for name, path in sorted(own.files.items()):
        data = templates[path].encode() if path.endswith(TEMPLATE) else (fleet.project / path).read_bytes()
        files.append(
            File(f"{service.etc}/files/{name}", Inline(data, secret=True), "640", group=service.name)
        )
    if own.credentials:
        directories.append(Directory(f"{service.etc}/credentials", "700"))
    for name, value in sorted(own.credentials.items()):
        files.append(File(f"{service.etc}/credentials/{name}", Inline.text(value, secret=True), "600"))
    return directories, files


def _peers(fleet: Fleet, host: str, service: Service, unit: str) -> tuple[File, Peers]:
    """Whom the service may exchange packets with: its own host, those that may connect to one of its endpoints, those
    that it connects to, and its egress. The firewall, not this, tells its endpoints apart."""
    serving = [endpoint for endpoint in service.endpoints if not endpoint.loopback]
    hosts = {host, *(peer for endpoint in serving for peer in fleet.allowed(service, endpoint, host))}
    found = {endpoint.own_address for endpoint in serving if endpoint.own_address}
    for _, endpoint, servers in fleet.servers(host, service):
        if endpoint.own_address is None:
            hosts.update(servers)
        elif not endpoint.loopback:
            found.add(endpoint.own_address)
    found.update(address for peer in hosts for address in addresses(fleet.hosts[peer]))
    every = (ipaddress.ip_network(one) for one in found.union(service.egress))
    networks = [str(one) for one in sorted(every, key=lambda one: (one.version, one))]
    peers = File(f"{service.etc}/peers", Inline.text("".join(f"{one}\n" for one in networks)))
    return peers, Peers(unit, tuple(networks), (_UNIT_GUARD, unit, peers.path))


def service_variables(fleet: Fleet, host: str, service: Service) -> dict[str, Any]:
    """What a service's templates get as _zmq_service; unknown public keys are None in it."""

    def server(other: Service, endpoint: Endpoint, peer: str) -> dict[str, Any]:
        return {
            "host": peer,
            "socket": endpoint.socket,
            "endpoint": endpoint.at(endpoint.own_address or addresses(fleet.hosts[peer])[0]),
            "security": endpoint.security,
            **({"server_key": fleet.public_key(Identity(peer, other.name))} if endpoint.curve else {}),
        }

    own = fleet.instance(host, service)
    return {
        "name": service.name,
        # exec: as simple, but whether the program can be run at all is known
        "type": "exec" if service.type == "simple" else service.type,
        "start_timeout": service.start_timeout,
        "command": " ".join((f"{service.opt}/current/{service.name}", *map(_unit_word, own.args))),
        "state": service.state,
        "files": bool(own.files),
        "credentials": sorted(own.credentials),
        "unit": own.unit,
        "mac": own.mac,
        "mac_programs": [
            literally(command.split()[0].lstrip("@:|-"))
            for directive, command in own.unit.get("Service", {}).items()
            if directive in COMMANDS
        ],
        "mac_reads": _paths(own, "ReadOnlyPaths"),
        "mac_writes": _paths(own, "ReadWritePaths"),
        "env": own.env,
        "limits": own.limits,
        "has_key": fleet.has_key(service),
        "serves_curve": service.serves_curve,
        "endpoints": {
            "service": service.name,
            "host": host,
            "binds": {
                e.name: {"socket": e.socket, "endpoint": e.zmq, "security": e.security}
                for e in service.endpoints
            },
            "connects": {
                f"{other.name}.{endpoint.name}": [server(other, endpoint, peer) for peer in peers]
                for other, endpoint, peers in fleet.servers(host, service)
            },
        },
    }


def _paths(own: Instance, directive: str) -> list[str]:
    """The paths in a directive of a team's unit, as rules of AppArmor have them, with what is below; not those with
    systemd's specifiers."""
    with suppress(ValueError):  # quotes without an end are systemd's to refuse, by the host's own words
        words = [word.lstrip("-+") for word in shlex.split(own.unit.get("Service", {}).get(directive, ""))]
        paths = [word.rstrip("/") for word in words if word.startswith("/") and "%" not in word]
        return [literally(path, "{,/**}") if path else "/{,**}" for path in paths]
    return []


def _unit_word(text: str) -> str:
    """A word of a command in a unit, literally: see "Quoting" in systemd.syntax(7) and "Command lines" in
    systemd.service(5)."""
    for sign, escaped in (("\\", "\\\\"), ('"', '\\"'), ("$", "$$"), ("%", "%%")):
        text = text.replace(sign, escaped)
    return f'"{text}"'
