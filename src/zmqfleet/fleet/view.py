"""A host's view: the list of its resources as data, derived from the fleet.

pyinfra's deploys place this list; Ansible's roles must amount to it; testinfra and `zmqfleet view` read it.
"""

import hashlib
import io
import ipaddress
import socket
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from zmqfleet import ROLES
from zmqfleet.fleet.model import BUILD, ETC, LIB, OPT, Endpoint, Fleet, FleetError, Identity, Service
from zmqfleet.inventory import Host
from zmqfleet.render import render

NOLOGIN = "/usr/sbin/nologin"
# seconds: longer than what dies of its configuration takes to, with RestartSec
_SETTLE = 3
_RESTARTING = 10


@dataclass(frozen=True)
class User:
    """A system user with a group of the same name and no login."""

    name: str
    home: str


@dataclass(frozen=True)
class Directory:
    """A directory; an `exact` one holds the declared files and nothing else."""

    path: str
    mode: str = "755"
    owner: str = "root"
    group: str = "root"
    exact: bool = False


@dataclass(frozen=True)
class File:
    """A file. Its content is `content`, or what `source`, a file of the controller, holds; both are None while it
    is not known yet (public keys of hosts that were never provisioned) or born on the host; `origin` says which."""

    path: str
    mode: str = "644"
    owner: str = "root"
    group: str = "root"
    content: str | None = None
    source: Path | None = None
    origin: str = "template"


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    path: str
    target: str


@dataclass(frozen=True)
class Unit:
    """A systemd unit, enabled and active; it is restarted if one of `restarted_by`, paths, is newer than its
    process. That follows from the host alone, so a run that was killed half-way is made good by the next."""

    name: str
    restarted_by: tuple[str, ...] = ()

    @property
    def look(self) -> str:
        """A shell command that prints, as key=value lines, whether the unit is `enabled`, `active`, must be loaded
        again (`reload`) and runs with what is `stale`. One that systemd started again just now is `restarting`: it
        may be down a second later."""
        started = f'date -d "$(systemctl show --timestamp=us+utc -P ExecMainStartTimestamp {self.name})"'
        stale = (
            f"stat -c %.9Z {' '.join(self.restarted_by)} 2>/dev/null | "
            f'awk -v run="$({started} +%s.%N)" \'$1 > run {{ stale = 1 }} END {{ print stale ? "yes" : "no" }}\''
            if self.restarted_by
            else "echo no"
        )
        restarting = (
            f'[ "$(systemctl show -P NRestarts {self.name})" -gt 0 ] && '
            f'[ "$(date -d "{_RESTARTING} seconds ago" +%s)" -lt "$({started} +%s)" ]'
        )
        return (
            f"echo enabled=$(systemctl is-enabled {self.name} 2>/dev/null); "
            f"echo active=$({restarting} && echo restarting || systemctl is-active {self.name}); "
            f"echo reload=$(systemctl show -P NeedDaemonReload {self.name}); echo stale=$({stale})"
        )

    @property
    def stays_up(self) -> str:
        """A shell command that fails if the unit, started just now, does not stay up; one without a process does."""
        if not self.restarted_by:
            return "true"
        run = f'"$(systemctl show -P InvocationID {self.name})"'
        return (
            f"{{ run={run}; sleep {_SETTLE}; systemctl is-active --quiet {self.name} && [ {run} = $run ] || "
            f"{{ echo {self.name} does not stay up: it was started and ended within {_SETTLE} s >&2; false; }}; }}"
        )


@dataclass
class Resources:
    """What one capability amounts to on one host."""

    packages: list[str] = field(default_factory=list)
    users: list[User] = field(default_factory=list)
    directories: list[Directory] = field(default_factory=list)
    files: list[File] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    units: list[Unit] = field(default_factory=list)


@dataclass(frozen=True)
class Release:
    """One release of a service: its id (of all inputs of the build, or of the artefact) and where the controller
    keeps the artefact; `archive` is the source archive to build it from and `package` the Go package in that, `url`
    where to get it from."""

    service: str
    id: str
    artifact: Path
    archive: bytes | None = None
    package: str = "."
    url: str | None = None

    @property
    def on_host(self) -> str:
        """Its binary on a host."""
        return f"{OPT}/{self.service}/releases/{self.id}/{self.service}"

    @property
    def on_builder(self) -> str:
        """Its binary on the build host."""
        return f"{BUILD}/artifacts/{self.service}/{self.id}/{self.service}"

    @property
    def sources(self) -> str:
        """The name of its source archive, of what is in it: services of one module share it."""
        return hashlib.sha256(self.archive or b"").hexdigest()[:16]

    @property
    def archive_on_builder(self) -> str:
        """Its source archive on the build host."""
        return f"{BUILD}/sources/{self.sources}.tar"


@dataclass(frozen=True)
class View:
    """All resources of one host, by capability in the order in which they are applied."""

    host: str
    capabilities: dict[str, Resources]
    ruleset: str
    listening: list[dict[str, Any]]
    allowed: dict[str, list[str]]

    def all(self, kind: str) -> list[Any]:
        """The resources of one kind (`packages`, `files`, …) over all capabilities, each once."""
        return list(
            dict.fromkeys(item for part in self.capabilities.values() for item in getattr(part, kind))
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for YAML and JSON."""
        kinds = ("packages", "users", "directories", "files", "links", "units")
        return {
            "host": self.host,
            **{kind: [_plain(item) for item in self.all(kind)] for kind in kinds},
            "ruleset": self.ruleset,
            "listening": self.listening,
            "allowed": self.allowed,
        }


def _plain(item: Any) -> Any:
    if isinstance(item, str):
        return item
    return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(item).items()
            if value is not None}  # fmt: skip


def view(fleet: Fleet, name: str) -> View:
    """The view of one host. Raises FleetError if there is no such host, or a peer's name has no address."""
    if name not in fleet.hosts:
        from zmqfleet.fleet.schema import nearest

        raise FleetError(f"{fleet.inventory}: no host {name!r}; {nearest(name, fleet.hosts)}")
    host = fleet.hosts[name]
    running = fleet.services_of(name)
    capabilities: dict[str, Resources] = {}
    if running or name == fleet.builder:
        capabilities["zeromq"] = _zeromq(fleet, host)
    if name == fleet.builder:
        capabilities["golang"] = _golang(host)
        capabilities["zmq_build"] = _zmq_build(fleet)
    capabilities["zmq_probe"] = _zmq_probe(host)
    capabilities["firewall"] = _firewall(fleet, name)
    for service in running:
        capabilities[f"zmq_service {service.name}"] = _zmq_service(fleet, name, service)
        if service.serves_curve:
            capabilities[f"zmq_clients {service.name}"] = _zmq_clients(fleet, name, service)
    pairs = [(service, endpoint) for service in running for endpoint in service.endpoints]
    return View(
        name,
        capabilities,
        ruleset(fleet, name),
        [
            {"service": s.name, "endpoint": e.name, "socket": e.socket, "address": e.bind, "port": e.port}
            for s, e in pairs
        ],
        {
            f"{s.name}.{e.name}": [
                a for peer in fleet.allowed(s, e, name) for a in addresses(fleet.hosts[peer])
            ]
            for s, e in pairs
        },
    )


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


def release(fleet: Fleet, service: Service) -> Release:
    """The release of a service that its variables and sources call for."""
    if service.artifact:
        digest = service.artifact["sha256"]
        if "url" in service.artifact:
            return Release(
                service.name, digest[:16], _stored(fleet, service, digest), url=service.artifact["url"]
            )
        return Release(service.name, digest[:16], fleet.project / service.artifact["path"])
    assert service.build  # validated
    assert fleet.builder
    archive = _archive(fleet.project / service.build["source"])
    package = service.build.get("package", ".")
    variables = fleet.hosts[fleet.builder].variables
    recipe = (ROLES / "zmq_build" / "files" / "zmq-build").read_bytes()
    inputs = [
        archive,
        package.encode(),
        recipe,
        str(variables["golang_version"]).encode(),
        str(golang_env(variables)).encode(),
    ]
    digest = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in inputs)).hexdigest()
    return Release(service.name, digest[:16], _stored(fleet, service, digest), archive, package)


def _stored(fleet: Fleet, service: Service, digest: str) -> Path:
    return fleet.state / "artifacts" / service.name / digest[:16] / service.name


def look_for_keys(names: list[str]) -> str:
    """A shell command that prints a host's public keys, as name|key lines; a key whose secret is missing, or not
    root's alone, does not count."""
    return (
        f"cd {ETC} 2>/dev/null && for name in {' '.join(names)}; do "
        'if [ -e "$name/curve.key_secret" ] && [ "$(stat -c %a%U "$name/curve.key_secret")" = 400root ]; then '
        'sed -n "s/.*public-key = \\"\\(.*\\)\\"/$name|\\1/p" "$name/curve.key" 2>/dev/null; fi; done; true'
    )


def _archive(source: Path) -> bytes:
    """A tar archive of a source directory that depends on nothing but names, contents and exec bits."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(source.rglob("*")):
            if path.is_file() and not any(part.startswith(".") for part in path.relative_to(source).parts):
                info = tarfile.TarInfo(str(path.relative_to(source)))
                info.size = path.stat().st_size
                info.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
                with path.open("rb") as file:
                    archive.addfile(info, file)
    return buffer.getvalue()


def golang_env(variables: dict[str, Any]) -> dict[str, str]:
    """The settings of go.env that the golang_ variables call for; empty ones leave Go's own default."""
    named = {
        "GOPROXY": variables["golang_proxy"],
        "GOSUMDB": variables["golang_sumdb"],
        "GONOSUMDB": variables["golang_nosumdb"],
        "GOPRIVATE": variables["golang_private"],
        **variables["golang_env"],
    }
    return {key: str(value) for key, value in named.items() if str(value) != ""}


def _zeromq(fleet: Fleet, host: Host) -> Resources:
    packages = list(host.variables["zeromq_packages"])
    if host.name == fleet.builder:
        packages += host.variables["zeromq_build_packages"]
    return Resources(packages=packages)


def _script(role: str, name: str) -> File:
    path = ROLES / role / "files" / name
    return File(f"{LIB}/{name}", "755", content=path.read_text(), origin=f"roles/{role}/files/{name}")


def _golang(host: Host) -> Resources:
    version = host.variables["golang_version"]
    settings = render("golang", "go.env.j2", {"_golang_env": golang_env(host.variables)})
    return Resources(
        directories=[Directory(LIB), Directory(ETC)],
        files=[File(f"{ETC}/go.env", content=settings), _script("golang", "golang-toolchain")],
        links=[
            Link("/usr/local/go", f"/usr/local/lib/go/{version}"),
            Link("/usr/local/bin/go", "/usr/local/go/bin/go"),
            Link("/usr/local/bin/gofmt", "/usr/local/go/bin/gofmt"),
        ],
    )


def _zmq_build(fleet: Fleet) -> Resources:
    releases = [release(fleet, service) for service in fleet.services.values() if service.build]
    return Resources(
        users=[User("zmq-build", BUILD)],
        directories=[
            Directory(BUILD, owner="zmq-build", group="zmq-build"),
            Directory(f"{BUILD}/sources"),
            Directory(f"{BUILD}/artifacts", owner="zmq-build", group="zmq-build"),
        ],
        files=[
            _script("zmq_build", "zmq-build"),
            *dict.fromkeys(File(r.archive_on_builder, origin="sources of builds") for r in releases),
            *(
                File(r.on_builder, "755", "zmq-build", "zmq-build", origin=f"build of {r.service}")
                for r in releases
            ),
        ],
    )


def _key_files(name: str) -> list[File]:
    origin = "born on the host"
    return [
        File(f"{ETC}/{name}/curve.key_secret", "400", origin=origin),
        File(f"{ETC}/{name}/curve.key", origin=origin),
    ]


def _zmq_probe(host: Host) -> Resources:
    return Resources(
        packages=list(host.variables["zmq_probe_packages"]),
        directories=[Directory(LIB), Directory(ETC), Directory(f"{ETC}/probe")],
        files=[_script("zmq_probe", "curve-keypair"), *_key_files("probe")],
    )


def _firewall(fleet: Fleet, host: str) -> Resources:
    return Resources(
        packages=["nftables"],
        directories=[Directory(ETC)],
        files=[
            File(
                f"{ETC}/firewall.nft",
                content=render("firewall", "firewall.nft.j2", {"_firewall_ruleset": ruleset(fleet, host)}),
            ),
            File(
                "/etc/systemd/system/zmqfleet-firewall.service",
                content=render("firewall", "zmqfleet-firewall.service.j2", {}),
            ),
        ],
        units=[Unit("zmqfleet-firewall.service")],
    )


def firewall_rules(fleet: Fleet, host: str) -> list[dict[str, Any]]:
    """For each endpoint of a host its port and the sets of peers' addresses that may reach it."""
    rules = []
    for service in fleet.services_of(host):
        for endpoint in service.endpoints:
            peers = [] if endpoint.loopback else fleet.allowed(service, endpoint, host)
            rules.append({"port": endpoint.port, "sets": list(_sets(fleet, service, endpoint, peers))})
    return rules


def _sets(fleet: Fleet, service: Service, endpoint: Endpoint, peers: list[str]) -> Iterator[dict[str, Any]]:
    found = {ipaddress.ip_address(address) for peer in peers for address in addresses(fleet.hosts[peer])}
    for version, family, kind in ((4, "ip", "ipv4_addr"), (6, "ip6", "ipv6_addr")):
        members = sorted((a for a in found if a.version == version), key=int)
        if members:
            name = f"{service.name}_{endpoint.name}_v{version}"
            yield {"name": name, "type": kind, "family": family, "addresses": [str(a) for a in members]}


def ruleset(fleet: Fleet, host: str) -> str:
    """The nftables table of a host, in the words in which `nft --stateless list table` prints it."""
    return render("firewall", "ruleset.j2", {"_firewall_rules": firewall_rules(fleet, host)})


def service_variables(fleet: Fleet, host: str, service: Service) -> dict[str, Any]:
    """What a service's templates get as _zmq_service; unknown public keys are None in it."""
    keys = fleet.public_keys()

    def peers(other: Service, endpoint: Endpoint) -> list[dict[str, Any]]:
        return [
            {
                "host": peer,
                "socket": endpoint.socket,
                "endpoint": endpoint.at(addresses(fleet.hosts[peer])[0]),
                "security": endpoint.security,
                **({"server_key": keys.get((peer, other.name))} if endpoint.curve else {}),
            }
            for peer in fleet.instances(other)
        ]

    return {
        "name": service.name,
        "env": service.env,
        "limits": service.limits,
        "has_key": fleet.has_key(service),
        "serves_curve": service.serves_curve,
        "endpoints": {
            "service": service.name,
            "host": host,
            "binds": {
                e.name: {"socket": e.socket, "endpoint": e.zmq, "security": e.security}
                for e in service.endpoints
            },
            "connects": {f"{s.name}.{e.name}": peers(s, e) for s, e in fleet.connects(service)},
        },
    }


def _zmq_service(fleet: Fleet, host: str, service: Service) -> Resources:
    name = service.name
    variables = {"_zmq_service": service_variables(fleet, host, service)}
    servers = [Identity(peer, other.name) for other, endpoint in fleet.connects(service) if endpoint.curve
               for peer in fleet.instances(other)]  # fmt: skip
    known = all(fleet.public_key_file(server).exists() for server in servers)
    new = release(fleet, service)
    secret = [f"{service.etc}/curve.key_secret"] if fleet.has_key(service) else []
    unit_file = f"/etc/systemd/system/{name}.service"
    restarted_by = (
        unit_file,
        f"{service.etc}/environment",
        f"{service.etc}/endpoints.json",
        f"{service.opt}/current",
        new.on_host,
        *secret,
    )
    return Resources(
        users=[User(name, f"{OPT}/{name}")],
        directories=[
            Directory(ETC),
            Directory(OPT),
            Directory(service.etc),
            Directory(service.opt),
            Directory(f"{service.opt}/releases"),
            Directory(f"{service.opt}/releases/{new.id}"),
        ],
        files=[
            *(_key_files(name) if fleet.has_key(service) else []),
            File(
                f"{service.etc}/environment",
                "640",
                content=render("zmq_service", "environment.j2", variables),
            ),
            File(
                f"{service.etc}/endpoints.json",
                content=render("zmq_service", "endpoints.json.j2", variables) if known else None,
                origin="template, with public keys of peers" if servers else "template",
            ),
            File(unit_file, content=render("zmq_service", "service.service.j2", variables)),
            File(new.on_host, "755", source=new.artifact, origin=f"release {new.id} of {name}"),
        ],
        links=[Link(f"{service.opt}/current", f"releases/{new.id}")],
        units=[Unit(f"{name}.service", restarted_by)],
    )


def _zmq_clients(fleet: Fleet, host: str, service: Service) -> Resources:
    """The ZAP allow-list: apart from the rest, since the service reads it again by itself."""
    keys = fleet.public_keys()
    files = []
    for client in fleet.clients(service, host):
        key = keys.get((client.host, client.name))
        files.append(
            File(
                f"{service.etc}/clients/{client.host}.{client.name}.key",
                content=key and render("zmq_service", "client.key.j2", {"_zmq_client": {"public_key": key}}),
                origin=f"public key of {client.name} on {client.host}",
            )
        )
    return Resources(directories=[Directory(f"{service.etc}/clients", exact=True)], files=files)
