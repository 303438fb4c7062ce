"""What the deploys share: the fleet, read once, and operations that place a view's resources."""

import functools
import hashlib
import io
import shlex
import sys
from collections.abc import Generator, Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import click
from pyinfra import host, logger, state
from pyinfra.api import (
    FactBase,
    FileUploadCommand,
    QuoteString,
    StringCommand,
    operation,
)
from pyinfra.operations import apt, server

from zmqfleet import default_inventory, default_project
from zmqfleet.fleet import Fleet, FleetError, View, load
from zmqfleet.fleet import view as derive_view
from zmqfleet.fleet.look import Found, command, declared, parse, todo
from zmqfleet.fleet.schema import nearest
from zmqfleet.fleet.view import NOLOGIN, File, Resources

# Uploads pass through this directory in the ssh user's home, which nobody else can enter: pyinfra's own way by /tmp
# is predictable and readable by all (pyinfra #1085).
_UPLOADS = ".zmqfleet-uploads"


@functools.cache
def fleet() -> Fleet:
    """The validated fleet; ends pyinfra with status 2 if it is wrong."""
    project = default_project()
    try:
        return load(project, default_inventory(project))
    except FleetError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def view() -> View:
    """The current host's view. Derived anew at each call: public keys become known during a run."""
    return derive_view(fleet(), host.name)


def pyinfra_groups() -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """The fleet's groups as pyinfra's inventory wants them."""
    found = fleet()
    hosts = {name: (name, _connection(name)) for name in found.hosts}
    return {group: [hosts[name] for name in members] for group, members in found.groups.items()}


def _connection(name: str) -> dict[str, Any]:
    one = fleet().hosts[name]
    data: dict[str, Any] = {"ssh_hostname": one.address, "ssh_port": one.ssh_port, "_sudo": one.become}
    if one.variables.get("ansible_user"):
        data["ssh_user"] = one.variables["ansible_user"]
    if one.ssh_key:
        data["ssh_key"] = one.ssh_key
    arguments = one.ssh_arguments
    if "-F" in arguments:
        data["ssh_config_file"] = arguments[arguments.index("-F") + 1]
    return data


def refuse_what_matches_no_host() -> None:
    """Ends pyinfra with status 2 if its inventory file is missing or a --limit or --exclude matches no host."""
    options = click.get_current_context().params
    given = options.get("inventory")
    if given == "inventory" and not Path(given).exists():
        print("pyinfra: no file 'inventory' here; run it in the project's root", file=sys.stderr)
        sys.exit(2)
    if given != "inventory" and Path(str(given)).name != "inventory":
        print(
            f"pyinfra: {given!r} is not this project's inventory; run `pyinfra inventory deploy.py`, and choose the "
            "hosts with ZMQFLEET_INVENTORY=inventories/… and --limit",
            file=sys.stderr,
        )
        sys.exit(2)
    names = [*fleet().groups, *fleet().hosts]
    for option in ("limit", "exclude"):
        for pattern in options.get(option) or ():
            if pattern not in fleet().groups and not any(fnmatch(name, pattern) for name in fleet().hosts):
                print(f"--{option} {pattern}: matches no host; {nearest(pattern, names)}", file=sys.stderr)
                sys.exit(2)


def resources(capability: str) -> Resources:
    """What a capability amounts to on the current host."""
    return view().capabilities[capability]


class Look(FactBase[Found]):
    """What the host has of its view."""

    default = Found

    def command(self, command: str) -> str:
        return command

    def process(self, output: list[str]) -> Found:
        return parse(output)


_found: dict[tuple[str, Any], Found] = {}


def _now() -> tuple[str, Any]:
    """The host and the stage: what was read for the forecast is not what a run goes by."""
    return host.name, state.current_stage


def found() -> Found:
    """What the current host has. Read once, and again after an operation that changed something there."""
    if _now() not in _found:
        _found[_now()] = host.get_fact(Look, command=command(fleet(), view()))
    return _found[_now()]


def touching(commands: Iterable[Any]) -> Iterator[Any]:
    """The commands of an operation; if there is one, what was read of the host holds no longer."""
    for one in commands:
        _found.pop(_now(), None)
        yield one
        _found.pop(_now(), None)


def missing(capability: str, kind: str) -> list[Any]:
    """The resources of a kind (`files`, …) that differ on the current host from what a capability declares."""
    part = resources(capability)
    names = todo(declared(part), found())[kind]
    return [one for one in getattr(part, kind) if getattr(one, "path", getattr(one, "name", one)) in names]


def fail(message: str) -> StringCommand:
    """A command that fails on this host only, with a message; an exception would end the whole run."""
    return StringCommand(f"echo {shlex.quote(message)} >&2; exit 1")


@operation()
def users(capability: str) -> Generator[StringCommand]:
    """The system users of a capability."""
    for user in missing(capability, "users"):
        yield from touching(
            server.user._inner(
                user=user.name,
                home=user.home,
                system=True,
                shell=NOLOGIN,
                create_home=False,
                ensure_home=False,
            )
        )


def install(names: list[str]) -> Iterator[StringCommand]:
    """Packages that are missing; the package lists are read again if they are older than a day."""
    if names:
        yield from touching(
            apt.packages._inner(packages=names, update=True, cache_time=86400, no_recommends=True)
        )


@operation()
def packages(capability: str) -> Generator[StringCommand]:
    """The packages of a capability."""
    yield from install(missing(capability, "packages"))


@operation()
def directories(capability: str) -> Generator[StringCommand]:
    """The directories of a capability; what an exact one holds beside the declared files goes."""
    yield from touching(_directories(capability))


def _directories(capability: str) -> Iterator[StringCommand]:
    prune = todo(declared(resources(capability)), found())["prune"]
    for one in missing(capability, "directories"):
        yield StringCommand("install", "-d", "-m", one.mode, "-o", one.owner, "-g", one.group, one.path)
    for path in prune:
        yield StringCommand("rm", "-rf", QuoteString(path))


@operation()
def files(capability: str) -> Generator[StringCommand | FileUploadCommand]:
    """The files of a capability that the controller has the content of, each replaced atomically."""
    yield from touching(_files(capability))


def _files(capability: str) -> Iterator[StringCommand | FileUploadCommand]:
    there = found().paths
    differ = missing(capability, "files")
    for one in resources(capability).files:
        if one.content is None and one.source is None:
            yield from _leave(one, there)
    for one in differ:
        yield from _place(one)


def _leave(one: File, there: dict[str, str]) -> Iterator[StringCommand]:
    """What is unknown here must not cut off a client that the host admits already."""
    if one.origin.startswith(("born", "build", "sources")):
        return
    logger.warning(
        f"{host.name}: {one.path} is left as it is: the {one.origin} is not known on this controller"
    )
    if not one.origin.startswith("public key") and one.path not in there:
        yield fail(
            f"{one.path}: needs public keys of hosts that no run has reached yet; converge those first"
        )


def _place(one: File) -> Iterator[StringCommand | FileUploadCommand]:
    if one.source is not None and not one.source.exists():
        yield fail(f"{one.source}: the artefact is not on the controller; see above why")
        return
    upload: Any = io.BytesIO((one.content or "").encode()) if one.source is None else str(one.source)
    through = f"{_UPLOADS}/{hashlib.sha256(one.path.encode()).hexdigest()[:16]}"
    # a hidden name: services read whole directories (an allow-list), and skip these
    new = Path(one.path).with_name(f".{Path(one.path).name}.new")
    yield StringCommand("mkdir", "-p", "-m", "700", _UPLOADS, _sudo=False)
    yield FileUploadCommand(upload, through, _sudo=False)
    yield StringCommand(
        f"install -m {one.mode} -o {one.owner} -g {one.group} -T {through} {new} && mv -fT {new} {one.path}"
        f" && rm -f {through}"
    )


@operation()
def links(capability: str) -> Generator[StringCommand]:
    """The symbolic links of a capability, each replaced atomically."""
    yield from touching(
        StringCommand(f"ln -sfnT {one.target} {one.path}.new && mv -fT {one.path}.new {one.path}")
        for one in missing(capability, "links")
    )


@operation()
def units(capability: str) -> Generator[StringCommand]:
    """The units of a capability: enabled, active, and running with what is on disk now."""
    yield from touching(_units(capability))


def _units(capability: str) -> Iterator[StringCommand]:
    states = found().units
    for unit in resources(capability).units:
        if states[unit.name]["reload"] == "yes":
            yield StringCommand("systemctl", "daemon-reload")
        if states[unit.name]["enabled"] != "enabled":
            yield StringCommand("systemctl", "enable", "--quiet", unit.name)
        if states[unit.name]["active"] != "active" or states[unit.name]["stale"] == "yes":
            # a start limit that was hit before is none now; a failure shows its cause
            yield StringCommand(
                f"systemctl reset-failed {unit.name} 2>/dev/null; systemctl restart {unit.name} && {unit.stays_up} || "
                f"{{ journalctl --no-pager -n 20 -u {unit.name} >&2; exit 1; }}"
            )
