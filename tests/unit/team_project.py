"""A project made from scratch: group_vars, an inventory and one Go module, nothing else."""

import copy
import functools
from pathlib import Path
from typing import Any

import yaml

from zmqfleet import inventory
from zmqfleet.fleet import Fleet, validate
from zmqfleet.fleet.model import service_from
from zmqfleet.inventory import Host

SERVICE = {
    "name": "quotes",
    "hosts": "brokers",
    "build": {"source": "src"},
    "endpoints": [
        {"name": "orders", "socket": "ROUTER", "port": 5555, "security": "curve", "allow": ["gateways"]},
        {"name": "ticks", "socket": "PUB", "port": 5556, "security": "curve", "allow": ["gateways"]},
        {
            "name": "health",
            "socket": "REP",
            "port": 5557,
            "security": "null",
            "allow": ["all"],
            "bind": "127.0.0.1",
        },
    ],
    "requires_env": ["REGION"],
    "env": {"REGION": "eu-1"},
    "limits": {"nofile": 4096},
}
CLIENT = {
    "name": "quotes-client",
    "hosts": "gateways",
    "build": {"source": "src"},
    "connects": ["quotes.orders", "quotes.ticks"],
    "endpoints": [
        {
            "name": "health",
            "socket": "REP",
            "port": 5567,
            "security": "null",
            "allow": ["all"],
            "bind": "127.0.0.1",
        }
    ],
}
HOSTS = {
    "builders": {"builder1": "192.0.2.1"},
    "brokers": {"broker1": "192.0.2.2", "broker2": "192.0.2.3"},
    "gateways": {"gateway1": "192.0.2.4"},
    "strangers": {"stranger1": "192.0.2.5"},
}
# the same, by host
GROUPS = {name: [group] for group, members in HOSTS.items() for name in members}


class Project:
    """A team's own repository."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.inventory = root / "inventories" / "production"
        self.variables = root / "group_vars" / "all.yml"
        self.hosts = self.inventory / "hosts.yml"
        self.inventory.mkdir(parents=True)
        self.variables.parent.mkdir()
        for package, clause in {".": "main", "cmd/serve": "main", "internal": "internal"}.items():
            (root / "src" / package).mkdir(parents=True, exist_ok=True)
            (root / "src" / package / "main.go").write_text(f"package {clause}\n\nfunc main() {{}}\n")
        (root / "src" / "go.mod").write_text("module example.com/src\n")
        (root / "src" / "linked").symlink_to("cmd/serve")
        groups = {
            group: {"hosts": {name: {"ansible_host": address} for name, address in members.items()}}
            for group, members in HOSTS.items()
        }
        self.hosts.write_text(yaml.safe_dump({"all": {"children": groups}}))
        self.write(zmq_services=[SERVICE, CLIENT])

    def write(self, **variables: object) -> None:
        self.variables.write_text(yaml.safe_dump(variables, sort_keys=False))

    @property
    def arguments(self) -> list[str]:
        return ["--project", str(self.root), "--inventory", str(self.inventory)]


_defaults = functools.cache(inventory.defaults)


def fleet_of(root: Path, groups: dict[str, list[str]], services: list[dict[str, Any]]) -> Fleet | list[str]:
    """The fleet of these hosts (by their groups) and services; or what is wrong with it, where it would be refused."""
    variables = {**_defaults(), "zmq_services": copy.deepcopy(services)}
    hosts = {
        name: Host(name, f"192.0.2.{number}", tuple(sorted({"all", *of})), variables)
        for number, (name, of) in enumerate(sorted(groups.items()), 1)
    }
    return compiled(root, hosts)


def compiled(root: Path, hosts: dict[str, Host]) -> Fleet | list[str]:
    """The fleet of these hosts, or what is wrong with it."""
    where = root / "inventories" / "production"
    if problems := validate.problems(hosts, root, where):
        return problems
    entries = next(iter(hosts.values())).variables["zmq_services"]
    return Fleet(root, where, hosts, {entry["name"]: service_from(entry) for entry in entries})
