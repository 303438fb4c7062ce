"""pyinfra's hosts: those of the inventory that Ansible reads, and what refuses a run on none of them."""

import functools
import re
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from socket import IPPROTO_TCP, TCP_USER_TIMEOUT
from tempfile import TemporaryDirectory
from typing import Any

import click
from pyinfra import state
from pyinfra.api.exceptions import PyinfraError

from zmqfleet import default_inventory, default_project
from zmqfleet.fleet import Fleet, FleetError, load
from zmqfleet.fleet.schema import nearest, options

_fleets: list[Fleet] = []
_CUT_OFF_SECONDS = 30
_MOST = 16 * 1024 * 1024  # bytes of one command's output
_LINE = 200  # bytes that each of its lines takes here beside itself

ENDLESS = f"printed more than {_MOST // 1024**2} MiB: not read on"


def fleet() -> Fleet:
    """The validated fleet, read once; ends pyinfra with status 2 if it is wrong."""
    if not _fleets:
        project = default_project()
        try:
            _fleets.append(load(project, default_inventory(project), alone=True))
        except FleetError as error:
            print(error, file=sys.stderr)
            sys.exit(2)
    return _fleets[0]


def groups() -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """The fleet's groups as pyinfra's inventory wants them."""
    hosts = {name: (name, _connection(name)) for name in fleet().hosts}
    return {group: [hosts[name] for name in members] for group, members in fleet().groups.items()}


def _connection(name: str) -> dict[str, Any]:
    one = fleet().hosts[name]
    data: dict[str, Any] = {"ssh_hostname": one.address, "ssh_port": one.ssh_port, "_sudo": one.become}
    # as ssh does for the rest; pyinfra would take whatever key a host shows first
    data["ssh_strict_host_key_checking"] = "yes"
    if one.variables.get("ansible_user"):
        data["ssh_user"] = one.variables["ansible_user"]
    if one.ssh_key:
        data["ssh_key"] = one.ssh_key
    file, settings = one.ssh_settings
    if settings:
        data["ssh_config_file"] = f"{_ssh_config(file or '~/.ssh/config', *settings).name}/config"
    elif file:
        data["ssh_config_file"] = file
    return data


@functools.cache
def _ssh_config(file: str, *settings: tuple[str, str]) -> TemporaryDirectory[str]:
    """A directory, which goes when pyinfra ends, with a configuration of ssh that says first what are arguments
    elsewhere; they are not about the jump hosts on the way."""
    hops = [hop for keyword, value in settings if keyword.lower() == "proxyjump" for hop in value.split(",")]
    names = [re.sub(r"^(?:.*@)?\[?(.*?)\]?(?::\d+)?$", r"!\1", hop) for hop in hops]
    lines = [
        f"Host {' '.join(['*', *names])}",
        *(f"  {keyword} {value}" for keyword, value in settings),
        "Host *",
        f"  Include {Path(file).expanduser().absolute()}",
    ]
    made = TemporaryDirectory(prefix="zmqfleet-")
    (Path(made.name) / "config").write_text("\n".join(lines) + "\n")
    return made


def give_up_when_cut_off(host: Any) -> None:
    """Makes the connection of a host fail once nothing has come from there for a while; pyinfra would wait for ever.

    Not where a command is the way there (ProxyCommand), as in ssh's own configuration.
    """
    way: Any = host.connector.client.get_transport()
    while way is not None:  # from a jump host's to the first, whose way is the socket
        way.set_keepalive(_CUT_OFF_SECONDS // 3)
        socket = way.sock
        way = socket.get_transport() if hasattr(socket, "get_transport") else None
    if hasattr(socket, "setsockopt"):
        socket.setsockopt(IPPROTO_TCP, TCP_USER_TIMEOUT, _CUT_OFF_SECONDS * 1000)


def read_to_an_end(host: Any) -> None:
    """Makes commands on a host fail that print without end, with ENDLESS as their last line; pyinfra would read on."""
    execute = host.connector.client.exec_command

    def bounded(*arguments: Any, **options: Any) -> tuple[Any, Any, Any]:
        stdin, stdout, _ = execute(*arguments, **options)
        channel = stdout.channel
        return stdin, _Lines(channel, channel.makefile("rb")), _Lines(channel, channel.makefile_stderr("rb"))

    host.connector.client.exec_command = bounded


class _Lines:
    """The lines of one of a command's streams, as pyinfra reads them."""

    def __init__(self, channel: Any, stream: Any) -> None:
        self.channel = channel
        self._stream = stream

    def __iter__(self) -> Iterator[str]:
        left = _MOST
        while line := self._stream.readline(_MOST):
            left -= len(line) + _LINE
            if left < 0:
                self.channel.close()
                yield ENDLESS
                return
            yield line.decode(errors="replace")


def refuse_what_matches_no_host() -> None:
    """Ends pyinfra with status 2 if its inventory file is missing or a --limit or --exclude matches no host."""
    given_options = click.get_current_context().params
    given = given_options.get("inventory")
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
        for pattern in given_options.get(option) or ():
            if pattern not in fleet().groups and not any(fnmatch(name, pattern) for name in fleet().hosts):
                advice = f"say --{option} for each" if "," in pattern else nearest(pattern, names)
                print(f"--{option} {pattern}: matches no host; {advice}", file=sys.stderr)
                sys.exit(2)


def refuse_data() -> None:
    """Raises PyinfraError if one of our variables was given with --data, which nobody else would see."""
    if ours := sorted(set(state.inventory.get_override_data()) & set(options())):
        raise PyinfraError(
            f"{', '.join(ours)}: given with --data, which Ansible and the probe would not see; set it in group_vars or "
            "host_vars"
        )
