"""A host's desired state as plain data, for people and programs."""

from typing import Any

from zmqfleet.capabilities.firewall import rules, ruleset
from zmqfleet.desired import parts
from zmqfleet.fleet.addresses import addresses
from zmqfleet.fleet.model import Fleet
from zmqfleet.probe import plan
from zmqfleet.resources import (
    Artefact,
    Content,
    Directory,
    File,
    Generations,
    Inline,
    Key,
    Link,
    Made,
    Package,
    Peers,
    Profile,
    Resource,
    Step,
    Unit,
    User,
)

_CELL = ("destination", "service", "endpoint", "socket", "mechanism", "credentials", "expected")


def view_of(fleet: Fleet, host: str, show_secrets: bool = False) -> dict[str, Any]:
    """What a host will be: resources by kind, ruleset, peers, expected probe cells; secrets are left out by default.

    Raises FleetError if there is no such host, or a peer's name has no address.
    """
    found = {(r.kind, r.name): r for part in parts(fleet, host) for r in part.resources}
    endpoints = [(service, endpoint) for service in fleet.services_of(host) for endpoint in service.endpoints]
    cells = [cell for cell in plan.cells(fleet, fleet.public_keys()) if cell.source == host]
    return {
        "host": host,
        **{
            many: [_plain(r, show_secrets) for r in found.values() if r.kind == kind]
            for kind, many in _KINDS.items()
        },
        "ruleset": ruleset(rules(fleet, host)) if fleet.services else "",
        "listening": [
            {"service": s.name, "endpoint": e.name, "socket": e.socket, "address": e.bind, "port": e.port}
            for s, e in endpoints
        ],
        "allowed": {
            f"{s.name}.{e.name}": [
                a for peer in fleet.allowed(s, e, host) for a in addresses(fleet.hosts[peer])
            ]
            for s, e in endpoints
        },
        "probe": [{key: getattr(cell, key) for key in _CELL} for cell in cells],
    }


_KINDS = {
    "package": "packages",
    "user": "users",
    "directory": "directories",
    "file": "files",
    "link": "links",
    "key": "keys",
    "step": "steps",
    "peers": "peers",
    "profile": "profiles",
    "unit": "units",
}


def _plain(resource: Resource, show_secrets: bool) -> Any:
    match resource:
        case User(name, home):
            return {"name": name, "home": home}
        case Directory(path, mode, owner, group, only):
            return {"path": path, "mode": mode, "owner": owner, "group": group, "exact": only is not None}
        case File(path, content, mode, owner, group):
            entry = {"path": path, "mode": mode, "owner": owner, "group": group}
            return {**entry, **_content(content, show_secrets)}
        case Link(path, target):
            return {"path": path, "target": target}
        case Key(name, directory):
            return {"name": name, "directory": directory}
        case Step(name):
            return {"name": name, "command": list(resource.command)}
        case Peers(name, networks):
            return {"unit": name, "networks": list(networks)}
        case Profile(name, file, mode):
            return {"name": name, "file": file, "mode": mode}
        case Unit(name):
            return {"name": name, "restarted_by": list(resource.restarted_by)}
        case Package() | Generations() | _:
            return resource.name


def _content(content: Content, show_secrets: bool) -> dict[str, str]:
    match content:
        case Inline(secret=True) if not show_secrets:
            return {"content": "(secret)"}
        case Inline(data):
            return (
                {"content": data.decode(errors="replace")}
                if b"\0" not in data
                else {"sha256": content.sha256}
            )
        case Artefact(path, sha256):
            return {"artefact": str(path), **({"sha256": sha256} if sha256 else {})}
        case Made():
            return {"made": "on the host"}
        case _:
            return {"pending": content.why}
