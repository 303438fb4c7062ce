"""Compares a host that pyinfra provisioned with its twin that Ansible did."""

import json
import shlex
from pathlib import Path
from typing import Any

from exceptions import is_exception
from labs import Lab

from zmqfleet.fleet.addresses import addresses

# 15,000 files, which parity tests compare once, and no test after them changes
TOOLCHAINS = "/usr/local/lib/go"

_SNAPSHOT = Path(__file__).with_name("snapshot.py").read_text()


def snapshot(lab: Lab, host: str, *left_out: str) -> dict[str, dict[str, Any]]:
    """What a host is, without addresses and keys, and without some directories."""
    names = {address: name for name, one in lab.fleet.hosts.items() for address in addresses(one)}
    found: dict[str, dict[str, Any]] = json.loads(
        lab.sh(host, shlex.join(("python3", "-", json.dumps(names), *left_out)), _SNAPSHOT)
    )
    return found


def differences(pyinfra: Lab, ansible: Lab, host: str, *left_out: str) -> list[str]:
    """In what a host's twins differ, a line each, apart from the exceptions and some directories."""
    one, other = (snapshot(lab, host, *left_out) for lab in (pyinfra, ansible))
    return [
        f"{kind} {name}: pyinfra {one[kind].get(name)!r}, ansible {other[kind].get(name)!r}"
        for kind in one
        for name in sorted(one[kind].keys() | other[kind].keys())
        if one[kind].get(name) != other[kind].get(name) and not is_exception(f"{kind} {name}")
    ]
