"""A lab and the engine that provisioned it."""

import json
import os
import shlex
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from zmqfleet.fleet import Fleet, load
from zmqfleet.fleet.view import addresses

ROOT = Path(__file__).resolve().parents[2]
SNAPSHOT = Path(__file__).with_name("snapshot.py").read_text()


@dataclass(frozen=True)
class Twin:
    """A lab, by the engine that provisioned it."""

    engine: str

    @property
    def inventory(self) -> Path:
        """Its inventory."""
        return ROOT / "inventories" / f"parity-{self.engine}"

    @cached_property
    def fleet(self) -> Fleet:
        """Its fleet."""
        return load(ROOT, self.inventory)

    def converge(self, engine: str, *options: str) -> str:
        """Runs an engine, which must succeed; gives its output."""
        environment = {**os.environ, "ZMQFLEET_PROJECT": str(ROOT), "ZMQFLEET_INVENTORY": str(self.inventory)}
        command = {
            "pyinfra": ["pyinfra", *(options or ["-y"]), "inventory", "deploy.py"],
            "ansible": ["ansible-playbook", "-i", str(self.inventory), *options, "site.yml"],
        }[engine]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout + done.stderr

    def run(self, host: str, command: str, stdin: str = "") -> str:
        """What a command prints on a host, run by root; it must succeed."""
        argv = self.fleet.hosts[host].ssh(f"sudo sh -c {shlex.quote(command)}")
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{host}: {command}: {done.stderr}"
        return done.stdout

    def snapshot(self, host: str) -> dict[str, dict[str, Any]]:
        """What a host is, without addresses and keys."""
        names = {address: name for name, one in self.fleet.hosts.items() for address in addresses(one)}
        found: dict[str, dict[str, Any]] = json.loads(
            self.run(host, f"python3 - {shlex.quote(json.dumps(names))}", SNAPSHOT)
        )
        return found
