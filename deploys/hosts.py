"""pyinfra's hosts: those of the inventory that Ansible reads, and what refuses a run on none of them."""

import sys
from fnmatch import fnmatch
from pathlib import Path
from socket import IPPROTO_TCP, TCP_USER_TIMEOUT
from typing import Any

import click
from pyinfra import state
from pyinfra.api.exceptions import PyinfraError

from zmqfleet import default_inventory, default_project
from zmqfleet.fleet import Fleet, FleetError, load
from zmqfleet.fleet.schema import nearest, options

_fleets: list[Fleet] = []
_CUT_OFF_SECONDS = 30


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
    if one.variables.get("ansible_user"):
        data["ssh_user"] = one.variables["ansible_user"]
    if one.ssh_key:
        data["ssh_key"] = one.ssh_key
    arguments = one.ssh_arguments
    if "-F" in arguments:
        data["ssh_config_file"] = arguments[arguments.index("-F") + 1]
    return data


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
                print(f"--{option} {pattern}: matches no host; {nearest(pattern, names)}", file=sys.stderr)
                sys.exit(2)


def refuse_data() -> None:
    """Raises PyinfraError if one of our variables was given with --data, which nobody else would see."""
    if ours := sorted(set(state.inventory.get_override_data()) & set(options())):
        raise PyinfraError(
            f"{', '.join(ours)}: given with --data, which Ansible and the probe would not see; set it in group_vars or "
            "host_vars"
        )
