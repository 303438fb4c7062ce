"""The course of a run on a host: what is done, and in which order."""

import copy
import grp
import itertools
import json
import os
import pwd
import re
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from host_model import HOLDER, Cut, Engine, ModelHost, Modelled
from team_project import CLIENT, GROUPS, SERVICE, Project, fleet_of

from zmqfleet import converge, releases
from zmqfleet.capabilities import CONFIGURE, INSTALL
from zmqfleet.converge import (
    MAKE_UPLOADS,
    Action,
    Ask,
    Execute,
    HostError,
    HostRun,
    Install,
    Put,
    Say,
    batch,
    outset,
)
from zmqfleet.fleet import Fleet, FleetError, load
from zmqfleet.inventory import Host
from zmqfleet.locking import MARK, PATH
from zmqfleet.probe import plan, through
from zmqfleet.probe.plan import Planned
from zmqfleet.probe.verdict import Outcome
from zmqfleet.resources import Artefact, File, Inline


def a_fleet(project: Project, *services: dict[str, Any]) -> Fleet:
    found = fleet_of(project.root, GROUPS, [*services])
    assert isinstance(found, Fleet), found
    return found


@pytest.fixture
def fleet(project: Project) -> Fleet:
    return a_fleet(project, SERVICE, CLIENT)


def actions(fleet: Fleet, host: ModelHost, run: HostRun, phase: str, capability: str) -> list[Action]:
    """What a phase of a run on a host asks its engine for."""
    Engine({host.name: host}).follow(run, run.read())
    todo, found, answer = run.place(capability, phase), [], None
    try:
        while True:
            found.append(todo.send(answer))
            answer = host.do(fleet, found[-1])
    except StopIteration:
        return found


def words(action: Action) -> str:
    match action:
        case Ask(command):
            names = {PATH: "lock", MARK: "wait for others", "== zmqfleet": "read"}
            return next(name for part, name in names.items() if part in command)
        case Put(file):
            return f"put {file.path}"
        case Install(packages):
            return f"install {len(packages)}"
        case Execute(command):
            return command[0]
        case Say(message):
            return message
    raise AssertionError(action)


def test_all_that_cannot_be_placed_is_named_at_once(
    project: Project, modelled: Modelled, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = {
        **SERVICE,
        "name": "ticks",
        "endpoints": [{**one, "port": one["port"] + 100} for one in SERVICE["endpoints"]],
    }
    fleet = a_fleet(project, SERVICE, CLIENT, second)
    host = modelled(fleet, {})["broker1"]

    def refuse(fleet: Fleet, path: Path) -> Path:
        raise FleetError(f"{path.name}: two builders have made it otherwise")

    monkeypatch.setattr(releases, "ensure_at", refuse)
    run = HostRun(fleet, "broker1", HOLDER)
    actions(fleet, host, run, INSTALL, "zmq_service")
    with pytest.raises(HostError) as error:
        actions(fleet, host, run, CONFIGURE, "zmq_service")
    assert str(error.value) == (
        "broker1: quotes: two builders have made it otherwise\nbroker1: ticks: two builders have made it otherwise"
    )


def test_nothing_is_placed_before_lock_others_look_and_manifest(fleet: Fleet, modelled: Modelled) -> None:
    host = modelled(fleet, {})["stranger1"]
    done = actions(fleet, host, HostRun(fleet, "stranger1", HOLDER), INSTALL, "zmq_probe")
    assert [words(one) for one in done][:7] == [
        "lock",
        "wait for others",
        "read",
        "sh",
        "install",
        "put /etc/zmqfleet/manifest",
        "sh",
    ]
    assert done[3] == Execute(MAKE_UPLOADS, as_root=False)
    assert [words(one) for one in done[7:10]] == ["installs python3-zmq", "sh", "install 1"]
    sweep, packages = done[6], done[8]
    assert isinstance(packages, Execute)
    assert "dpkg --force-confdef --force-confold --configure -a" in packages.command[2]
    assert isinstance(sweep, Execute)
    assert all(left in sweep.command[2] for left in ("'.*.new'", "/home/*/.zmqfleet-uploads"))
    assert "-maxdepth 1 -type f -delete" in sweep.command[2], "a user's own directory may change meanwhile"
    assert words(done[-1]) == "lock", "others may be long at work before this host is needed again"


def test_a_capability_that_is_used_by_itself_gives_the_host_back(
    project: Project, modelled: Modelled
) -> None:
    project.write(team_name="x")
    alone = load(project.root, project.inventory, alone=True)
    host = modelled(alone, {})["stranger1"]
    done = actions(alone, host, HostRun(alone, "stranger1", HOLDER), INSTALL, "zeromq")
    assert isinstance(done[-1], Ask)
    assert f"rm -f {PATH}" in done[-1].command


@pytest.mark.parametrize(("is_whole", "calls"), [(True, 1), (False, 3)])
def test_a_whole_run_calls_the_package_manager_once(
    fleet: Fleet, modelled: Modelled, is_whole: bool, calls: int
) -> None:
    host = modelled(fleet, {})["builder1"]
    run = HostRun(fleet, "builder1", HOLDER, is_whole=is_whole)
    found = [
        one
        for capability in ("zeromq", "golang", "zmq_probe")
        for one in actions(fleet, host, run, INSTALL, capability)
        if isinstance(one, Install)
    ]
    assert len(found) == calls
    assert {"libczmq-dev", "golang-1.19-go", "python3-zmq"} <= host.packages


def test_all_hosts_install_at_the_same_time(fleet: Fleet, modelled: Modelled) -> None:
    host = modelled(fleet, {})["stranger1"]
    run = HostRun(fleet, "stranger1", HOLDER, is_whole=True)
    engine = Engine({"stranger1": host})
    engine.follow(run, run.read())
    engine.follow(run, run.place("zeromq", INSTALL))
    assert {"python3-zmq", "nftables"} <= host.packages, "though none of zeromq's own is for it"
    assert list(run.place("golang", INSTALL)) == []


def test_a_host_is_read_once_for_a_phase_whatever_its_capabilities(
    fleet: Fleet, modelled: Modelled, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = modelled(fleet, {})
    reads: list[str] = []

    def parse(lines: list[str]) -> Any:
        reads.append(lines[0])
        return hosts[lines[0]].actual(fleet)

    monkeypatch.setattr(converge, "parse", parse)
    engine = Engine(dict(hosts))
    engine.run(fleet)
    assert engine.errors == {}
    # at first, under the lock, and after what was placed to install, to configure, and to start
    assert reads.count("broker1") == 5


def test_a_lock_is_renewed_in_each_step(fleet: Fleet, modelled: Modelled) -> None:
    host = modelled(fleet, {})["broker1"]
    run = HostRun(fleet, "broker1", HOLDER)
    for capability in ("zeromq", "zmq_probe"):
        assert words(actions(fleet, host, run, INSTALL, capability)[0]) == "lock"


def test_what_others_did_while_the_lock_had_lapsed_is_read(fleet: Fleet, modelled: Modelled) -> None:
    host = modelled(fleet, {})["broker1"]
    run = HostRun(fleet, "broker1", HOLDER)
    actions(fleet, host, run, INSTALL, "zeromq")
    again = ["lock", "wait for others", "read"]
    assert [words(one) for one in actions(fleet, host, run, INSTALL, "zmq_probe")][:3] != again
    host.locked = False
    host.packages.clear()
    assert [words(one) for one in actions(fleet, host, run, INSTALL, "zmq_service")][:3] == again


def test_others_at_work_in_the_middle_of_a_step_are_noticed(fleet: Fleet, modelled: Modelled) -> None:
    host = modelled(fleet, {})["builder1"]
    run = HostRun(fleet, "builder1", HOLDER, is_whole=True)
    engine = Engine({"builder1": host})
    for phase in (run.read(), run.place("zeromq", INSTALL), run.place("golang", INSTALL)):
        engine.follow(run, phase)

    def cut_in(_: ModelHost) -> None:
        if any("/artifacts/quotes/" in path for path in host.paths):
            host.locked = False

    engine.check = cut_in
    engine.follow(run, run.place("zmq_build", INSTALL))
    assert engine.errors == {"builder1": "builder1: somebody else was at work there meanwhile; run again"}


def test_the_smallest_batch_of_services_concerned_holds(project: Project, modelled: Modelled) -> None:
    fleet = a_fleet(project, {**SERVICE, "rollout": {"batch": 2}}, {**CLIENT, "rollout": {"batch": 3}})
    runs = Engine(dict(modelled(fleet, {}))).read(fleet)
    assert batch(runs.values()) == 2
    assert batch([runs["gateway1"]]) == 3
    assert batch([runs["stranger1"]]) == 1


def test_all_hosts_have_work_where_a_key_is_to_be_made(fleet: Fleet, modelled: Modelled) -> None:
    hosts = dict(modelled(fleet, {}))
    assert Engine(hosts).run(fleet)
    assert outset(Engine(hosts).read(fleet).values()).todo == []
    hosts["stranger1"].packages.clear()
    assert outset(Engine(hosts).read(fleet).values()).todo == ["stranger1"]
    hosts["gateway1"]._remove("/etc/zmqfleet/quotes-client/curve.key_secret")
    assert outset(Engine(hosts).read(fleet).values()).todo == list(hosts)


def test_what_leaves_stays_where_not_all_runs(project: Project, fleet: Fleet, modelled: Modelled) -> None:
    hosts = dict(modelled(fleet, {}))
    Engine(hosts).run(fleet)
    new = a_fleet(project, {**SERVICE, "name": "prices"})
    hosts = dict(modelled(new, hosts))
    host = hosts["broker1"]
    (project.root / "src" / "main.go").write_text("package main\n\nfunc main() { panic(1) }\n")
    host.broken.add(releases.release(new, new.services["prices"]).on_host)
    engine = Engine(hosts)
    engine.run(new)
    assert "broker1" in engine.errors
    assert ("file", "/etc/zmqfleet/quotes/environment") in host.manifest()
    assert "/etc/zmqfleet/quotes/environment" in host.paths


@pytest.fixture
def built(fleet: Fleet, modelled: Modelled, monkeypatch: pytest.MonkeyPatch) -> dict[str, ModelHost]:
    """A fleet that runs; of new releases the controller gets what the builder has, and no more."""
    hosts = dict(modelled(fleet, {}))
    Engine(hosts).run(fleet)

    def ensure(fleet: Fleet, path: Path) -> Path:
        of = {(one := releases.release(fleet, service)).artifact: one for service in fleet.services.values()}
        if of[path].on_builder not in hosts["builder1"].paths:
            raise FleetError(f"{of[path].service}: has not come")
        return path

    monkeypatch.setattr(releases, "ensure_at", ensure)
    return hosts


def edited(project: Project, *services: dict[str, Any]) -> Fleet:
    """A fleet of other sources, which make new releases of all services."""
    (project.root / "src" / "main.go").write_text("package main\n\nfunc main() { println(1) }\n")
    return a_fleet(project, *services)


def programs(hosts: dict[str, ModelHost]) -> dict[str, str]:
    """What each unit of ours runs, on a broker and the gateway."""
    return {
        name: process.exe
        for host in ("broker1", "gateway1")
        for name, process in hosts[host].processes.items()
        if process.exe
    }


def test_a_service_that_does_not_compile_keeps_no_other_one(
    project: Project, modelled: Modelled, built: dict[str, ModelHost]
) -> None:
    before = programs(built)
    new = edited(project, SERVICE, {**CLIENT, "env": {"LEVEL": "debug"}})
    built["builder1"].wrong.add("quotes-client")
    del built["builder1"].paths["/etc/zmqfleet/firewall.nft"]
    engine = Engine(dict(modelled(new, built)))
    engine.run(new)
    release = releases.release(new, new.services["quotes-client"])
    assert engine.errors == {
        "builder1": f"builder1: build of quotes-client {release.id}: main.go:3: syntax error",
        "gateway1": "gateway1: quotes-client: has not come",
    }
    assert engine.warnings == [
        "builder1: zmq_build failed for quotes-client: see why at the end; other services go on",
        "gateway1: zmq_service failed for quotes-client: see why at the end; other services go on",
    ]
    after = programs(built)
    assert after["quotes.service"] == releases.release(new, new.services["quotes"]).on_host
    assert after["quotes-client.service"] == before["quotes-client.service"]
    assert b"LEVEL" not in built["gateway1"].paths["/etc/zmqfleet/quotes-client/environment"].data
    assert "/etc/zmqfleet/firewall.nft" in built["builder1"].paths

    built["builder1"].wrong.clear()
    again = Engine(dict(modelled(new, built)))
    again.run(new)
    assert again.errors == {}
    assert programs(built)["quotes-client.service"] == release.on_host
    assert outset(Engine(dict(modelled(new, built))).read(new).values()).todo == []


def test_nobody_is_sent_to_a_port_that_a_service_which_does_not_compile_was_to_have(
    project: Project, modelled: Modelled, built: dict[str, ModelHost]
) -> None:
    moved = [{**one, "port": one["port"] + 1000} for one in SERVICE["endpoints"]]
    new = edited(project, {**SERVICE, "endpoints": moved}, CLIENT)
    built["builder1"].wrong.add("quotes")
    engine = Engine(dict(modelled(new, built)))
    engine.run(new)
    assert set(engine.errors) == {"builder1", "broker1", "broker2"}
    assert "quotes-client stays as it is on gateway1: quotes stays as it is on broker1" in engine.warnings
    assert b":5555" in built["gateway1"].paths["/etc/zmqfleet/quotes-client/endpoints.json"].data


def test_what_a_service_that_does_not_compile_was_to_replace_goes_on(
    project: Project, modelled: Modelled, built: dict[str, ModelHost]
) -> None:
    names = ["prices.orders", "prices.ticks"]
    new = edited(project, {**SERVICE, "name": "prices"}, {**CLIENT, "connects": names})
    built["builder1"].wrong.add("prices")
    engine = Engine(dict(modelled(new, built)))
    engine.run(new)
    assert engine.errors["broker1"] == "broker1: prices: has not come"
    assert "quotes.service" in built["broker1"].processes
    assert b"quotes.orders" in built["gateway1"].paths["/etc/zmqfleet/quotes-client/endpoints.json"].data


def test_whom_a_service_admits_does_not_wait_for_its_release(
    project: Project, modelled: Modelled, built: dict[str, ModelHost]
) -> None:
    admitted = "/etc/zmqfleet/quotes/clients/gateway1.quotes-client.key"
    assert admitted in built["broker1"].paths
    new = edited(project, SERVICE, {**CLIENT, "hosts": "strangers", "connects": []})
    built["builder1"].wrong.add("quotes")
    engine = Engine(dict(modelled(new, built)))
    engine.run(new)
    assert engine.errors["broker1"] == "broker1: quotes: has not come"
    assert admitted not in built["broker1"].paths


def service(name: str, hosts: str, port: int, **more: Any) -> dict[str, Any]:
    """One with an endpoint of its name."""
    endpoint = {"name": name, "socket": "REP", "port": port, "security": "curve", "allow": ["gateways"]}
    return {"name": name, "hosts": hosts, "build": {"source": "src"}, "endpoints": [endpoint], **more}


def run_of(fleet: Fleet, hosts: dict[str, ModelHost], is_whole: bool = True) -> Engine:
    """A run on these hosts, which may be but some of the fleet's."""
    engine, failed = Engine(hosts), dict[str, converge.Failure]()
    runs = [HostRun(fleet, name, HOLDER, failed, is_whole=is_whole) for name in hosts]
    for phase in (HostRun.read, HostRun.look_again, *engine.phases(fleet)):
        for run in runs:
            if run.host not in engine.errors:
                engine.follow(run, phase(run))
    return engine


@pytest.mark.parametrize("name", ["apple", "zulu"])
def test_a_build_host_takes_no_service_that_it_only_builds_for_its_own(
    project: Project, modelled: Modelled, name: str
) -> None:
    client = service("consumer", "gateways", 5600, connects=["quotes.quotes"])
    before = a_fleet(project, service("quotes", "builders", 5555), client)
    hosts = dict(modelled(before, {}))
    Engine(hosts).run(before)
    now = a_fleet(project, service("quotes", "brokers", 5555), client, service(name, "builders", 5555))
    hosts = dict(modelled(now, hosts))
    engine = Engine(hosts)
    engine.run(now)
    assert engine.errors == {}
    assert set(hosts["builder1"].processes) >= {f"{name}.service"}
    assert outset(Engine(hosts).read(now).values()).todo == []


@pytest.mark.parametrize("ports", [(5557, 5555), (5556, 5555)], ids=["handed on", "exchanged"])
@pytest.mark.parametrize("names", [("alpha", "zeta"), ("zeta", "alpha")])
def test_nobody_takes_the_port_of_a_service_that_does_not_compile(
    project: Project,
    modelled: Modelled,
    built: dict[str, ModelHost],
    names: tuple[str, str],
    ports: tuple[int, int],
) -> None:
    before = a_fleet(
        project, *(service(name, "brokers", port) for name, port in zip(names, (5555, 5556), strict=True))
    )
    Engine(dict(modelled(before, built))).run(before)
    moved = (service(name, "brokers", port) for name, port in zip(names, ports, strict=True))
    now = edited(project, *moved)
    built["builder1"].wrong.add(names[0])
    engine = Engine(dict(modelled(now, built)))
    engine.run(now)
    assert set(engine.errors) == {"builder1", "broker1", "broker2"}
    for broker in ("broker1", "broker2"):
        found = {unit: one.ports for unit, one in built[broker].processes.items() if one.exe}
        assert found == {f"{names[0]}.service": (5555,), f"{names[1]}.service": (5556,)}


@pytest.mark.parametrize("is_whole", [True, False])
def test_clients_of_what_is_not_there_stay_whatever_part_is_run_and_whoever_else_moves(
    project: Project, modelled: Modelled, built: dict[str, ModelHost], is_whole: bool
) -> None:
    def services(*ports: int) -> list[dict[str, Any]]:
        one, two, three = (
            service(name, "brokers", port) for name, port in zip(("serve", "aa", "bb"), ports, strict=True)
        )
        client = service("client", "gateways", 5800, connects=["serve.serve"])
        return [one, two, three, client, service("later", "gateways", 5801, connects=["client.client"])]

    before = a_fleet(project, *services(5555, 5601, 5602))
    Engine(dict(modelled(before, built))).run(before)
    now = edited(project, *services(6555, 5602, 5603))
    built["builder1"].wrong.add("serve")
    hosts = dict(modelled(now, built))
    run_of(now, hosts, is_whole)
    assert b":5555" in hosts["gateway1"].paths["/etc/zmqfleet/client/endpoints.json"].data


def units(hosts: dict[str, ModelHost]) -> dict[str, set[str]]:
    """The services that run, by host."""
    every = {name: {unit for unit, one in host.processes.items() if one.exe} for name, host in hosts.items()}
    return {name: {unit.removesuffix(".service") for unit in found} for name, found in every.items() if found}


def for_brokers(port: int) -> dict[str, Any]:
    """A server on the build host."""
    found = service("server", "builders", port)
    found["endpoints"][0]["allow"] = ["brokers"]
    return found


def break_everywhere(hosts: dict[str, ModelHost], fleet: Fleet, name: str) -> None:
    for host in hosts.values():
        host.broken.add(releases.release(fleet, fleet.services[name]).on_host)


@pytest.mark.parametrize("port", [5601, 5602], ids=["same port", "other port"])
@pytest.mark.parametrize("connects", [[], ["server.server"]], ids=["first turn", "second turn"])
@pytest.mark.parametrize("names", [("alpha", "zeta"), ("zeta", "alpha")])
def test_a_renamed_service_that_does_not_run_costs_the_old_one_nowhere(
    project: Project, modelled: Modelled, names: tuple[str, str], connects: list[str], port: int
) -> None:
    server = for_brokers(5555)
    before = a_fleet(project, server, service(names[0], "brokers", 5601, connects=connects))
    hosts = dict(modelled(before, {}))
    Engine(hosts).run(before)
    now = a_fleet(project, server, service(names[1], "brokers", port, connects=connects))
    hosts = dict(modelled(now, hosts))
    break_everywhere(hosts, now, names[1])
    for _ in range(2):
        engine = Engine(hosts)
        engine.run(now)
        assert engine.errors
        assert units(hosts) == {"builder1": {"server"}, "broker1": {names[0]}, "broker2": {names[0]}}
    for host in hosts.values():
        host.broken.clear()
    engine = Engine(hosts)
    engine.run(now)
    assert engine.errors == {}
    assert units(hosts) == {"builder1": {"server"}, "broker1": {names[1]}, "broker2": {names[1]}}
    assert outset(Engine(hosts).read(now).values()).todo == []


@pytest.mark.parametrize("broken", ["aa", "bb"])
@pytest.mark.parametrize("connects", [[], ["server.server"]], ids=["first turn", "second turn"])
def test_a_service_that_is_split_runs_until_all_that_replace_it_do(
    project: Project, modelled: Modelled, broken: str, connects: list[str]
) -> None:
    server, old = for_brokers(5555), service("old", "brokers", 5601)
    old["endpoints"].append({**old["endpoints"][0], "name": "more", "port": 5602})
    before = a_fleet(project, server, old)
    hosts = dict(modelled(before, {}))
    Engine(hosts).run(before)
    parts = [service("aa", "brokers", 5601), service("bb", "brokers", 5602, connects=connects)]
    now = a_fleet(project, server, *parts)
    hosts = dict(modelled(now, hosts))
    break_everywhere(hosts, now, broken)
    for _ in range(2):
        engine = Engine(hosts)
        engine.run(now)
        assert engine.errors
        assert units(hosts) == {"builder1": {"server"}, "broker1": {"old"}, "broker2": {"old"}}
    for host in hosts.values():
        host.broken.clear()
    engine = Engine(hosts)
    engine.run(now)
    assert engine.errors == {}
    assert units(hosts) == {"builder1": {"server"}, "broker1": {"aa", "bb"}, "broker2": {"aa", "bb"}}
    assert outset(Engine(hosts).read(now).values()).todo == []


def test_what_is_renamed_is_stopped_when_all_is_there_that_its_successor_needs(
    project: Project, modelled: Modelled
) -> None:
    before = a_fleet(project, service("aa", "gateways", 5601))
    now = edited(project, service("bb", "gateways", 5601))
    runs = []
    for cut in itertools.count():
        hosts = dict(modelled(before, {}))
        Engine(hosts).run(before)
        hosts = dict(modelled(now, hosts))
        with suppress(Cut):
            Engine(hosts, cut=cut).run(now)
            break
        runs.append(units(hosts).get("gateway1", set()))
    # one command stops it, the next one starts the other
    assert [found for found, _ in itertools.groupby(runs)] == [{"aa"}, set(), {"bb"}]
    assert runs.count(set()) == 1


@pytest.mark.parametrize("ports", [(5601, 5602, 5603, 5604), (5604, 5603, 5602, 5601)])
def test_those_that_hand_ports_on_go_together_in_the_last_ones_turn(
    project: Project, modelled: Modelled, ports: tuple[int, ...]
) -> None:
    def chain(*ports: int) -> Fleet:
        alpha = service("alpha", "brokers", ports[0])
        beta = service("beta", "brokers", ports[1], connects=["alpha.alpha"])
        gamma = service("gamma", "brokers", ports[2], connects=["beta.beta"])
        for one in (alpha, beta):
            one["endpoints"][0]["allow"] = ["brokers"]
        return a_fleet(project, alpha, beta, gamma)

    before = chain(*ports[:3])
    hosts = dict(modelled(before, {}))
    Engine(hosts).run(before)
    now = chain(*ports[1:])
    assert [[one.name for one in turn] for turn in now.turns] == [["alpha"], ["beta"], ["gamma"]]
    run = Engine(dict(modelled(now, hosts))).read(now)["broker1"]
    found = [[str(one) for one in run.foreseen("roll_out", turn=turn)] for turn in range(3)]
    assert found[:2] == [[], []]
    units = {line.split()[1].rstrip(":") for line in found[2] if line.startswith("unit ")}
    assert units == {"alpha.service", "beta.service", "gamma.service"}


def ports_of(host: ModelHost, client: str) -> dict[str, int]:
    """To which port it connects for each of its servers."""
    found = json.loads(host.paths[f"/etc/zmqfleet/{client}/endpoints.json"].data)["connects"]
    return {name: int(one["endpoint"].rpartition(":")[2]) for name, (one, *_) in found.items()}


@pytest.mark.parametrize("does_run", [False, True])
def test_clients_of_services_that_exchange_ports_follow_them(
    project: Project, modelled: Modelled, built: dict[str, ModelHost], does_run: bool
) -> None:
    def services(*ports: int) -> list[dict[str, Any]]:
        servers = [service(name, "gateways", port) for name, port in zip(("aa", "bb"), ports, strict=True)]
        for one in servers:
            one["endpoints"][0]["allow"] = ["brokers"]
        client = service("client", "brokers", 5700, connects=["aa.aa", "bb.bb"])
        return [*servers, client, service("later", "gateways", 5701, connects=["client.client"])]

    before = a_fleet(project, *services(5601, 5602))
    hosts = dict(modelled(before, built))
    Engine(hosts).run(before)
    now = edited(project, *services(5602, 5601))
    hosts = dict(modelled(now, hosts))
    if not does_run:
        hosts["gateway1"].broken.add(releases.release(now, now.services["aa"]).on_host)
    engine = Engine(hosts)
    engine.run(now)
    expected = {"aa.aa": 5602, "bb.bb": 5601} if does_run else {"aa.aa": 5601, "bb.bb": 5602}
    gateway = hosts["gateway1"].processes
    assert {f"{name}.{name}": gateway[f"{name}.service"].ports[0] for name in ("aa", "bb")} == expected
    assert ports_of(hosts["broker1"], "client") == ports_of(hosts["broker2"], "client") == expected
    assert (engine.errors == {}) == does_run


def test_a_service_that_does_not_run_where_it_has_moved_stays_where_it_was(
    project: Project, modelled: Modelled
) -> None:
    before = a_fleet(project, service("mover", "gateways", 5601))
    hosts = dict(modelled(before, {}))
    Engine(hosts).run(before)
    there = dict(hosts["gateway1"].paths)
    now = a_fleet(project, service("mover", "brokers", 5601))
    hosts = dict(modelled(now, hosts))
    break_everywhere(hosts, now, "mover")
    engine = Engine(hosts)
    engine.run(now)
    assert set(engine.errors) == {"broker1", "broker2"}
    assert units(hosts) == {"gateway1": {"mover"}}
    ours = {path for path in there if "mover" in path}
    assert ours
    assert ours <= set(hosts["gateway1"].paths)
    assert "mover" in hosts["gateway1"].users


def test_a_renamed_client_goes_on_while_its_server_does_not_run_where_it_was_to_be(
    project: Project, modelled: Modelled
) -> None:
    before = a_fleet(
        project,
        for_brokers(5555),
        service("old", "brokers", 5601, connects=["server.server"]),
    )
    hosts = dict(modelled(before, {}))
    Engine(hosts).run(before)
    now = a_fleet(
        project,
        for_brokers(5556),
        service("new", "brokers", 5601, connects=["server.server"]),
    )
    hosts = dict(modelled(now, hosts))
    break_everywhere(hosts, now, "server")
    engine = Engine(hosts)
    engine.run(now)
    assert "builder1" in engine.errors
    assert units(hosts)["broker1"] == units(hosts)["broker2"] == {"old"}


def test_what_is_to_make_room_runs_until_the_other_can_start(project: Project, modelled: Modelled) -> None:
    before = a_fleet(project, service("zeta", "gateways", 5556))
    hosts = dict(modelled(before, {}))
    Engine(hosts).run(before)
    now = a_fleet(
        project,
        service("alpha", "gateways", 5556, connects=["absent.absent"]),
        service("zeta", "gateways", 5557),
        service("absent", "strangers", 5700),
    )
    modelled(now, hosts)
    engine = run_of(now, {name: host for name, host in hosts.items() if name != "stranger1"})
    assert "needs the public key of absent on stranger1" in engine.errors["gateway1"]
    assert "zeta.service" in hosts["gateway1"].processes


def test_what_failed_is_told_in_whatever_order_phases_come(
    project: Project, modelled: Modelled, built: dict[str, ModelHost]
) -> None:
    """A team's play may have the roles of services before those of builds, each task a process of its own."""
    new = edited(project, SERVICE, CLIENT)
    host = modelled(new, built)["builder1"]
    host.wrong.add("quotes")
    engine = Engine({"builder1": host})
    run = HostRun(new, "builder1", HOLDER, is_whole=True)
    engine.follow(run, run.read())
    engine.follow(run, run.start(rolled=True))
    engine.follow(run, run.place("zmq_build", INSTALL))
    assert engine.errors == {}
    other = HostRun(new, "builder1", HOLDER, is_whole=True)
    other.recall(copy.deepcopy(run.memory()))
    engine.follow(other, other.finish())
    assert "main.go:3: syntax error" in engine.errors["builder1"]
    assert not host.locked


def test_a_part_of_a_run_fails_where_a_service_does_not_compile(
    project: Project, modelled: Modelled, built: dict[str, ModelHost]
) -> None:
    new = edited(project, SERVICE, CLIENT)
    host = modelled(new, built)["builder1"]
    host.wrong.add("quotes")
    with pytest.raises(HostError, match="syntax error"):
        actions(new, host, HostRun(new, "builder1", HOLDER), INSTALL, "zmq_build")
    assert releases.release(new, new.services["quotes-client"]).on_builder in host.paths


def test_rules_stay_while_something_listens(
    project: Project, fleet: Fleet, modelled: Modelled, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = dict(modelled(fleet, {}))
    Engine(hosts).run(fleet)
    new = a_fleet(project, {**SERVICE, "endpoints": SERVICE["endpoints"][2:]})
    hosts = dict(modelled(new, hosts))
    host = hosts["broker1"]
    original = host.actual

    def listens(fleet: Fleet) -> Any:
        found = original(fleet)
        found.listeners[5555] = {"quotes"}
        return found

    monkeypatch.setattr(host, "actual", listens)
    engine = Engine(hosts)
    engine.run(new)
    assert engine.errors == {
        "broker1": "broker1: port 5555 of quotes.orders is no longer declared, but quotes listens there: stop that"
    }
    assert "dport 5555" in host.table


def test_what_may_take_minutes_is_said_before_it_begins(fleet: Fleet, modelled: Modelled) -> None:
    engine = Engine(dict(modelled(fleet, {})))
    engine.run(fleet)
    said = [re.sub("[0-9a-f]{16}", "ID", line) for line in engine.said if line.startswith("builder1: ")]
    assert said == [
        (
            "builder1: installs python3, libzmq5, libczmq4, libsodium23, libzmq3-dev, libczmq-dev, libsodium-dev, "
            "pkg-config, gcc, libc6-dev, golang-1.19-go, python3-zmq, nftables"
        ),
        "builder1: Go toolchain 1.25.4",
        "builder1: build of quotes ID",
        "builder1: build of quotes-client ID",
    ]
    gateway = [line for line in engine.said if line.startswith("gateway1: ")]
    assert gateway[-1] == "gateway1: starts quotes-client.service, and waits until it runs"
    engine.said.clear()
    engine.run(fleet)
    assert engine.said == [], "there was nothing to wait for"


@pytest.fixture
def barred(fleet: Fleet, modelled: Modelled) -> dict[str, ModelHost]:
    """Hosts of which two have others' firewalls; one of these has nothing that peers are to reach."""
    hosts = dict(modelled(fleet, {}))
    hosts["broker1"].filters = {
        ("input", "ip", "ufw"),
        ("input", "ip6", "ufw"),
        ("input", "inet", "firewalld"),
        ("input", "ip6", "table mine"),
    }
    hosts["gateway1"].filters = {("input", "ip", "ufw")}
    return hosts


def peers_meet(monkeypatch: pytest.MonkeyPatch, outcome: Outcome) -> list[Planned]:
    """In place of ssh: what every host meets that tries an endpoint. Gives what is tried."""
    asked: list[Planned] = []

    def tried(hosts: Mapping[str, Host], cells: Sequence[Planned]) -> list[Outcome]:
        assert {cell.source for cell in cells} == hosts.keys()
        asked.extend(cells)
        return [outcome] * len(cells)

    monkeypatch.setattr(through, "_tried", tried)
    return asked


WHO = "; ".join(
    f"{whose} there drops what it does not allow itself, perhaps tcp 5555 (quotes.orders), 5556 (quotes.ticks)"
    for whose in ("firewalld", "ufw")
)


def test_a_run_has_not_succeeded_while_anothers_firewall_keeps_peers_out(
    fleet: Fleet, barred: dict[str, ModelHost], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = peers_meet(monkeypatch, Outcome("closed", "tcp", "nobody answers"))
    engine = Engine(barred)
    engine.run(fleet)
    said = (
        f"broker1: {WHO}: does not get through: gateway1 to quotes.orders on broker1: nobody answers; "
        "gateway1 to quotes.ticks on broker1: nobody answers"
    )
    assert engine.errors == {"broker1": said}
    assert {(one.source, one.destination, one.endpoint, one.credentials) for one in asked} == {
        ("gateway1", "broker1", "orders", "right"),
        ("gateway1", "broker1", "ticks", "right"),
    }
    assert not barred["broker1"].locked
    # nor has one that finds nothing to do; a forecast says it, too
    found = outset(Engine(barred).read(fleet).values())
    assert (found.todo, found.warnings) == (["broker1"], [said])
    again = Engine(barred)
    again.run(fleet)
    assert (again.errors, again.actions) == (engine.errors, 0)
    # and one that has something to do elsewhere
    barred["stranger1"].packages.clear()
    found = outset(Engine(barred).read(fleet).values())
    words = f"broker1: {WHO}: zmqfleet probe tells what gets through"
    assert (found.todo, found.warnings) == (["broker1", "stranger1"], [words])
    again = Engine(barred)
    again.run(fleet)
    assert again.errors == engine.errors


def test_a_run_says_nothing_of_anothers_firewall_that_lets_peers_through(
    fleet: Fleet, barred: dict[str, ModelHost], monkeypatch: pytest.MonkeyPatch
) -> None:
    peers_meet(monkeypatch, Outcome("closed", "zap", "admitted to TCP, not to the service", connected=True))
    engine = Engine(barred)
    runs = engine.run(fleet)
    assert (engine.warnings, engine.errors) == ([], {})
    found = outset(Engine(barred).read(fleet).values())
    assert (found.todo, found.warnings) == ([], [])
    assert found.words == f"Nothing to do: {len(runs)} hosts are as declared"


NOT_TRIED = [
    Outcome("unknown", None, "no route"),
    Outcome("closed", "name", "broker1.example does not resolve"),
    Outcome("closed", "curve", "no key"),
]


@pytest.mark.parametrize("outcome", NOT_TRIED, ids=lambda one: one.evidence)
def test_whether_peers_get_through_is_left_open_where_none_of_them_has_connected(
    fleet: Fleet, barred: dict[str, ModelHost], monkeypatch: pytest.MonkeyPatch, outcome: Outcome
) -> None:
    peers_meet(monkeypatch, outcome)
    engine = Engine(barred)
    engine.run(fleet)
    words = f"broker1: {WHO}: zmqfleet probe tells what gets through"
    assert (engine.warnings, engine.errors) == ([words], {})
    found = outset(Engine(barred).read(fleet).values())
    assert (found.todo, found.warnings) == ([], [words])


@pytest.mark.parametrize(
    ("met", "left_open"),
    [(["closed", "unknown"], False), (["open", "unknown"], True), (["open", "closed"], False)],
    ids=["closed-unknown", "open-unknown", "open-closed"],
)
def test_one_endpoint_that_is_shut_fails_the_host_and_one_unknown_leaves_it_open(
    fleet: Fleet,
    barred: dict[str, ModelHost],
    monkeypatch: pytest.MonkeyPatch,
    met: list[str],
    left_open: bool,
) -> None:
    outcomes = [Outcome(one, "tcp" if one == "closed" else None, "why") for one in met]
    monkeypatch.setattr(through, "_tried", lambda hosts, cells: outcomes)
    Engine(barred).run(fleet)
    found = outset(Engine(barred).read(fleet).values())
    assert found.todo == ([] if left_open else ["broker1"])
    assert len(found.warnings) == 1


def test_each_host_is_told_what_keeps_its_own_peers_out(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tried(hosts: Mapping[str, Host], cells: Sequence[Planned]) -> list[Outcome]:
        shut, open_ = Outcome("closed", "tcp", "dropped"), Outcome("open", None, "", connected=True)
        return [shut if cell.destination == "broker1" else open_ for cell in cells]

    monkeypatch.setattr(through, "_tried", tried)
    found = through.kept_out(fleet, {host: ["input"] for host in ("broker1", "broker2", "stranger1")})
    lines = [f"gateway1 to quotes.{endpoint} on broker1: dropped" for endpoint in ("orders", "ticks")]
    assert found == {"broker1": lines, "broker2": [], "stranger1": None}


def test_a_probe_that_fails_leaves_it_open(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(through, "python", lambda module: ("false", module))
    assert through.kept_out(fleet, {"broker1": ["input"]}) == {"broker1": None}


def test_what_of_many_peers_is_kept_out_is_told_in_part(
    fleet: Fleet, barred: dict[str, ModelHost], monkeypatch: pytest.MonkeyPatch
) -> None:
    Engine(barred).run(fleet)
    monkeypatch.setattr(converge, "kept_out", lambda fleet, hosts: {host: list("abcdefg") for host in hosts})
    found = outset(Engine(barred).read(fleet).values())
    assert found.warnings == [f"broker1: {WHO}: does not get through: a; b; c; d; e; and 2 more"]


def test_peers_are_tried_by_a_process_of_its_own(fleet: Fleet) -> None:
    cell = replace(plan.cells(fleet, {}, ["broker1"])[0], credentials="none")
    # nobody is there to log in to
    silent = Host(cell.source, "127.0.0.1", ("all",), {"ansible_port": 1})
    (outcome,) = through._tried({cell.source: silent}, [cell])
    assert outcome.observed == "unknown"
    assert "port 1: Connection refused" in outcome.evidence


def test_a_client_that_anothers_firewall_keeps_in_is_told_where_it_does_not_get(
    fleet: Fleet, modelled: Modelled, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = dict(modelled(fleet, {}))
    hosts["gateway1"].filters = {("output", "inet", "table corp"), ("input", "inet", "table corp")}
    hosts["broker2"].filters = {("output", "inet", "table corp")}  # which connects to nobody
    asked = peers_meet(monkeypatch, Outcome("closed", "tcp", "no answer"))
    engine = Engine(hosts)
    engine.run(fleet)
    assert engine.errors == {
        "gateway1": (
            "gateway1: table corp there drops what goes out and it does not allow itself, perhaps tcp 5555 "
            "(quotes.orders), 5556 (quotes.ticks): does not get through: "
            "gateway1 to quotes.orders on broker1: no answer; gateway1 to quotes.ticks on broker1: no answer; "
            "gateway1 to quotes.orders on broker2: no answer; gateway1 to quotes.ticks on broker2: no answer"
        )
    }
    assert {(one.source, one.destination) for one in asked} == {
        ("gateway1", "broker1"),
        ("gateway1", "broker2"),
    }
    # what comes to it is another way
    hosts["gateway1"].filters = {("output", "ip6", "table corp")}
    assert outset(Engine(hosts).read(fleet).values()).todo == []


def test_what_only_the_host_itself_is_to_reach_nobody_keeps_out(project: Project, modelled: Modelled) -> None:
    endpoints = [{**SERVICE["endpoints"][0], "allow": ["alone"]}]
    groups = {**GROUPS, "broker1": [*GROUPS["broker1"], "alone"]}
    found = fleet_of(project.root, groups, [{**SERVICE, "hosts": "alone", "endpoints": endpoints}])
    assert isinstance(found, Fleet), found
    hosts = dict(modelled(found, {}))
    hosts["broker1"].filters = {("input", "ip", "ufw")}
    engine = Engine(hosts)
    runs = engine.run(found)
    assert (runs["broker1"].plan.barred, engine.warnings, engine.errors) == ([], [], {})


def test_what_does_not_run_is_not_tried(
    fleet: Fleet, barred: dict[str, ModelHost], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = peers_meet(monkeypatch, Outcome("closed", "tcp", "refused"))
    engine = Engine(barred)
    for run in engine.read(fleet).values():
        engine.follow(run, run.finish())
    assert (asked, engine.errors) == ([], {})
    assert engine.warnings == [f"broker1: {WHO}: zmqfleet probe tells what gets through"]


def test_services_are_confined_where_the_kernel_has_apparmor_and_no_longer_than_declared(
    project: Project, modelled: Modelled
) -> None:
    now = a_fleet(project, SERVICE, CLIENT)
    hosts = dict(modelled(now, {}))
    hosts["broker1"].profiles = {"theirs": "enforce"}
    broker, engine = hosts["broker1"], Engine(hosts)
    engine.run(now)
    assert engine.errors == {}
    assert broker.profiles == {"theirs": "enforce", "zmqfleet.quotes": "enforce"}
    assert broker.processes["quotes.service"].label == "zmqfleet.quotes (enforce)"
    # a kernel without it needs no package for it
    assert [host.name for host in hosts.values() if "apparmor" in host.packages] == ["broker1"]
    assert outset(Engine(hosts).read(now).values()).todo == []

    # unloaded by hand
    broker.profiles.pop("zmqfleet.quotes")
    broker.processes["quotes.service"].label = "unconfined"
    runs = Engine(hosts).read(now)
    assert runs["broker1"].plan.forecast == [
        "unit quotes.service: is unconfined to AppArmor, not zmqfleet.quotes (enforce)",
        "profile zmqfleet.quotes: missing",
    ]
    Engine(hosts).run(now)
    assert broker.processes["quotes.service"].label == "zmqfleet.quotes (enforce)"

    for mac, label in {"complain": "zmqfleet.quotes (complain)", "none": "unconfined"}.items():
        now = a_fleet(project, {**SERVICE, "mac": mac}, CLIENT)
        engine = Engine(hosts)
        engine.run(now)
        assert engine.errors == {}
        assert broker.processes["quotes.service"].label == label
        assert outset(Engine(hosts).read(now).values()).todo == []
    assert broker.profiles == {"theirs": "enforce"}
    assert "/etc/zmqfleet/quotes/apparmor" not in broker.paths

    Engine(hosts).run(a_fleet(project, SERVICE, CLIENT))
    assert set(broker.profiles) == {"theirs", "zmqfleet.quotes"}
    now = a_fleet(project, {**SERVICE, "name": "prices"})
    engine = Engine(dict(modelled(now, hosts)))
    engine.run(now)
    assert engine.errors == {}
    assert set(broker.profiles) == {"theirs", "zmqfleet.prices"}


def test_what_ran_without_a_profile_goes_back_to_that(project: Project, modelled: Modelled) -> None:
    before = a_fleet(project, {**SERVICE, "mac": "none"}, CLIENT)
    hosts = dict(modelled(before, {}))
    hosts["broker1"].profiles = {}
    Engine(hosts).run(before)
    hosts["broker1"].unloadable = {"quotes.service"}
    engine = Engine(hosts)
    engine.run(a_fleet(project, SERVICE, CLIENT))
    assert set(engine.errors) == {"broker1"}
    assert hosts["broker1"].processes["quotes.service"].label == "unconfined"
    assert hosts["broker2"].processes["quotes.service"].label == ""


def test_an_entry_of_a_kind_that_nobody_knows_is_let_be(fleet: Fleet, modelled: Modelled) -> None:
    host = modelled(fleet, {})["stranger1"]
    actual = host.actual(fleet)
    actual.manifest.append({"kind": "policy", "name": "x", "capability": "mac"})
    plan = converge.Plan(fleet, "stranger1", actual)
    assert not any("policy" in line for line in plan.forecast)


def test_a_build_recipe_that_changes_makes_another_release(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def ids() -> str:
        found = a_fleet(project, copy.deepcopy(SERVICE))
        return releases.release(found, found.services["quotes"]).id

    before = ids()
    recipe = tmp_path / "roles" / "zmq_build" / "files" / "zmq-build"
    recipe.parent.mkdir(parents=True)
    recipe.write_text("#!/bin/sh\n")
    monkeypatch.setattr(releases, "ROLES", tmp_path / "roles")
    assert ids() != before


def test_a_file_is_placed_at_once_with_its_mode_and_owner_and_its_upload_goes(tmp_path: Path) -> None:
    who = (pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name)
    path = tmp_path / "a b" / "$(x).key"
    path.parent.mkdir()
    path.write_text("old")
    one = Put(File(str(path), Inline.text("new"), "640", *who))
    assert re.fullmatch(r"\.zmqfleet-uploads/[0-9a-f]{16}", one.upload)
    subprocess.run(MAKE_UPLOADS, cwd=tmp_path, check=True)
    (tmp_path / one.upload).write_text("new")
    with path.open() as before:
        subprocess.run(one.command, cwd=tmp_path, check=True)
        assert before.read() == "old", "who reads it meanwhile has the one or the other"
    assert (path.read_text(), oct(path.stat().st_mode)) == ("new", "0o100640")
    assert [one.name for one in path.parent.iterdir()] == ["$(x).key"]
    assert oct((tmp_path / ".zmqfleet-uploads").stat().st_mode) == "0o40700"
    assert list((tmp_path / ".zmqfleet-uploads").iterdir()) == []
    assert one.command[-3] == f"{path.parent}/.$(x).key.new", (
        "hidden from services that read whole directories"
    )


def test_what_is_placed_is_what_was_sent(tmp_path: Path) -> None:
    who = (pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name)
    artefact = tmp_path / "made"
    artefact.write_bytes(b"new")
    path = tmp_path / "there"
    path.write_text("old")
    for content in (Inline.text("new"), Artefact(artefact, None)):
        one = Put(File(str(path), content, "600", *who))
        (tmp_path / ".zmqfleet-uploads").mkdir(exist_ok=True)
        (tmp_path / one.upload).write_text("somebody else's")
        done = subprocess.run(one.command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (1, f"{path}: its upload is not what was sent\n")
        assert path.read_text() == "old"
        assert {found.name for found in tmp_path.iterdir()} == {"there", "made", ".zmqfleet-uploads"}
        assert list((tmp_path / ".zmqfleet-uploads").iterdir()) == []


def test_uploads_pass_where_nobody_else_can_enter(tmp_path: Path) -> None:
    def make() -> tuple[int, str]:
        done = subprocess.run(MAKE_UPLOADS, cwd=tmp_path, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    uploads = tmp_path / ".zmqfleet-uploads"
    uploads.mkdir(mode=0o777)
    assert make() == (0, "")
    assert oct(uploads.stat().st_mode) == "0o40700"
    uploads.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o755)
    uploads.symlink_to("elsewhere")
    refused = "~/.zmqfleet-uploads: is no directory of this user alone; remove it\n"
    assert make() == (1, refused)
    assert oct((tmp_path / "elsewhere").stat().st_mode) == "0o40755"
    uploads.unlink()
    uploads.write_text("")
    assert make()[0] == 1
