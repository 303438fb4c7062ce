"""Compares a host that pyinfra provisioned with its twin that Ansible did, or what each has made of one host."""

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


def compared(pyinfra: dict[str, dict[str, Any]], ansible: dict[str, dict[str, Any]]) -> list[str]:
    """In what a host by one engine differs from that by the other, a line each, apart from the exceptions."""
    return [
        f"{kind} {name}: pyinfra {pyinfra[kind].get(name)!r}, ansible {ansible[kind].get(name)!r}"
        for kind in pyinfra
        for name in sorted(pyinfra[kind].keys() | ansible[kind].keys())
        if pyinfra[kind].get(name) != ansible[kind].get(name) and not is_exception(f"{kind} {name}")
    ]


def differences(pyinfra: Lab, ansible: Lab, host: str, *left_out: str) -> list[str]:
    """In what a host's twins differ, without some directories."""
    return compared(snapshot(pyinfra, host, *left_out), snapshot(ansible, host, *left_out))
