"""Compares a host that pyinfra provisioned with its twin that Ansible did."""

import json
import shlex
from pathlib import Path
from typing import Any

from exceptions import is_exception
from labs import Lab

from zmqfleet.fleet.addresses import addresses

_SNAPSHOT = Path(__file__).with_name("snapshot.py").read_text()


def snapshot(lab: Lab, host: str) -> dict[str, dict[str, Any]]:
    """What a host is, without addresses and keys."""
    names = {address: name for name, one in lab.fleet.hosts.items() for address in addresses(one)}
    found: dict[str, dict[str, Any]] = json.loads(
        lab.sh(host, f"python3 - {shlex.quote(json.dumps(names))}", _SNAPSHOT)
    )
    return found


def differences(pyinfra: Lab, ansible: Lab, host: str) -> list[str]:
    """In what a host's twins differ, a line each, apart from the exceptions."""
    one, other = snapshot(pyinfra, host), snapshot(ansible, host)
    return [
        f"{kind} {name}: pyinfra {one[kind].get(name)!r}, ansible {other[kind].get(name)!r}"
        for kind in one
        for name in sorted(one[kind].keys() | other[kind].keys())
        if one[kind].get(name) != other[kind].get(name) and not is_exception(f"{kind} {name}")
    ]
