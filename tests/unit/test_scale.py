"""A large fleet costs what it holds: what is equal is checked once, a lookup costs what it finds, answers stay.

Work is counted here; `bench/scale` takes the time.
"""

import copy
import json
import random
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from team_project import CLIENT, HOSTS, SERVICE, Project

from zmqfleet import fleet, inventory
from zmqfleet.capabilities import Part
from zmqfleet.cli import main
from zmqfleet.fleet import Endpoint, Fleet, Identity, Service, model, validate
from zmqfleet.inventory import Host

Data = dict[str, Any]


@pytest.fixture
def load(project: Project, monkeypatch: pytest.MonkeyPatch) -> Callable[[Data], dict[str, Host]]:
    """Loads what ansible-inventory would have printed."""

    def loaded(data: Data) -> dict[str, Host]:
        monkeypatch.setattr(inventory, "_ansible_inventory", lambda *_: json.loads(json.dumps(data)))
        return inventory.load(project.root, project.inventory)

    return loaded


def listed(count: int, **variables: object) -> Data:
    """The groups of a team's project with `count` brokers, who all have the same variables."""
    groups = {**HOSTS, "brokers": {f"broker{number}": "" for number in range(count)}}
    names = [name for members in groups.values() for name in members]
    return {
        "_meta": {
            "hostvars": {
                name: {"ansible_host": f"10.0.{number // 256}.{number % 256}", "rack": name, **variables}
                for number, name in enumerate(names)
            }
        },
        "all": {"children": list(groups)},
        **{group: {"hosts": list(members)} for group, members in groups.items()},
    }


def counted(monkeypatch: pytest.MonkeyPatch, where: object, name: str) -> list[Any]:
    """The first arguments of all calls of a function from now on."""
    calls: list[Any] = []
    original = getattr(where, name)

    def call(*arguments: Any, **named: Any) -> Any:
        calls.append(arguments[0] if arguments else None)
        return original(*arguments, **named)

    monkeypatch.setattr(where, name, call)
    return calls


# --- what is equal is checked once


def test_values_that_hosts_have_in_common_are_one_object(load: Callable[[Data], dict[str, Host]]) -> None:
    hosts = load(listed(2, zmq_services=[SERVICE, CLIENT], golang_version="1.25.4"))
    for name in ("zmq_services", "golang_version"):
        assert hosts["broker1"].variables[name] is hosts["stranger1"].variables[name]


def test_values_that_are_equal_for_python_only_stay_apart(load: Callable[[Data], dict[str, Host]]) -> None:
    data = listed(4)
    for number, value in enumerate(([1], [True], [1.0], ["1"])):
        data["_meta"]["hostvars"][f"broker{number}"]["own"] = value
    hosts = load(data)
    assert [repr(hosts[f"broker{number}"].variables["own"]) for number in range(4)] == [
        "[1]",
        "[True]",
        "[1.0]",
        "['1']",
    ]


def test_checks_do_not_grow_with_hosts_that_have_the_same_values(
    load: Callable[[Data], dict[str, Host]], project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = counted(monkeypatch, validate, "check")
    guesses = counted(monkeypatch, validate.difflib, "get_close_matches")
    found = []
    for count in (2, 200):
        del checks[:], guesses[:]
        hosts = load(listed(count, zmq_services=[SERVICE, CLIENT], golang_version="1.25.4"))
        assert validate.problems(hosts, project.root, project.inventory) == []
        found.append((len(checks), sorted(guesses)))
    assert found[0] == found[1]
    assert checks.count([SERVICE, CLIENT]) == 1
    assert found[0][1] == ["ansible_host", "rack"]


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        (
            "zmq_services",
            [SERVICE],
            "zmq_services: differs between broker0 and broker7; it describes the fleet, set it for all",
        ),
        (
            "zmq_build_hosts",
            "brokers",
            "zmq_build_hosts: differs between broker0 and broker7; it describes the fleet, set it for all",
        ),
        (
            "zmq_build_verify",
            "brokers",
            "zmq_build_verify: differs between broker0 and broker7; it describes the fleet, set it for all",
        ),
        ("golang_version", 1, "golang_version: must be text, not int 1: put it in quotes"),
        (
            "zmq_probe_packages",
            [True],
            "zmq_probe_packages[0]: must be text, not bool True: put it in quotes",
        ),
        (
            "golnag_version",
            "1",
            "golnag_version: unknown variable 'golnag_version'; did you mean 'golang_version'?",
        ),
    ],
)
def test_the_one_host_that_differs_is_refused(
    load: Callable[[Data], dict[str, Host]], project: Project, variable: str, value: object, message: str
) -> None:
    data = listed(9, zmq_services=[SERVICE, CLIENT], golang_version="1.25.4")
    data["_meta"]["hostvars"]["broker7"][variable] = value
    problems = validate.problems(load(data), project.root, project.inventory)
    assert problems == [f"{project.variables}: {message}"]


def test_a_key_that_one_host_alone_has_is_told_without_what_a_terminal_obeys(
    load: Callable[[Data], dict[str, Host]], project: Project
) -> None:
    data = listed(3, zmq_services=[SERVICE, CLIENT], golang_version="1.25.4")
    data["_meta"]["hostvars"]["broker2"]["zmq_services"] = [{**SERVICE, "\x1b[2J": 1}, CLIENT]
    problems = validate.problems(load(data), project.root, project.inventory)
    assert (
        rf"{project.variables}: zmq_services[0].\x1b[2J: differs between broker0 and broker2; "
        "it describes the fleet, set it for all"
    ) in problems


def test_a_port_that_is_true_on_one_host_is_refused(
    load: Callable[[Data], dict[str, Host]], project: Project
) -> None:
    """For Python it equals 1 on all others."""
    services = copy.deepcopy([SERVICE, CLIENT])
    services[0]["endpoints"][0]["port"] = 1
    data = json.loads(json.dumps(listed(3, zmq_services=services)))
    data["_meta"]["hostvars"]["broker2"]["zmq_services"][0]["endpoints"][0]["port"] = True
    problems = validate.problems(load(data), project.root, project.inventory)
    assert problems == [
        f"{project.variables}: zmq_services[0].endpoints[0].port: must be a whole number, not bool True"
    ]


def test_files_are_searched_once_for_all_problems(
    load: Callable[[Data], dict[str, Host]], project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = listed(200, zmq_services=[SERVICE, CLIENT])
    for number in range(1, 200):
        data["_meta"]["hostvars"][f"broker{number}"]["zmq_services"] = [CLIENT]
    hosts = load(data)
    searches = counted(monkeypatch, inventory, "variable_files")
    problems = validate.problems(hosts, project.root, project.inventory)
    assert problems[-1] == "and 180 more problems; mend these first"
    assert len(searches) == 1


def test_a_problem_names_the_file_that_sets_the_variable(project: Project) -> None:
    (project.inventory / "host_vars").mkdir()
    own = project.inventory / "host_vars" / "broker2.yml"
    own.write_text("# its own\n'golang_verison': '1'\n")
    (project.inventory / "group_vars").mkdir()
    (project.inventory / "group_vars" / "brokers.yml").write_text("golang_proxy : 1\n")
    with pytest.raises(fleet.FleetError) as error:
        fleet.load(project.root, project.inventory)
    assert str(error.value).splitlines() == [
        f"{project.inventory}/group_vars/brokers.yml: golang_proxy: must be text, not int: put it in quotes",
        f"{own}: golang_verison: unknown variable 'golang_verison'; did you mean 'golang_version'?",
    ]


def test_of_several_files_a_problem_names_the_one_that_ansible_takes(project: Project) -> None:
    project.write(zmq_services=[SERVICE, CLIENT], golang_proxy=1)
    (project.inventory / "group_vars").mkdir()
    (project.inventory / "group_vars" / "all.yml").write_text("golang_proxy: https://proxy.example\n")
    with pytest.raises(fleet.FleetError) as error:
        fleet.load(project.root, project.inventory)
    assert str(error.value) == f"{project.variables}: golang_proxy: must be text, not int: put it in quotes"


# --- addresses


def names(monkeypatch: pytest.MonkeyPatch, known: dict[str, str]) -> list[Any]:
    def look_up(name: str, _port: object) -> list[tuple[Any, ...]]:
        if name not in known:
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (known[name], 0))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return counted(monkeypatch, socket, "getaddrinfo")


def test_addresses_that_do_not_resolve_are_refused_by_name(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    names(monkeypatch, {"g1.example": "192.0.2.4"})
    text = project.hosts.read_text()
    for address, name in (
        ("192.0.2.3", "b2.example"),
        ("192.0.2.4", "g1.example"),
        ("192.0.2.5", "s1.example"),
    ):
        text = text.replace(address, name)
    project.hosts.write_text(text)
    run = CliRunner().invoke(main, ["validate", *project.arguments])
    assert run.exit_code == 2
    assert run.stderr == (
        "zmqfleet: broker2: its address 'b2.example' does not resolve ([Errno -2] Name or service not known); "
        "set ansible_host to an IP address, or zmq_address to the one by which other hosts reach it\n"
        "stranger1: its address 's1.example' does not resolve ([Errno -2] Name or service not known); "
        "set ansible_host to an IP address, or zmq_address to the one by which other hosts reach it\n"
    )


def test_validate_looks_up_each_name_once_and_derives_no_desired_state(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = names(monkeypatch, {"broker2": "192.0.2.3", "gateway1": "192.0.2.4"})
    derived = counted(monkeypatch, Part, "__init__")
    text = project.hosts.read_text()
    project.hosts.write_text(text.replace("192.0.2.3", "broker2").replace("192.0.2.4", "gateway1"))
    run = CliRunner().invoke(main, ["validate", *project.arguments])
    assert (run.exit_code, run.output) == (0, "ok: 5 hosts, 2 services, 4 endpoints\n")
    assert sorted(asked) == ["broker2", "gateway1"]
    assert derived == []


# --- groups


def test_groups_of_a_host_are_those_that_ansible_says(project: Project) -> None:
    project.hosts.write_text("""
all:
  hosts:
    loner1:
  children:
    europe:
      children:
        berlin:
        paris:
    brokers:
      children:
        berlin:
      hosts:
        broker9:
    berlin:
      hosts:
        broker1:
    paris:
      children:
        empty:
      hosts:
        gateway1:
    empty:
""")
    hosts = inventory.load(project.root, project.inventory)
    assert {name: host.groups for name, host in hosts.items()} == {
        "broker1": ("all", "berlin", "brokers", "europe"),
        "broker9": ("all", "brokers"),
        "gateway1": ("all", "europe", "paris"),
        "loner1": ("all", "ungrouped"),
    }


def test_groups_in_a_circle_are_ansibles_error(project: Project) -> None:
    project.hosts.write_text(
        "a: {hosts: {h1: {}}, children: {b: {}}}\nb: {children: {c: {}}}\nc: {children: {a: {}}}\n"
    )
    with pytest.raises(inventory.InventoryError, match="Ansible cannot read it"):
        inventory.load(project.root, project.inventory)


@pytest.mark.parametrize("seed", range(50))
def test_nested_groups_have_the_members_of_their_children(
    load: Callable[[Data], dict[str, Host]], seed: int
) -> None:
    chance = random.Random(seed)
    hosts = [f"host{number}" for number in range(chance.randint(1, 8))]
    groups = [f"group{number}" for number in range(chance.randint(1, 8))]
    data: Data = {
        # a child comes after its parents: no circles, but more than one way down
        group: {
            "children": chance.sample(groups[place + 1 :], chance.randint(0, len(groups[place + 1 :]))),
            "hosts": chance.sample(hosts, chance.randint(0, len(hosts))),
        }
        for place, group in enumerate(groups)
    }
    data["all"] = {"children": [*groups, "ungrouped"]}
    data["ungrouped"] = {"hosts": hosts[:1]}

    def members(group: str) -> set[str]:
        content = data[group]
        return set(content.get("hosts", [])).union(*map(members, content.get("children", [])))

    expected = {group: sorted(members(group)) for group in sorted(data) if members(group)}
    assert inventory.groups_of(load({**data, "_meta": {"hostvars": {}}})) == expected


# --- lookups


def random_fleet(chance: random.Random) -> Fleet:
    """Hosts in any groups, services with any endpoints, who connect to any endpoints."""
    groups = ["brokers", "gateways", "workers", "strangers"]
    hosts = {}
    for number in range(chance.randint(1, 8)):
        mine = tuple(sorted({"all", *chance.sample(groups, chance.randint(0, 3))}))
        hosts[f"host{number}"] = Host(f"host{number}", f"192.0.2.{number}", mine, {})
    endpoints = {
        f"service{number}": tuple(
            Endpoint(
                f"endpoint{place}",
                "ROUTER",
                5000 + 10 * number + place,
                chance.choice(["curve", "null"]),
                tuple(chance.sample([*groups, "all", "empty"], chance.randint(0, 3))),
                chance.choice(["*", "*", "127.0.0.1"]),
            )
            for place in range(chance.randint(0, 3))
        )
        for number in range(chance.randint(1, 5))
    }
    targets = [f"{name}.{endpoint.name}" for name, bound in endpoints.items() for endpoint in bound]
    services = {}
    for name, bound in endpoints.items():
        connects = tuple(chance.sample(targets, chance.randint(0, len(targets))))
        where = chance.choice([*groups, "all", "empty"])
        services[name] = Service(name, where, bound, None, None, connects, (), {}, {})
    return Fleet(Path("/p"), Path("/p/inventories/lab"), hosts, services)


class Naive:
    """The same answers by looking at all hosts and services each time."""

    def __init__(self, found: Fleet) -> None:
        self.hosts, self.services = found.hosts, found.services

    def members(self, group: str) -> list[str]:
        return sorted(name for name, host in self.hosts.items() if group in host.groups)

    def services_of(self, host: str) -> list[Service]:
        return [one for one in self.services.values() if host in self.members(one.hosts)]

    def allowed(self, endpoint: Endpoint, instance: str) -> list[str]:
        allowed = sorted(host for host in self.hosts if any(host in self.members(g) for g in endpoint.allow))
        return [host for host in allowed if host == instance] if endpoint.bind != "*" else allowed

    def users(self, host: str, service: Service, endpoint: Endpoint) -> list[str]:
        return [
            one.name for one in self.services_of(host) if f"{service.name}.{endpoint.name}" in one.connects
        ]

    def identity(self, host: str, service: Service, endpoint: Endpoint) -> Identity:
        return Identity(host, [*self.users(host, service, endpoint), "probe"][0])

    def clients(self, service: Service, instance: str) -> list[Identity]:
        admitted = {
            (host, name)
            for endpoint in service.endpoints
            if endpoint.security == "curve"
            for host in self.allowed(endpoint, instance)
            for name in self.users(host, service, endpoint) or ["probe"]
        }
        return [Identity(host, name) for host, name in sorted(admitted)]


@pytest.mark.parametrize("seed", range(100))
def test_lookups_answer_as_a_search_of_the_whole_fleet_does(seed: int) -> None:
    found = random_fleet(random.Random(seed))
    naive = Naive(found)
    for service in found.services.values():
        assert found.instances(service) == naive.members(service.hosts)
    for host in found.hosts:
        assert found.services_of(host) == naive.services_of(host)
        for service in found.services.values():
            assert found.clients(service, host) == naive.clients(service, host)
            for endpoint in service.endpoints:
                assert found.allowed(service, endpoint, host) == naive.allowed(endpoint, host)
                assert found.identity(host, service, endpoint) == naive.identity(host, service, endpoint)


def test_groups_are_not_searched_again_for_each_host(monkeypatch: pytest.MonkeyPatch) -> None:
    searched = []
    for count in (3, 300):
        hosts = {f"host{n}": Host(f"host{n}", "192.0.2.1", ("all", "brokers"), {}) for n in range(count)}
        bound = (
            Endpoint("orders", "ROUTER", 5555, "curve", ("brokers",)),
            Endpoint("health", "REP", 5557, "curve", ("all",), "127.0.0.1"),
        )
        quotes = Service("quotes", "brokers", bound, None, None, ("quotes.orders",), (), {}, {})
        found = Fleet(Path("/p"), Path("/p/inventories/lab"), hosts, {"quotes": quotes})
        groups = counted(monkeypatch, model, "groups_of")
        members = counted(monkeypatch, Fleet, "members")
        for host in hosts:
            assert found.services_of(host) == [quotes]
            assert found.allowed(quotes, bound[1], host) == [host]
            assert found.identity(host, quotes, bound[0]) == Identity(host, "quotes")
            assert len(found.allowed(quotes, bound[0], host)) == count
        monkeypatch.undo()
        searched.append((len(groups), len(members)))
    assert searched == [(1, 2), (1, 2)]


# --- public keys


def test_a_public_key_is_read_when_it_is_asked_for(project: Project) -> None:
    found = fleet.load(project.root, project.inventory)
    mine = found.public_key_file(Identity("broker1", "quotes"))
    mine.parent.mkdir(parents=True)
    mine.write_text("k" * 40 + "\n")
    # reading this one would fail
    found.public_key_file(Identity("broker2", "quotes")).mkdir(parents=True)
    keys = found.public_keys()
    assert keys["broker1", "quotes"] == "k" * 40
    assert keys.get(("gateway1", "quotes-client")) is None
    assert list(keys) == [("broker1", "quotes"), ("broker2", "quotes")]
    assert len(keys) == 2


def test_public_keys_that_come_in_during_a_run_are_found_by_the_next_question(project: Project) -> None:
    found = fleet.load(project.root, project.inventory)
    assert found.public_keys().get(("broker1", "quotes")) is None
    mine = found.public_key_file(Identity("broker1", "quotes"))
    mine.parent.mkdir(parents=True)
    mine.write_text("k" * 40 + "\n")
    assert found.public_keys().get(("broker1", "quotes")) == "k" * 40
