"""Runs converge, whatever the fleet was before and wherever they were cut off: driven against models of hosts."""

import contextlib
import copy
import hashlib
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from host_model import Cut, Engine, ModelHost, Modelled
from team_project import Project, fleet_of

from zmqfleet import desired
from zmqfleet.capabilities import firewall
from zmqfleet.fleet import Fleet
from zmqfleet.fleet.model import ETC
from zmqfleet.resources.user import NOLOGIN

GROUPS = ("brokers", "gateways", "workers")
SEEDS = range(40)  # each sees three fleets and more


class Team:
    """A fleet as people would change it from one run to the next; all choices are made by `chance`."""

    def __init__(self, chance: random.Random, root: Path) -> None:
        self.chance, self.root = chance, root
        self.hosts = {"builder1": ["builders"]}
        for number in range(chance.randint(1, 3)):
            self.hosts[f"host{number}"] = chance.sample(GROUPS, chance.randint(0, 2))
        self.services: list[dict[str, Any]] = []
        for name in chance.sample(["alpha", "beta", "gamma"], chance.randint(1, 3)):
            self.services.append(self.service(name))

    def service(self, name: str) -> dict[str, Any]:
        chance = self.chance
        endpoints = [
            {
                "name": f"e{number}",
                "socket": "ROUTER",
                "port": chance.randint(5000, 5006),
                "security": chance.choice(["curve", "curve", "null"]),
                "allow": chance.sample([*GROUPS, "builders"], chance.randint(1, 2)),
                **({"bind": "127.0.0.1"} if chance.random() < 0.2 else {}),
            }
            for number in range(chance.randint(1, 2))
        ]
        made = {"artifact": {"path": "bin", "sha256": hashlib.sha256(b"1").hexdigest()}}
        if chance.random() < 0.6:
            made = {"build": {"source": "src", "package": chance.choice([".", "./cmd/serve"])}}
        return {"name": name, "hosts": chance.choice(GROUPS), "endpoints": endpoints, "connects": [], **made}

    def connect(self) -> None:
        """Services connect to what there is; what has gone is forgotten."""
        targets = [
            f"{s['name']}.{e['name']}" for s in self.services for e in s["endpoints"] if "bind" not in e
        ]
        for service in self.services:
            service["connects"] = self.chance.sample(targets, self.chance.randint(0, min(2, len(targets))))

    def change(self) -> None:
        """One of the things that happen to fleets."""
        chance = self.chance
        one = chance.choice(self.services)
        host = chance.choice(list(self.hosts))
        match chance.choice(
            ["shuffle", "rename", "move", "drop", "add", "port", "groups", "host", "env", "swap", "allow"]
        ):
            case "shuffle":
                chance.shuffle(self.services)
                for service in self.services:
                    chance.shuffle(service["endpoints"])
            case "rename":
                one["name"] = chance.choice(["delta", "epsilon"])
            case "move":
                one["hosts"] = chance.choice(GROUPS)
            case "drop" if len(self.services) > 1:
                self.services.remove(one)
            case "add":
                self.services.append(self.service("zeta"))
            case "port":
                chance.choice(one["endpoints"])["port"] = chance.randint(5000, 5006)
            case "allow":
                chance.choice(one["endpoints"])["allow"] = chance.sample(
                    [*GROUPS, "builders"], chance.randint(1, 2)
                )
            case "groups" if host != "builder1":
                self.hosts[host] = chance.sample(GROUPS, chance.randint(0, 2))
            case "host" if host != "builder1":
                del self.hosts[host]
            case "env":
                one["env"] = {"REGION": f"eu-{chance.randint(1, 3)}"}
            case "swap" if len(self.services) > 1:
                other = chance.choice([service for service in self.services if service is not one])
                one["endpoints"], other["endpoints"] = other["endpoints"], one["endpoints"]

    def fleet(self) -> Fleet | None:
        """The fleet of now; None if it would be refused."""
        found = fleet_of(self.root, self.hosts, self.services)
        return found if isinstance(found, Fleet) else None


def first(chance: random.Random, root: Path) -> tuple[Team, Fleet]:
    (root / "bin").write_bytes(b"1")
    while True:
        team = Team(chance, root)
        team.connect()
        if found := team.fleet():
            return team, found


def next_of(team: Team, hosts: Mapping[str, ModelHost]) -> tuple[Team, Fleet]:
    while True:
        new = copy.copy(team)
        new.hosts, new.services = copy.deepcopy((team.hosts, team.services))
        for _ in range(new.chance.randint(1, 3)):
            new.change()
        new.connect()
        if found := new.fleet():
            return new, found


class Doorkeeper:
    """Looks after each action who may reach a process: those whom its declaration allows, and once that is gone those
    who could until then."""

    def __init__(self) -> None:
        self.could: dict[tuple[str, str, int], set[str]] = {}

    def of(self, fleet: Fleet) -> "Doorkeeper":
        """The same, of another fleet."""
        self.declared = {
            (host, f"{rule.endpoint.partition('.')[0]}.service", rule.port): set(rule.peers)
            for host in fleet.hosts
            for rule in firewall.rules(fleet, host)
        }
        return self

    def __call__(self, host: ModelHost) -> None:
        assert host.unprotected() == [], f"{host.name}: a process listens at a port without a rule"
        for unit, process in host.processes.items():
            for port in process.ports:
                who, now = (host.name, unit, port), host.open_to(port)
                may = self.could.get(who, set()) | self.declared.get(who, set())
                assert now <= may, f"{unit} at {port} of {host.name} is open to {now - may}"
                if who in self.declared:
                    self.could[who] = now


def assert_converged(fleet: Fleet, hosts: dict[str, ModelHost]) -> None:
    """Nothing is left to do, and nothing is left of what was."""
    again = Engine(hosts)
    forecasts = {name: run.plan.forecast for name, run in again.read(fleet).items()}
    assert {name: lines for name, lines in forecasts.items() if lines} == {}
    assert again.errors == {}
    second = Engine(hosts)
    second.run(fleet)
    assert (second.actions, second.errors) == (0, {})
    for name, host in hosts.items():
        every = [one for part in desired.parts(fleet, name) for one in part.resources]
        owned = {(one.kind, one.name) for one in every if one.owned}
        # a run that was cut off between making the manifest's own directory and the manifest leaves it nobody's
        assert set(host.manifest()) | {("directory", ETC)} == owned
        assert len(host.manifest()) == len(set(host.manifest()))
        names = {one.name for one in fleet.services_of(name)}
        assert set(host.processes) == {f"{one}.service" for one in (*names, "zmqfleet-firewall")}
        assert host.enabled == set(host.processes)
        assert set(host.users) == names | ({"zmq-build"} if name == fleet.builder else set())
        assert all(one.endswith(f":{NOLOGIN}:{user}") for user, one in host.users.items())
        declared = {port for s in fleet.services_of(name) for port in (e.port for e in s.endpoints)}
        assert {port for one in host.processes.values() for port in one.ports} == declared
        assert host.table.count("counter reject") == len(declared)
        assert "leaving" not in host.table
        for base in ("/etc/zmqfleet", "/opt/zmqfleet"):
            inside = {
                p.split("/")[3]
                for p, n in host.paths.items()
                if p.startswith(f"{base}/") and n.kind == "directory"
            }
            assert inside <= names | {"probe"}


@pytest.mark.parametrize("seed", SEEDS)
def test_one_run_is_enough_and_what_is_no_longer_declared_goes(
    project: Project, modelled: Modelled, seed: int
) -> None:
    team, fleet = first(random.Random(seed), project.root)
    hosts: dict[str, ModelHost] = {}
    door = Doorkeeper()
    for _ in range(3):
        hosts = dict(modelled(fleet, hosts))
        engine = Engine(hosts, check=door.of(fleet))
        engine.run(fleet)
        assert engine.errors == {}
        assert engine.warnings == []
        assert_converged(fleet, hosts)
        team, fleet = next_of(team, hosts)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_that_was_cut_off_anywhere_is_made_good_by_the_next(
    project: Project, modelled: Modelled, seed: int
) -> None:
    chance = random.Random(seed)
    team, fleet = first(chance, project.root)
    hosts: dict[str, ModelHost] = {}
    door = Doorkeeper()
    if chance.random() < 0.7:  # else the first run ever is cut off
        hosts = dict(modelled(fleet, hosts))
        Engine(hosts, check=door.of(fleet)).run(fleet)
        team, fleet = next_of(team, hosts)
    for most in (80, 20):
        hosts = dict(modelled(fleet, hosts))
        with contextlib.suppress(Cut):
            Engine(hosts, check=door.of(fleet), cut=chance.randint(0, most)).run(fleet)
        if chance.random() < 0.4:  # people who see a run fail may change their minds
            team, fleet = next_of(team, hosts)
    hosts = dict(modelled(fleet, hosts))
    engine = Engine(hosts, check=door.of(fleet))
    engine.run(fleet)
    assert engine.errors == {}
    assert_converged(fleet, hosts)


@pytest.mark.parametrize("seed", [2, 14])
def test_each_action_may_be_the_last_of_a_run(project: Project, modelled: Modelled, seed: int) -> None:
    team, old = first(random.Random(seed), project.root)
    before = dict(modelled(old, {}))
    opened = Doorkeeper()
    Engine(before, check=opened.of(old)).run(old)
    _, new = next_of(team, before)
    shutil.copytree(new.state, project.root / "state")
    for cut in range(1000):
        shutil.rmtree(new.state)
        shutil.copytree(project.root / "state", new.state)
        hosts = dict(modelled(new, copy.deepcopy(before)))
        door = Doorkeeper()
        door.could = dict(opened.could)
        try:
            Engine(hosts, check=door.of(new), cut=cut).run(new)
        except Cut:
            engine = Engine(hosts, check=door)
            engine.run(new)
            assert engine.errors == {}, f"cut off after {cut} actions"
            assert_converged(new, hosts)
        else:
            assert cut > 20, "nothing much was to be done"
            return
    raise AssertionError("a run has no end")
