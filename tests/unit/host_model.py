"""A model of a host, in memory, and an engine that drives runs against it: what each action is known to bring about.

It stands for the order, the manifest and the comparison of runs. That real hosts do what it says is for tests/lab.
"""

import functools
import hashlib
import json
import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest

from zmqfleet import converge, desired, locking, releases
from zmqfleet.capabilities import CONFIGURE, INSTALL, ORDER
from zmqfleet.capabilities.firewall import RULESET, TABLE
from zmqfleet.capabilities.firewall import UNIT as FIREWALL
from zmqfleet.converge import (
    Action,
    Actions,
    Answer,
    Ask,
    Attempt,
    Execute,
    Failure,
    HostError,
    HostRun,
    Install,
    Put,
    Say,
    Warn,
    outset,
)
from zmqfleet.fleet import Fleet
from zmqfleet.releases import release
from zmqfleet.resources import (
    Actual,
    Artefact,
    Directory,
    Entry,
    File,
    Inline,
    Key,
    Link,
    Package,
    Step,
    Table,
    Unit,
    User,
)
from zmqfleet.resources.profile import Denial

MANIFEST = desired.MANIFEST
HOLDER = locking.Holder("machine", 1, "1", "me@here")


class Cut(Exception):
    """The run was killed."""


class Failed(Exception):
    """A command failed on the host."""


@dataclass(frozen=True)
class Node:
    """What is at a path."""

    kind: str
    mode: str = "755"
    owner: str = "root"
    group: str = "root"
    changed: float = 0
    data: bytes = b""  # a link's: its target


@dataclass
class Process:
    """A unit that is active."""

    started: float
    exe: str = ""
    ports: tuple[int, ...] = ()
    label: str = ""  # AppArmor's, where the host has that


@dataclass
class ModelHost:
    """Packages, users, paths, units and processes of one host."""

    name: str
    clock: float = 1795269000.0
    keys: int = 0
    packages: set[str] = field(default_factory=set)
    users: dict[str, str] = field(default_factory=dict)
    paths: dict[str, Node] = field(default_factory=lambda: {p: Node("directory") for p in _SYSTEM})
    done: set[tuple[str, ...]] = field(default_factory=set)  # tools whose traces are of no interest
    table: str = ""
    filters: set[tuple[str, str, str]] = field(default_factory=set)  # others' firewalls
    profiles: dict[str, str] | None = None  # AppArmor's, and their modes; a host with none has no AppArmor
    unloadable: set[str] = field(default_factory=set)  # units whose profiles its AppArmor does not understand
    denials: list[Denial] = field(default_factory=list)
    enabled: set[str] = field(default_factory=set)
    loaded: dict[str, bytes] = field(default_factory=dict)  # unit files as systemd has read them
    processes: dict[str, Process] = field(default_factory=dict)
    peers: dict[str, list[str]] = field(default_factory=dict)  # of units
    broken: set[str] = field(default_factory=set)  # programs, by path, that do not run
    deaf: set[str] = field(default_factory=set)  # programs that run, and do not listen
    locked: bool = False
    wrong: set[str] = field(default_factory=set)  # services that do not compile
    kept: dict[str, dict[str, Node]] = field(default_factory=dict)
    yielded: dict[str, list[str]] = field(default_factory=dict)

    # --- what is read

    def actual(self, fleet: Fleet) -> Actual:
        """What the read command of a fleet would print of it."""
        wanted = [resource for part in desired.parts(fleet, self.name) for resource in part.resources]
        names = {one.path for one in wanted if isinstance(one, Directory | File | Link)}
        names |= {one.unproven for one in wanted if isinstance(one, Unit)}
        names |= {p for one in wanted if isinstance(one, Key) for p in (one.secret_file, one.public_file)}
        exact = {one.path for one in wanted if isinstance(one, Directory) and one.only is not None}
        seen = {
            path: node
            for path, node in self.paths.items()
            if path in names or posixpath.dirname(path) in exact
        }
        users = {one.name for one in wanted if isinstance(one, User)} & set(self.users)
        found = Actual("12", set(self.packages), {name: self.users[name] for name in users})
        found.filters = set(self.filters)
        found.profiles = None if self.profiles is None else dict(self.profiles)
        found.denials = list(self.denials)
        if self.profiles is None:
            found.packages |= {one.name for one in wanted if isinstance(one, Package) and one.where}
        for path, node in seen.items():
            found.paths[path] = Entry(node.kind, node.mode, node.owner, node.group, node.changed)
            if node.kind == "symbolic link":
                found.links[path] = node.data.decode()
            elif node.kind == "regular file":
                found.sha256[path] = hashlib.sha256(node.data).hexdigest()
        for one in wanted:
            if isinstance(one, Key):
                secret, public = self.paths.get(one.secret_file), self.paths.get(one.public_file)
                if secret and public and (secret.mode, secret.owner, secret.group) == ("400", "root", "root"):
                    found.keys[one.name] = public.data.decode()
            elif isinstance(one, Step) and self._holds(one):
                found.steps.add(one.name)
            elif isinstance(one, Table) and self.table:
                found.tables[one.name] = hashlib.sha256("".join(self.table.split()).encode()).hexdigest()
            elif isinstance(one, Unit):
                found.units[one.name] = self._properties(one.name)
            elif one.kind == "generations":
                inside = [(n.changed, p) for p, n in self.paths.items() if posixpath.dirname(p) == one.path]
                newest = sorted(inside, reverse=True)
                found.generations[one.path] = {posixpath.basename(path): 0.0 for _, path in newest}
        found.peers = {name: list(networks) for name, networks in self.peers.items()}
        for unit, one in self.processes.items():
            for port in one.ports:
                found.listeners.setdefault(port, set()).add(unit)
        if MANIFEST in self.paths:
            found.manifest = [json.loads(line) for line in self.paths[MANIFEST].data.splitlines()]
        return found

    def _holds(self, step: Step) -> bool:
        if step.check == ":":
            return True
        if not step.command:
            return set(step.after) <= self.packages
        if step.name.startswith("build of "):
            return step.check.split()[2] in self.paths
        return step.command in self.done

    def _properties(self, name: str) -> dict[str, str]:
        process = self.processes.get(name)
        file = self.paths.get(f"/etc/systemd/system/{name}")
        started = process.started if process else 0
        return {
            "Id": name,
            "LoadState": "loaded" if file or name in self.loaded else "not-found",
            "FragmentPath": f"/etc/systemd/system/{name}" if file or name in self.loaded else "",
            "UnitFileState": "enabled" if name in self.enabled else "disabled",
            "ActiveState": "active" if process else "inactive",
            "NeedDaemonReload": "yes" if file and self.loaded.get(name, file.data) != file.data else "no",
            "NRestarts": "0",
            # what goes before a program takes time
            "InactiveExitTimestamp": _timestamp(started - 5) if process else "",
            "ExecMainStartTimestamp": _timestamp(started) if process else "",
            "now": str(self.clock),
            **(
                {"exe": process.exe, "user": name.removesuffix(".service")} if process and process.exe else {}
            ),
            **({"label": process.label} if process and process.label else {}),
        }

    def manifest(self) -> list[tuple[str, str]]:
        """Kind and name of its entries, in order."""
        lines = self.paths[MANIFEST].data.splitlines() if MANIFEST in self.paths else []
        return [(entry["kind"], entry["name"]) for entry in map(json.loads, lines)]

    # --- what is done

    def do(self, fleet: Fleet, action: Action) -> Answer | None:
        """Brings about what an action does. Raises Failed."""
        self.clock += 1
        match action:
            case Ask(command) if command == locking.release(HOLDER):
                self.locked = False
            case Ask(command) if command.startswith("exec 9>>"):
                before, self.locked = self.locked, True
                return Answer(True, locking.RENEWED if before else "", "")
            case Ask(command):
                return Answer(True, self.name if "== zmqfleet" in command else "", "")
            case Install(packages):
                self.packages |= set(packages)
            case Put(file):
                self._put(file.path, "regular file", _data(fleet, file), file.mode, file.owner, file.group)
            case Execute(command):
                self._execute(fleet, command)
            case Attempt(command):
                try:
                    self._execute(fleet, command)
                except Failed as error:
                    return Answer(False, "", str(error))
                return Answer(True, "", "")
            case Say() | Warn():
                pass
        return None

    def _put(self, path: str, kind: str, data: bytes, mode: str, owner: str, group: str) -> None:
        parent = posixpath.dirname(path)
        if self.paths.get(parent, Node("")).kind != "directory":
            raise Failed(f"{path}: there is no directory {parent}")
        for name in {owner, group} - {"root"}:
            if name not in self.users:
                raise Failed(f"{path}: there is no user {name}")
        self.paths[path] = Node(kind, mode, owner, group, self.clock, data)

    def _touch(self, path: str, **how: str) -> None:
        if path not in self.paths:
            raise Failed(f"{path}: is not there")
        self.paths[path] = replace(self.paths[path], **how, changed=self.clock)  # type: ignore[arg-type]

    def _remove(self, path: str) -> None:
        self.paths = {p: n for p, n in self.paths.items() if p != path and not p.startswith(f"{path}/")}

    def _execute(self, fleet: Fleet, command: tuple[str, ...]) -> None:
        match command:
            case ("rm", "-rf" | "-f", "--", *paths):
                for path in paths:
                    self._remove(path)
            case ("useradd", *_, "--home-dir", home, "--no-create-home", "--shell", shell, user):
                self.users[user] = f"{home}:{shell}:{user}"
            case ("usermod", "--gid", group, "--groups", "", "--home", home, "--shell", shell, user):
                self.users[user] = f"{home}:{shell}:{group}"
            case ("install", "-d", "-m", mode, "-o", owner, "-g", group, path):
                self._put(path, "directory", b"", mode, owner, group)
            case ("ln", "-sfnT", target, path):
                self._put(path, "symbolic link", target.encode(), "777", "root", "root")
            case ("mv", "-fT", path, other):
                self.paths[other] = self.paths.pop(path)
            case ("chown", owner, *paths):
                for path in paths:
                    self._touch(path, owner=owner.split(":")[0], group=owner.split(":")[1])
            case ("chmod", mode, *paths):
                for path in paths:
                    self._touch(path, mode=mode)
            case ("systemctl", "daemon-reload"):
                self._reload()
            case ("systemctl", "start", unit):
                self._start_again(unit)
            case ("systemctl", "--quiet", "enable", unit):
                self.enabled.add(unit)
            case ("nft", "-f", path):
                self._load(path)
            case ("sh", "-c", script, unit) if unit.endswith(".service"):
                if 'disable "$0"' in script:
                    self.enabled.discard(unit)
                if 'stop "$0"' in script:
                    self.processes.pop(unit, None)
                if "/run/systemd/system.control/$0.d" in script:
                    self.peers.pop(unit, None)
            case ("sh", "-c", script, name) if "/apparmor/.remove" in script:
                (self.profiles or {}).pop(name, None)
                for process in self.processes.values():
                    if process.label.startswith(f"{name} "):
                        process.label = "unconfined"
            case ("sh", "-c", script, table) if "nft delete table" in script:
                assert table == TABLE
                self.table = ""
            case ("sh", "-c", script, path) if "rmdir" in script:
                if not any(posixpath.dirname(one) == path for one in self.paths):
                    self._remove(path)
            case ("sh", "-c", script, user) if "userdel" in script:
                self.users.pop(user, None)
            case ("sh", "-c", script) if script.startswith(
                ("find /etc/zmqfleet ", "for _ in 1 2 3 4 5 6; do set --")
            ):
                pass  # files are replaced at once here, so nothing is left of a run that was cut off
            case ("sh", "-c", _, _cause):
                pass  # a condition, which holds
            case (tool, directory) if tool.endswith("/curve-keypair"):
                self._program(tool)
                if f"{directory}/curve.key_secret" not in self.paths:
                    self.keys += 1
                    key = f"{self.name}-{self.keys}-".ljust(40, "k").encode()
                    self._put(f"{directory}/curve.key_secret", "regular file", key, "400", "root", "root")
                    self._put(f"{directory}/curve.key", "regular file", key, "644", "root", "root")
            case (tool, service, number, archive, _package, *_) if tool.endswith("/zmq-build"):
                self._program(tool)
                needed = (f"/var/lib/zmqfleet/{name}" for name in (f"sources/{archive}.tar", "caches"))
                if not self.paths.keys() >= set(needed) or "zmq-build" not in self.users:
                    raise Failed(f"{service}: no sources, no user, or no directory of its own")
                if service in self.wrong:
                    raise Failed("main.go:3: syntax error")
                where = f"/var/lib/zmqfleet/artifacts/{service}/{number}"
                self._put(where, "directory", b"", "755", "root", "root")
                self._put(f"{where}/{service}", "regular file", number.encode(), "755", "root", "root")
            case (tool, "--yield", unit, *others):
                self._program(tool)
                self.yielded[unit] = [
                    one for one in others if one in self.processes or one in self.yielded.get(unit, ())
                ]
                for other in others:
                    self.processes.pop(other, None)
            case (tool, "--keep", kept, unit, *paths):
                self._program(tool)
                if kept not in self.paths and unit in self.processes:
                    self.kept[kept] = {path: self.paths[path] for path in paths if path in self.paths}
                    self._put(kept, "directory", b"", "700", "root", "root")
            case (tool, "--proven", kept, "--within", _, unit, *ports) | (
                tool,
                "--proven",
                kept,
                unit,
                *ports,
            ):
                self._program(tool)
                self._unit_start(unit, ports, kept)
            case (tool, unit, path) if tool.endswith("/unit-guard"):
                self._guard(tool, unit, path)
            case (tool, unit) if tool.endswith("/unit-start"):
                self._program(tool)
                self._unit_start(unit, (), "")
            case (tool, *_) if tool.endswith("/golang-toolchain"):
                self._program(tool)
                self.done.add(command)
            case _:
                raise AssertionError(f"the model does not know what this does: {command}")

    def _program(self, path: str) -> None:
        if path not in self.paths or self.paths[path].mode != "755":
            raise Failed(f"{path}: cannot be run")

    def _load(self, path: str) -> None:
        if path not in self.paths:
            raise Failed(f"{path}: is not there")
        self.table = self.paths[path].data.decode().partition("\ndelete table inet zmqfleet\n")[2]

    def _reload(self) -> None:
        prefix = "/etc/systemd/system/"
        self.loaded = {p.removeprefix(prefix): n.data for p, n in self.paths.items() if p.startswith(prefix)}

    def _unit_start(self, unit: str, ports: tuple[str, ...] | list[str], kept: str) -> None:
        self._reload()
        if unit not in self.loaded:
            raise Failed(f"{unit}: has no file")
        self.enabled.add(unit)
        if kept and kept not in self.paths:
            self.kept[kept] = {}
            self._put(kept, "directory", b"", "700", "root", "root")
        if self._start(unit, tuple(map(int, ports))):
            if kept:
                self._remove(kept)
            self.yielded.pop(unit, None)
            return
        if self.kept.get(kept):
            for path, node in self.kept[kept].items():
                data = node.data
                if path.endswith("/endpoints.json"):
                    before, now = json.loads(data), json.loads(self.paths[path].data)
                    data = json.dumps(
                        {**before, "connects": {**before["connects"], **now["connects"]}}
                    ).encode()
                elif path.endswith("/peers"):
                    both = {*data.split(), *self.paths[path].data.split()}
                    data = b"".join(b"%s\n" % line for line in sorted(both))
                self.paths[path] = replace(node, data=data, changed=self.clock)
            self.clock += 1
            self._reload()
            before = json.loads(self.paths[posixpath.dirname(kept) + "/endpoints.json"].data)["binds"]
            if self._start(unit, tuple(_port(one["endpoint"]) for one in before.values())):
                self._remove(kept)
        elif unit in self.yielded:
            self.processes.pop(unit, None)
        for other in self.yielded.pop(unit, ()):
            self._start_again(other)
        raise Failed(f"{unit}: does not stay up")

    def _start_again(self, unit: str) -> None:
        text = self.paths[f"/etc/zmqfleet/{unit.removesuffix('.service')}/endpoints.json"].data
        self._start(unit, tuple(_port(one["endpoint"]) for one in json.loads(text)["binds"].values()))

    def _start(self, unit: str, ports: tuple[int, ...]) -> bool:
        """A process of what is on the host now; one that ran before is gone."""
        self.processes.pop(unit, None)
        self.clock += 1
        text = self.loaded[unit].decode()
        if unit == FIREWALL:
            self._load(RULESET)
            self.processes[unit] = Process(self.clock)
            return True
        options = dict(line.split("=", 1) for line in text.splitlines() if re.match(r"\w+=", line))
        tool, _, path = options["ExecStartPre"].removeprefix("+").split()
        if unit in self.unloadable and "AppArmorProfile" in options and self.profiles is not None:
            return False
        self._guard(tool, unit, path)
        needed = [options["EnvironmentFile"], *re.findall(r"LoadCredential=[^:]*:(.*)", text)]
        needed += re.findall(r"Environment=ZMQFLEET_\w+=(/.*)", text)
        exe = self._resolve(options["ExecStart"].split(' "')[0])
        profile, label = options.get("AppArmorProfile"), ""
        if self.profiles is not None:
            if profile and profile not in self.profiles:
                return False
            label = f"{profile} ({self.profiles[profile]})" if profile else "unconfined"
        taken = {port for process in self.processes.values() for port in process.ports}
        if (
            not set(needed) <= set(self.paths)
            or exe not in self.paths
            or self.paths[exe].mode != "755"
            or options["User"] not in self.users
            or exe in self.broken
            or taken & set(ports)
        ):
            return False
        self.processes[unit] = Process(self.clock, exe, () if exe in self.deaf else ports, label)
        return exe not in self.deaf

    def _confine(self, path: str) -> None:
        text = self.paths[path].data.decode()
        assert self.profiles is not None
        assert "apparmor" in self.packages
        found = re.search(r"^profile (\S+) flags=\(attach_disconnected(,complain)?\) \{$", text, re.MULTILINE)
        assert found
        self.profiles[found[1]] = "complain" if found[2] else "enforce"

    def _guard(self, tool: str, unit: str, path: str) -> None:
        self._program(tool)
        self._load(RULESET)
        if self.profiles is not None and b"\nAppArmorProfile=" in self.loaded.get(unit, b""):
            self._confine(posixpath.join(posixpath.dirname(path), "apparmor"))
        self.peers[unit] = ["127.0.0.0/8", "::1/128", *self.paths[path].data.decode().split()]

    def _resolve(self, path: str) -> str:
        directory, name = posixpath.split(path)
        link = self.paths.get(directory)
        if link and link.kind == "symbolic link":
            directory = posixpath.join(posixpath.dirname(directory), link.data.decode())
        return posixpath.join(directory, name)

    def open_to(self, port: int) -> set[str]:
        """The addresses that the table lets through to a port."""
        if f"tcp dport {port} counter reject" not in self.table:
            return {"everybody"}
        names = re.findall(rf"tcp dport {port} ip saddr @(\S+) accept", self.table)
        sets = dict(re.findall(r"set (\S+) \{.*?elements = \{ (.*?) \}", self.table, re.DOTALL))
        return {address for name in names for address in sets[name].split(", ")}

    def unprotected(self) -> list[int]:
        """Ports of processes for which the table has no rule."""
        ports = [port for process in self.processes.values() for port in process.ports]
        return [port for port in ports if f"tcp dport {port} counter reject" not in self.table]


_SYSTEM = (
    "/", "/etc", "/etc/systemd", "/etc/systemd/system", "/opt", "/usr", "/usr/local", "/usr/local/bin",
    "/usr/local/lib", "/var", "/var/lib",
)  # fmt: skip


def _data(fleet: Fleet, file: File) -> bytes:
    content = file.content
    if isinstance(content, Inline):
        return content.data
    assert isinstance(content, Artefact), "only what the controller has is placed"
    if content.path.exists():
        return content.path.read_bytes()
    every = (release(fleet, service) for service in fleet.services.values())
    return next(one.id for one in every if one.artifact == content.path).encode()


def _port(endpoint: str) -> int:
    return int(endpoint.rpartition(":")[2])


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%a %Y-%m-%d %H:%M:%S.%f UTC")


@dataclass
class Engine:
    """Does a whole run on model hosts as engines do: phase by phase, all hosts through one before the next. `check` is
    called after each action; after `cut` actions the run is killed."""

    hosts: dict[str, ModelHost]
    check: Callable[[ModelHost], None] = lambda _: None
    cut: int | None = None
    actions: int = 0  # which change something
    said: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)

    def run(self, fleet: Fleet) -> dict[str, HostRun]:
        """Converges all hosts; what goes wrong on one is in `errors`. Raises Cut."""
        runs = self.read(fleet)
        if not outset(runs.values()).todo:
            return runs
        for phase in self.phases(fleet):
            for run in runs.values():
                if run.host not in self.errors:
                    self.follow(run, phase(run))
        return runs

    @staticmethod
    def phases(fleet: Fleet) -> list[Callable[[HostRun], Actions]]:
        """What engines do after reading, in order."""

        def placing(phase: str) -> list[Callable[[HostRun], Actions]]:
            return [functools.partial(HostRun.place, capability=name, phase=phase) for name in ORDER]

        return [
            *placing(INSTALL),
            HostRun.look_again,
            *placing(CONFIGURE),
            functools.partial(HostRun.start, rolled=False),
            *(functools.partial(HostRun.start, rolled=True, turn=turn) for turn in range(len(fleet.turns))),
            HostRun.settle,
            HostRun.retire,
            HostRun.finish,
        ]

    def read(self, fleet: Fleet) -> dict[str, HostRun]:
        """Reads all hosts, then plans each with what the others have shown."""
        failed: dict[str, Failure] = {}
        runs = {name: HostRun(fleet, name, HOLDER, failed, is_whole=True) for name in fleet.hosts}
        for look in (lambda run: run.read(), lambda run: run.look_again()):
            for run in runs.values():
                if run.host not in self.errors:
                    self.follow(run, look(run))
        return {name: run for name, run in runs.items() if name not in self.errors}

    def follow(self, run: HostRun, actions: Actions) -> None:
        """Does what is next on a host until there is nothing, or something goes wrong."""
        host = self.hosts[run.host]
        answer: Answer | None = None
        try:
            while True:
                action = actions.send(answer)
                if not isinstance(action, Ask | Say | Warn):
                    if self.actions == self.cut:
                        raise Cut
                    self.actions += 1
                if isinstance(action, Say):
                    self.said.append(f"{run.host}: {action.message}")
                if isinstance(action, Warn):
                    self.warnings.append(action.message)
                answer = host.do(run.fleet, action)
                self.check(host)
        except StopIteration:
            pass
        except (HostError, Failed) as error:
            self.errors[run.host] = str(error)
        finally:
            actions.close()


Modelled = Callable[[Fleet, Mapping[str, ModelHost]], dict[str, ModelHost]]


@pytest.fixture
def modelled(monkeypatch: pytest.MonkeyPatch) -> Modelled:
    """Model hosts of a fleet, with those that there are already; runs read them instead of what a shell printed."""
    hosts: dict[str, ModelHost] = {}
    now: list[Fleet] = []

    def use(fleet: Fleet, known: Mapping[str, ModelHost]) -> dict[str, ModelHost]:
        hosts.clear()
        hosts.update({name: known.get(name) or ModelHost(name) for name in fleet.hosts})
        now[:] = [fleet]
        return hosts

    monkeypatch.setattr(converge, "parse", lambda lines: hosts[lines[0]].actual(now[0]))
    monkeypatch.setattr(releases, "ensure_at", lambda fleet, path: path)
    return use
