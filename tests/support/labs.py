"""The tests' labs, and runs on them: each engine tells what it changes in the same words, which tests compare."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from zmqfleet.fleet import Fleet, load
from zmqfleet.lab.inventory import Paths
from zmqfleet.lab.podman import podman
from zmqfleet.resources import KINDS

ROOT = Path(__file__).parents[2]
ENGINES = ("pyinfra", "ansible")
FORECAST = {"pyinfra": "--dry", "ansible": "--check"}

Changes = set[tuple[str, str]]  # host, and the change in words

_OF_PYINFRA = re.compile(
    rf"^ +\[(\S+)\] +((?:{'|'.join(kind.kind for kind in KINDS)}) .+: .+)$", re.MULTILINE
)
_OF_ANSIBLE = re.compile(r"^changed: \[(\S+)\] => (?=\{)", re.MULTILINE)


@dataclass(frozen=True)
class Run:
    """A command that has ended."""

    command: tuple[str, ...]
    status: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        """All that it said."""
        return self.stdout + self.stderr

    @property
    def changes(self) -> Changes:
        """What a run of an engine changed, or would change."""
        if self.command[0] == "pyinfra":
            return set(_OF_PYINFRA.findall(self.output))
        found = _OF_ANSIBLE.finditer(self.stdout)
        results = [(one[1], json.JSONDecoder().raw_decode(self.stdout, one.end())[0]) for one in found]
        return {(host, change) for host, result in results for change in result["changes"]}

    def must_succeed(self) -> "Run":
        """Itself, unless it failed."""
        assert self.status == 0, f"{shlex.join(self.command)}: {self.status}\n{self.output}"
        return self


def run(*command: str, cwd: Path = ROOT, **environment: str) -> Run:
    """A command in the project's root, with nothing to read from."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return Run(command, done.returncode, done.stdout, done.stderr)


def command(
    engine: str, inventory: Path, *options: str, playbook: Path | str = "site.yml"
) -> tuple[str, ...]:
    """What starts a run of an engine."""
    if engine == "pyinfra":
        yes = [] if "--dry" in options else ["-y"]
        return ("pyinfra", *yes, *options, "inventory", "deploy.py")
    return ("ansible-playbook", "-i", str(inventory), *options, str(playbook))


@dataclass(frozen=True)
class Lab:
    """A lab of the tests' own; its hosts are given the variables of `project`, by commands that are run in `cwd`."""

    name: str
    project: Path = ROOT
    cwd: Path = ROOT
    first: Run | None = None  # the run that provisioned it from blank

    @property
    def inventory(self) -> Path:
        """Its inventory."""
        return ROOT / "inventories" / self.name

    @property
    def state(self) -> Path:
        """What the controller keeps for it."""
        return self.project / ".zmqfleet" / self.name

    @cached_property
    def fleet(self) -> Fleet:
        """Its fleet."""
        return load(self.project, self.inventory)

    def of(self, project: Path) -> "Lab":
        """The same hosts, with the variables of another project, and the playbook and deploy of this one."""
        return Lab(self.name, project)

    def at(self, project: Path) -> "Lab":
        """The same hosts, as a team has them that works in a repository of its own."""
        for name in ("ansible.cfg", "config.py", "deploy.py", "inventory", "site.yml"):
            shutil.copy(ROOT / name, project)
        (project / "ansible_collections").symlink_to(ROOT / "ansible_collections")
        return Lab(self.name, project, project)

    @property
    def about(self) -> dict[str, str]:
        """The environment that makes a command be about this lab."""
        return {"ZMQFLEET_PROJECT": str(self.project), "ZMQFLEET_INVENTORY": str(self.inventory)}

    def run(self, *command: str, cwd: Path | None = None, **environment: str) -> Run:
        """A command that is about this lab."""
        return run(*command, cwd=cwd or self.cwd, **{**self.about, **environment})

    def engine(self, engine: str, *options: str, playbook: Path | str = "site.yml") -> Run:
        """A run of an engine, however it ends."""
        return self.run(*command(engine, self.inventory, *options, playbook=playbook))

    def begin(self, engine: str) -> "subprocess.Popen[bytes]":
        """A run of an engine that goes on by itself, in a session of its own, unheard."""
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(
            command(engine, self.inventory),
            cwd=self.cwd,
            env={**os.environ, **self.about},
            start_new_session=True,
            **quiet,
        )

    def converge(self, engine: str, *options: str) -> Changes:
        """What a run of an engine, which must succeed, has changed."""
        return self.engine(engine, *options).must_succeed().changes

    def forecast(self, engine: str, *options: str) -> Changes:
        """What an engine says that it would change."""
        return self.converge(engine, FORECAST[engine], *options)

    def drift(self) -> Changes:
        """What `zmqfleet drift` finds, which must be able to tell of all hosts."""
        done = self.run("zmqfleet", "drift", "--json")
        report = json.loads(done.stdout)
        assert report["unknown"] == {}
        found = {(host, change) for host, changes in report["changes"].items() for change in changes}
        assert done.status == (1 if found else 0)
        return found

    def sh(self, host: str, command: str, stdin: str = "", check: bool = True) -> str:
        """What a shell command prints on a host, run by root; it must succeed, unless `check` is false."""
        argv = self.fleet.hosts[host].ssh(f"sudo sh -c {shlex.quote(command)}")
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
        assert done.returncode == 0 or not check, f"{host}: {command}: {done.stderr}"
        return done.stdout

    def inside(self, host: str, command: str) -> None:
        """A shell command on a host that cannot be reached by ssh, run by root."""
        podman("exec", f"{Paths(ROOT, self.name).prefix}-{host}", "sh", "-c", command, check=True)

    def started(self) -> dict[str, str]:
        """When each unit of ours was started, by host."""
        show = "systemctl show -p Id -p ActiveEnterTimestampMonotonic -p MainPID 'quotes*' zmqfleet-firewall"
        return {host: self.sh(host, show) for host in self.fleet.hosts}

    def probe(self, *options: str) -> tuple[int, dict[str, Any]]:
        """The probe's exit status and its JSON."""
        done = self.run("zmqfleet", "probe", "--json", "-", *options)
        return done.status, json.loads(done.stdout)

    @contextmanager
    def down(self, host: str) -> Iterator[None]:
        """A host that is switched off meanwhile."""
        podman("stop", "--time", "1", f"{Paths(ROOT, self.name).prefix}-{host}", check=True)
        try:
            yield
        finally:
            options = ("--name", self.name, "--hosts", str(len(self.fleet.hosts)))
            run("zmqfleet", "lab", "up", *options).must_succeed()


@contextmanager
def blank(name: str, hosts: int, *more: str) -> Iterator[Lab]:
    """A lab of blank hosts, made with these options, that goes at the end; progress goes to the terminal."""
    options = ["--name", name]
    try:
        up = ["zmqfleet", "lab", "up", *options, "--hosts", str(hosts), *more]
        subprocess.run(up, cwd=ROOT, check=True, stdout=sys.stderr)
        yield Lab(name)
    finally:
        subprocess.run(["zmqfleet", "lab", "down", *options], cwd=ROOT, check=True, stdout=sys.stderr)


@contextmanager
def provisioned(name: str, engine: str, hosts: int, *more: str) -> Iterator[Lab]:
    """A lab, provisioned by an engine from blank."""
    with blank(name, hosts, *more) as lab:
        yield replace(lab, first=lab.engine(engine).must_succeed())


def playbook(path: Path, *before: dict[str, Any], **keywords: Any) -> Path:
    """A team's own playbook, at a path: plays, then site.yml's play of the roles, with keywords of its own."""
    (play,) = (
        one for one in yaml.safe_load((ROOT / "playbooks" / "site.yml").read_text()) if one["hosts"] == "all"
    )
    path.write_text(yaml.safe_dump([*before, {**play, **keywords}]))
    return path


def variables() -> dict[str, Any]:
    """The variables of this project's fleet, to be changed."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "group_vars" / "all.yml").read_text())
    return found


def _examples() -> list[list[dict[str, Any]]]:
    blocks = (ROOT / "examples" / "pipeline" / "README.md").read_text().split("```yaml\n")[1:]
    return [yaml.safe_load(block.partition("```")[0])["zmq_services"] for block in blocks]


def pipeline() -> list[dict[str, Any]]:
    """The services feeder and worker, as the example's README declares them, to be changed."""
    return _examples()[0]


def hub() -> list[dict[str, Any]]:
    """The services hub and presence, likewise."""
    return _examples()[1]


def project(path: Path, declared: dict[str, Any] | None = None) -> Path:
    """A new project at a path, with these variables, or this project's, and sources of its own, the examples."""
    (path / "group_vars").mkdir(parents=True)
    (path / "group_vars" / "all.yml").write_text(
        yaml.safe_dump(variables() if declared is None else declared)
    )
    shutil.copytree(ROOT / "examples", path / "examples")
    return path
