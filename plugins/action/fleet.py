"""Derives what the roles need from the fleet, on the controller: see plugins/modules/fleet.py."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.vars import load_extra_vars

_ROOT = Path(__file__).resolve().parents[2]
# The package of this very tree, so that its templates and defaults are those of the roles beside it.
if "zmqfleet" not in sys.modules and (_ROOT / "src").is_dir():
    sys.path.insert(0, str(_ROOT / "src"))

from zmqfleet.fleet import Fleet, FleetError, keys, load, view  # noqa: E402
from zmqfleet.fleet.look import command, declared  # noqa: E402
from zmqfleet.fleet.model import Service  # noqa: E402
from zmqfleet.fleet.schema import options  # noqa: E402
from zmqfleet.fleet.view import (  # noqa: E402
    Resources,
    Unit,
    golang_env,
    release,
    service_variables,
)


class ActionModule(ActionBase):
    """Loads the fleet once for all hosts, and keeps the public keys that hosts have shown."""

    _requires_connection = False
    _VALID_ARGS = frozenset({"public_keys"})

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """The data of all hosts; fails with FleetError's text if the variables are wrong."""
        result = super().run(tmp, task_vars)
        variables = task_vars or {}
        _refuse_free_strategies(self._task.get_play().strategy)
        _refuse_extra_variables(load_extra_vars(self._loader))
        try:
            inventory = _inventory(variables)
            fleet = load(_project(variables), inventory)
            _refuse_other_hosts(fleet, inventory, variables["groups"]["all"])
            changed, refused = self._keep(fleet, self._task.args.get("public_keys") or {})
            hosts = {name: _data(fleet, name, self._task.check_mode) for name in fleet.hosts}
        except FleetError as error:
            raise AnsibleActionFail(str(error)) from None
        # services' environments may hold secrets, which -v would print; a failure, above, is not hidden
        return {**result, "changed": changed, "refused": refused, "hosts": hosts, "_ansible_no_log": True}

    def _keep(self, fleet: Fleet, found: dict[str, dict[str, str]]) -> tuple[bool, dict[str, str]]:
        """Whether a key is new, and the hosts whose keys are refused, with the reason."""
        changed, refused = False, {}
        for host, shown in found.items():
            try:
                changed |= keys.store(fleet, host, shown, dry=self._task.check_mode)
            except FleetError as error:
                refused[host] = str(error)
        return changed, refused


def _refuse_free_strategies(strategy: str) -> None:
    if strategy.endswith(("free", "host_pinned")):
        raise AnsibleActionFail(
            f"strategy: {strategy}: the hosts of a fleet wait for each other's keys; use linear, and serial to take a "
            "few hosts at a time"
        )


def _refuse_extra_variables(extra: dict[str, Any]) -> None:
    if ours := sorted(set(extra) & set(options())):
        raise AnsibleActionFail(
            f"{', '.join(ours)}: given with --extra-vars, which pyinfra, the probe and the tests would not see; "
            "set it in group_vars or host_vars"
        )


def _project(variables: dict[str, Any]) -> Path:
    if given := os.environ.get("ZMQFLEET_PROJECT"):
        return Path(given).resolve()
    playbooks = Path(str(variables["playbook_dir"])).resolve()
    # zmqfleet.core.site lies in the installed collection: then the project is where it was called
    installed = "ansible_collections" in _ROOT.parts and playbooks.is_relative_to(_ROOT)
    return Path.cwd() if installed else playbooks


def _inventory(variables: dict[str, Any]) -> Path:
    """The fleet's inventory: Ansible's only source, else the one that ZMQFLEET_INVENTORY names among several."""
    sources = {Path(str(source)).resolve() for source in variables.get("ansible_inventory_sources") or []}
    chosen = os.environ.get("ZMQFLEET_INVENTORY")
    inventory = Path(chosen).resolve() if chosen else next(iter(sources), None)
    given = ", ".join(map(str, sorted(sources))) or "none"
    if inventory not in sources:
        raise AnsibleActionFail(
            f"ZMQFLEET_INVENTORY is {chosen}, but Ansible's inventory is {given}: give it the same with -i"
        )
    if len(sources) > 1 and not chosen:
        raise AnsibleActionFail(
            f"one inventory makes a fleet, but -i gives {given}: name that one in ZMQFLEET_INVENTORY"
        )
    return inventory


def _refuse_other_hosts(fleet: Fleet, inventory: Path, hosts: list[str]) -> None:
    if others := sorted(set(hosts) - set(fleet.hosts)):
        raise AnsibleActionFail(
            f"{', '.join(others)}: in a source of Ansible's other than {inventory}, the fleet's"
        )


def _data(fleet: Fleet, name: str, checking: bool) -> dict[str, Any]:
    """What the roles need on one host."""
    seen, host = view(fleet, name), fleet.hosts[name]
    builds = [service for service in fleet.services.values() if service.build]
    return {
        "capabilities": {key: _resources(part) for key, part in seen.capabilities.items()},
        "golang": {
            "version": host.variables["golang_version"],
            "arch": host.variables["golang_arch"],
            "bootstrap_packages": host.variables["golang_bootstrap_packages"],
            "env": golang_env(host.variables),
        },
        "ruleset": seen.ruleset,
        "builds": {s.name: _build(fleet, s, checking) for s in builds} if name == fleet.builder else {},
        "services": {s.name: _service(fleet, name, s) for s in fleet.services_of(name)},
        "keys": [identity.name for identity in fleet.identities(name)],
        "look": command(fleet, seen),
        "declared": {key: declared(part) for key, part in seen.capabilities.items()},
    }


def _resources(part: Resources) -> dict[str, Any]:
    return {
        "packages": part.packages,
        "users": [{"name": user.name, "home": user.home} for user in part.users],
        "directories": [
            {"path": one.path, "mode": f"0{one.mode}", "owner": one.owner, "group": one.group}
            for one in part.directories
        ],
        "links": [{"path": link.path, "target": link.target} for link in part.links],
    }


def _build(fleet: Fleet, service: Service, checking: bool) -> dict[str, Any]:
    wanted = release(fleet, service)
    archive = fleet.state / "sources" / Path(wanted.archive_on_builder).name
    if not archive.exists() and not checking:
        archive.parent.mkdir(parents=True, exist_ok=True)
        archive.write_bytes(wanted.archive or b"")
    return {
        "service": service.name,
        "id": wanted.id,
        "sources": wanted.sources,
        "package": wanted.package,
        "archive": str(archive),
        "archive_on_builder": wanted.archive_on_builder,
        "on_builder": wanted.on_builder,
        "artifact": str(wanted.artifact),
        "part": str(wanted.artifact.with_suffix(".part")),
        "fetched": wanted.artifact.exists(),
    }


def _service(fleet: Fleet, host: str, service: Service) -> dict[str, Any]:
    wanted = release(fleet, service)
    known = fleet.public_keys()
    clients = fleet.clients(service, host) if service.serves_curve else []
    variables = service_variables(fleet, host, service)
    peers = [peer for listed in variables["endpoints"]["connects"].values() for peer in listed]
    return {
        "variables": variables,
        "etc": service.etc,
        "artifact": str(wanted.artifact),
        "url": wanted.url,
        "sha256": service.artifact and service.artifact["sha256"],
        "built": wanted.artifact.exists(),
        "binary": wanted.on_host,
        "stays_up": Unit(f"{service.name}.service", (wanted.on_host,)).stays_up,
        "unknown_peers": sorted(
            {p["host"] for p in peers if p["security"] == "curve" and p["server_key"] is None}
        ),
        "clients": {
            f"{client.host}.{client.name}.key": known.get((client.host, client.name)) for client in clients
        },
        "serves_curve": service.serves_curve,
    }
