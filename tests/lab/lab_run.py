"""Commands on the tests' lab."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zmqfleet.lab.inventory import Paths
from zmqfleet.lab.podman import podman

ROOT = Path(__file__).parents[2]
NAME = "test"
INVENTORY = ROOT / "inventories" / NAME
PYINFRA = ("pyinfra", "-y", "inventory", "deploy.py")
ANSIBLE = ("ansible-playbook", "-i", str(INVENTORY), "site.yml")


def run(*command: str, check: bool = False, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command in the project's root, on the tests' lab."""
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "ZMQFLEET_INVENTORY": str(INVENTORY), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=check,
    )


@dataclass(frozen=True)
class Lab:
    """The tests' lab, with every service running."""

    first_run: subprocess.CompletedProcess[str]

    def ssh(self, host: str, command: str, check: bool = True) -> str:
        """What a command, run by root on a host, prints."""
        done = run("zmqfleet", "lab", "ssh", "--name", NAME, host, "sudo", "sh", "-c", f"'{command}'")
        if check and done.returncode != 0:
            raise AssertionError(f"{host}: {command}: {done.stderr}")
        return done.stdout

    @contextmanager
    def down(self, host: str) -> Iterator[None]:
        """A host that is switched off meanwhile."""
        podman("stop", "--time", "1", f"{Paths(ROOT, NAME).prefix}-{host}", check=True)
        try:
            yield
        finally:
            run("zmqfleet", "lab", "up", "--name", NAME, check=True)

    def probe(self) -> tuple[int, dict[str, Any]]:
        """The probe's exit status and its JSON."""
        done = run("zmqfleet", "probe", "--json", "-")
        return done.returncode, json.loads(done.stdout)


def changes(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines of a pyinfra run that report an operation with a change or an error."""
    table = (done.stdout + done.stderr).split("--> Results:")[-1].splitlines()
    rows = [line.rsplit(maxsplit=4) for line in table if line.startswith("    ")][1:]
    assert any(row[0].strip() == "Grand total" for row in rows), done.stderr
    return [" ".join(row) for row in rows if row[2:4] != ["-", "-"] and row[0].strip() != "Grand total"]
