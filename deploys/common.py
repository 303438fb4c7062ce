"""What the deploys share: the fleet, read once, and operations that place a view's resources."""

import functools
import hashlib
import io
import shlex
import sys
from collections.abc import Generator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import click
from pyinfra import host, logger
from pyinfra.api import (
    FactBase,
    FileUploadCommand,
    QuoteString,
    StringCommand,
    operation,
)
from pyinfra.facts.deb import DebPackages
from pyinfra.operations import apt, server

from zmqfleet import default_inventory, default_project
from zmqfleet.fleet import Fleet, FleetError, View, load
from zmqfleet.fleet import view as derive_view
from zmqfleet.fleet.schema import nearest
from zmqfleet.fleet.view import File, Resources

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


@dataclass
class Found:
    """What is on a host: kind, mode, owner and group of paths; digests of files; targets of links; names in
    directories that must hold nothing else."""

    stat: dict[str, tuple[str, str, str, str]] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)
    target: dict[str, str] = field(default_factory=dict)
    inside: dict[str, list[str]] = field(default_factory=dict)


class Managed(FactBase[Found]):
    """All resources of a capability that are paths, in one command."""

    default = Found

    def command(self, directories: list[str], files: list[str], links: list[str], exact: list[str]) -> str:
        # the view's paths hold no character that a shell would take for more than itself
        parts = [
            f"stat -c '%n|%F|%a|%U|%G' {' '.join(directories + files)} 2>/dev/null",
            "echo --",
            f"sha256sum {' '.join(files)} 2>/dev/null" if files else ":",
            "echo --",
            *(f"printf '%s|%s\\n' {link} \"$(readlink {link})\"" for link in links),
            "echo --",
            f"find {' '.join(exact)} -mindepth 1 -maxdepth 1 2>/dev/null" if exact else ":",
            "true",
        ]
        return "; ".join(parts)

    def process(self, output: list[str]) -> Found:
        found = Found()
        stage = 0
        for line in output:
            if line == "--":
                stage += 1
            elif stage == 0:
                path, kind, mode, owner, group = line.split("|")
                found.stat[path] = (kind, mode, owner, group)
            elif stage == 1:
                digest, path = line.split(maxsplit=1)
                found.sha256[path] = digest
            elif stage == 2:
                path, target = line.split("|")
                found.target[path] = target
            else:
                found.inside.setdefault(str(Path(line).parent), []).append(line)
        return found


def fail(message: str) -> StringCommand:
    """A command that fails on this host only, with a message; an exception would end the whole run."""
    return StringCommand(f"echo {shlex.quote(message)} >&2; exit 1")


def _look(part: Resources) -> Found:
    return host.get_fact(
        Managed,
        directories=[d.path for d in part.directories],
        files=[f.path for f in part.files],
        links=[link.path for link in part.links],
        exact=[d.path for d in part.directories if d.exact],
    )


@operation()
def users(capability: str) -> Generator[StringCommand]:
    """The system users of a capability."""
    for user in resources(capability).users:
        yield from server.user._inner(
            user=user.name,
            home=user.home,
            system=True,
            shell="/usr/sbin/nologin",
            create_home=False,
            ensure_home=False,
        )


@operation()
def packages(capability: str) -> Generator[StringCommand]:
    """The packages of a capability; the package lists are read again only if something is missing."""
    installed = host.get_fact(DebPackages)
    missing = [name for name in resources(capability).packages if name not in installed]
    if missing:
        yield from apt.packages._inner(packages=missing, update=True, cache_time=86400, no_recommends=True)


@operation()
def directories(capability: str) -> Generator[StringCommand]:
    """The directories of a capability; what an exact one holds beside the declared files goes."""
    part = resources(capability)
    found = _look(part)
    declared = {file.path for file in part.files}
    for one in part.directories:
        if found.stat.get(one.path) != ("directory", one.mode, one.owner, one.group):
            yield StringCommand("install", "-d", "-m", one.mode, "-o", one.owner, "-g", one.group, one.path)
        for path in found.inside.get(one.path, []) if one.exact else []:
            if path not in declared:
                yield StringCommand("rm", "-rf", QuoteString(path))


@operation()
def files(capability: str) -> Generator[StringCommand | FileUploadCommand]:
    """The files of a capability that the controller has the content of, each replaced atomically."""
    part = resources(capability)
    found = _look(part)
    for one in part.files:
        yield from _place(one, found)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _place(one: File, found: Found) -> Generator[StringCommand | FileUploadCommand]:
    if one.content is None and one.source is None:
        if one.origin.startswith(("born", "build", "sources")):
            return
        # Left as it is: what is unknown here must not cut off a client that the host admits already.
        logger.warning(
            f"{host.name}: {one.path} is left as it is: the {one.origin} is not known on this controller"
        )
        if not one.origin.startswith("public key") and one.path not in found.stat:
            yield fail(
                f"{one.path}: needs public keys of hosts that no run has reached yet; converge those first"
            )
        return
    # the regular-empty kind has a name of its own in stat
    same_meta = found.stat.get(one.path, ("",))[1:] == (one.mode, one.owner, one.group)
    if one.source is not None:
        if same_meta and (not one.source.exists() or found.sha256.get(one.path) == _sha256(one.source)):
            return
        if not one.source.exists():
            yield fail(f"{one.source}: the artefact is not on the controller; see why the build failed")
            return
        upload: Any = str(one.source)
    else:
        data = (one.content or "").encode()
        if same_meta and found.sha256.get(one.path) == hashlib.sha256(data).hexdigest():
            return
        upload = io.BytesIO(data)
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
    part = resources(capability)
    found = _look(part)
    for one in part.links:
        if found.target.get(one.path) != one.target:
            yield StringCommand(f"ln -sfnT {one.target} {one.path}.new && mv -fT {one.path}.new {one.path}")


class UnitState(FactBase[dict[str, str]]):
    """What `Unit.look` prints."""

    default = dict

    def command(self, look: str) -> str:
        return look

    def process(self, output: list[str]) -> dict[str, str]:
        return dict(line.split("=", 1) for line in output)


@operation()
def units(capability: str) -> Generator[StringCommand]:
    """The units of a capability: enabled, active, and running with what is on disk now."""
    for unit in resources(capability).units:
        found = host.get_fact(UnitState, look=unit.look)
        if found["reload"] == "yes":
            yield StringCommand("systemctl", "daemon-reload")
        if found["enabled"] != "enabled":
            yield StringCommand("systemctl", "enable", "--quiet", unit.name)
        if found["active"] != "active" or found["stale"] == "yes":
            # a start limit that was hit before is none now; a failure shows its cause
            yield StringCommand(
                f"systemctl reset-failed {unit.name} 2>/dev/null; systemctl restart {unit.name} || "
                f"{{ journalctl --no-pager -n 20 -u {unit.name} >&2; exit 1; }}"
            )
