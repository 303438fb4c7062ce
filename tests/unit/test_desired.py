"""What is to be done on a host, given what it is to have, what it has, and what runs have placed there."""

import copy
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from host_model import HOLDER, Engine, Failed, ModelHost, Modelled
from team_project import CLIENT, GROUPS, SERVICE, Project, fleet_of

from zmqfleet import desired
from zmqfleet.capabilities import RETIRE, START
from zmqfleet.converge import ROLL_OUT, Action, Execute, HostRun, Put
from zmqfleet.desired import Change, Plan, parts
from zmqfleet.fleet import Fleet, FleetError
from zmqfleet.releases import release
from zmqfleet.resources import Actual, Entry, File, Inline, Link, Made, Peers, Pending, Rule

# what is placed for quotes on a broker, last first, without what others need there too
OF_QUOTES = [
    ("peers", "quotes.service"),
    ("profile", "zmqfleet.quotes"),
    ("link", "/opt/zmqfleet/quotes/current"),
    ("file", "/etc/zmqfleet/quotes/apparmor"),
    ("file", "/etc/systemd/system/quotes.service"),
    ("file", "/etc/zmqfleet/quotes/endpoints.json"),
    ("file", "/etc/zmqfleet/quotes/environment"),
    ("file", "/etc/zmqfleet/quotes/peers"),
    ("directory", "/etc/zmqfleet/quotes/clients"),
    ("rule", "quotes.health 5557"),
    ("rule", "quotes.ticks 5556"),
    ("rule", "quotes.orders 5555"),
    ("key", "quotes"),
    ("file", "/usr/local/lib/zmqfleet/unit-guard"),
    ("directory", "/opt/zmqfleet/quotes/releases"),
    ("directory", "/opt/zmqfleet/quotes"),
    ("directory", "/etc/zmqfleet/quotes"),
    ("directory", "/opt/zmqfleet"),
    ("user", "quotes"),
]


@dataclass
class Converged:
    """A team's fleet after a run, and a way to another one."""

    project: Project
    modelled: Modelled
    fleet: Fleet
    hosts: dict[str, ModelHost]

    def then(self, *services: dict[str, Any], groups: dict[str, list[str]] = GROUPS) -> Fleet:
        """The fleet with these services; its hosts are read from now on as it asks for."""
        found = fleet_of(self.project.root, groups, [*services])
        assert isinstance(found, Fleet), found
        self.fleet = found
        self.hosts = dict(self.modelled(found, self.hosts))
        return found

    def plan(self, host: str) -> Plan:
        """The plan of a host that was read."""
        return Plan(self.fleet, host, self.hosts[host].actual(self.fleet))

    def run(self) -> Engine:
        """Converges all hosts."""
        engine = Engine(self.hosts)
        engine.run(self.fleet)
        return engine


@pytest.fixture
def new(project: Project, modelled: Modelled) -> Converged:
    """Blank hosts."""
    found = fleet_of(project.root, GROUPS, [SERVICE, CLIENT])
    assert isinstance(found, Fleet), found
    return Converged(project, modelled, found, dict(modelled(found, {})))


@pytest.fixture
def converged(new: Converged) -> Converged:
    """Hosts after a run."""
    assert new.run().errors == {}
    assert all(new.plan(host).forecast == [] for host in new.hosts)
    return new


def text(plan: Plan, path: str, kept: bool = False) -> str:
    """The content of a file that is to be; with `kept`, while what leaves is still there."""
    for change in plan.changes() if kept else []:
        if change.resource.name == path:
            return content(change.resource)
    return content(next(r for part in plan.parts for r in part.resources if r.name == path))


def content(resource: object) -> str:
    assert isinstance(resource, File)
    assert isinstance(resource.content, Inline)
    return resource.content.data.decode()


def named(changes: list[Change]) -> list[tuple[str, str]]:
    return [(change.resource.kind, change.resource.name) for change in changes]


# --- what is placed


def test_a_host_is_given_only_what_it_needs(new: Converged) -> None:
    def capabilities(host: str) -> list[str]:
        return list(dict.fromkeys(part.capability for part in parts(new.fleet, host)))

    assert capabilities("stranger1") == ["zmq_probe", "firewall"]
    assert capabilities("broker1") == ["zeromq", "zmq_probe", "firewall", "zmq_service"]
    assert capabilities("builder1") == ["zeromq", "golang", "zmq_probe", "zmq_build", "firewall"]
    with pytest.raises(FleetError, match="no host 'brokr1'; did you mean 'broker1'"):
        parts(new.fleet, "brokr1")


def test_on_a_blank_host_all_is_placed_in_order(new: Converged) -> None:
    plan = Plan(new.fleet, "broker1", Actual("12", profiles={}))
    wanted = [
        (one.kind, one.name)
        for part in plan.parts
        for one in part.resources
        if one.kind not in (Rule.kind, "generations")
    ]
    assert named(plan.changes()) == wanted
    assert (plan.removals(START), plan.removals(RETIRE), plan.refusals, plan.leaving) == ([], [], [], [])
    assert named(plan.changes("zmq_service", START))[-3:] == [
        ("unit", "quotes.service"),
        ("profile", "zmqfleet.quotes"),
        ("peers", "quotes.service"),
    ]


def test_a_manifest_is_written_ahead_and_holds_what_will_be_ours(new: Converged) -> None:
    manifest = Plan(new.fleet, "broker1", Actual("12")).manifest
    assert manifest
    entries = [json.loads(line) for line in manifest.splitlines()]
    assert [(entry["kind"], entry["name"]) for entry in entries if "quotes" in entry["name"]] == [
        *sorted([("user", "quotes")]),
        *reversed(
            [one for one in OF_QUOTES if one[0] not in ("user", "profile", "peers") and "quotes" in one[1]]
        ),
        ("unit", "quotes.service"),
        ("profile", "zmqfleet.quotes"),
        ("peers", "quotes.service"),
    ]
    kinds = {entry["kind"] for entry in entries}
    assert kinds == {"user", "directory", "file", "link", "key", "rule", "table", "peers", "profile", "unit"}


def test_what_is_there_already_as_it_should_be_is_used_and_not_owned(new: Converged) -> None:
    actual = Actual("12", users={"quotes": "/opt/zmqfleet/quotes:/usr/sbin/nologin:quotes"})
    actual.paths["/etc/zmqfleet/quotes"] = entry("directory", "755")
    plan = Plan(new.fleet, "broker1", actual)
    assert plan.refusals == []
    assert plan.manifest
    assert '"name": "quotes"}' not in plan.manifest.replace('"kind": "key", "name": "quotes", ', "")
    assert '"name": "/etc/zmqfleet/quotes"}' not in plan.manifest
    assert not {("user", "quotes"), ("directory", "/etc/zmqfleet/quotes")} & set(named(plan.changes()))
    # and so it stays when the service goes
    placed = [json.loads(line) for line in plan.manifest.splitlines()]
    found = fleet_of(new.project.root, GROUPS, [{**CLIENT, "connects": []}])
    assert isinstance(found, Fleet)
    later = Plan(found, "broker1", Actual("12", manifest=placed))
    removed = [(removal.kind, removal.name) for removal in later.removals(RETIRE)]
    assert removed == [
        one for one in OF_QUOTES if one[1:] not in {("quotes",), ("/etc/zmqfleet/quotes",)} or one[0] == "key"
    ]


def test_a_manifest_that_says_so_already_is_not_written_again(converged: Converged) -> None:
    assert {host: converged.plan(host).manifest for host in converged.hosts} == dict.fromkeys(converged.hosts)


# --- what leaves


def test_a_service_leaves_unit_first_and_the_rest_last_placed_first(converged: Converged) -> None:
    converged.then({**CLIENT, "connects": []})
    plan = converged.plan("broker1")
    assert [(one.kind, one.name) for one in plan.removals(START)] == [("unit", "quotes.service")]
    assert [(one.kind, one.name) for one in plan.removals(RETIRE)] == OF_QUOTES
    assert {str(one) for one in plan.removals(RETIRE)} == {
        f"{kind} {name}: no longer declared" for kind, name in OF_QUOTES
    }
    commands = {one.name: one.commands for one in plan.removals(RETIRE)}
    assert commands["/etc/systemd/system/quotes.service"] == (
        ("rm", "-f", "--", "/etc/systemd/system/quotes.service"),
        ("systemctl", "daemon-reload"),
    )
    assert commands["quotes.orders 5555"] == ()
    converged.run()
    assert [path for path in converged.hosts["broker1"].paths if "quotes" in path] == []
    assert converged.hosts["broker1"].users == {}


def test_a_rule_that_leaves_is_kept_until_its_process_is_gone(converged: Converged) -> None:
    converged.then({**CLIENT, "connects": []})
    plan = converged.plan("broker1")
    during, after = (text(plan, "/etc/zmqfleet/firewall.nft", kept) for kept in (True, False))
    assert "\tset leaving_5555_v4 {\n\t\ttype ipv4_addr\n\t\telements = { 192.0.2.4 }\n" in during
    assert "tcp dport 5555 ip saddr @leaving_5555_v4 accept" in during
    assert "tcp dport 5555 counter reject with icmpx admin-prohibited" in during
    assert "5555" not in after
    seen: list[tuple[bool, bool]] = []

    def look(host: ModelHost) -> None:
        if host.name == "broker1":
            seen.append(("quotes.service" in host.processes, "dport 5555" in host.table))

    Engine(converged.hosts, check=look).run(converged.fleet)
    assert list(dict.fromkeys(seen)) == [(True, True), (False, True), (False, False)]


def test_a_rule_that_leaves_gives_way_where_its_port_is_anothers(converged: Converged) -> None:
    orders = {**SERVICE["endpoints"][0], "allow": ["strangers", "gateways"]}
    other = {**SERVICE, "name": "other", "endpoints": [orders]}
    converged.then(other, {**CLIENT, "connects": []})
    during = text(converged.plan("broker1"), "/etc/zmqfleet/firewall.nft", kept=True)
    assert "leaving_5555" not in during
    assert "leaving_5556_v4" in during
    assert "tcp dport 5555 ip saddr @other_orders_v4 accept" in during
    # the stranger has to wait: the service that is there would have to let it in
    assert during.count("elements = { 192.0.2.4 }") == 2
    assert converged.run().errors == {}
    table = converged.hosts["broker1"].paths["/etc/zmqfleet/firewall.nft"].data.decode()
    assert "elements = { 192.0.2.4, 192.0.2.5 }" in table
    assert converged.hosts["broker1"].processes["other.service"].ports == (5555,)


def test_an_endpoint_that_moves_to_another_port_is_another_rule(converged: Converged) -> None:
    moved = [{**SERVICE["endpoints"][0], "port": 6000}, *SERVICE["endpoints"][1:]]
    converged.then({**SERVICE, "endpoints": moved}, CLIENT)
    plan = converged.plan("broker1")
    assert [(one.kind, one.name) for one in plan.removals(RETIRE)] == [("rule", "quotes.orders 5555")]
    during = text(plan, "/etc/zmqfleet/firewall.nft", kept=True)
    assert "set leaving_5555_v4" in during
    assert "set quotes_orders_v4" in during


def test_a_port_of_two_rules_that_leave_is_open_to_those_alone_whom_both_allowed(
    converged: Converged,
) -> None:
    converged.then({**CLIENT, "connects": []})
    actual = converged.hosts["broker1"].actual(converged.fleet)
    rule = {"capability": "firewall", "kind": "rule", "port": 5555}
    for name, peers in {"other.a": ["192.0.2.4", "192.0.2.5"], "third.a": ["192.0.2.9", "192.0.2.4"]}.items():
        actual.manifest.append({**rule, "name": f"{name} 5555", "endpoint": name, "peers": peers})
    during = text(Plan(converged.fleet, "broker1", actual), "/etc/zmqfleet/firewall.nft", kept=True)
    assert during.count("leaving_5555_v4 {") == 1
    assert "set leaving_5555_v4 {\n\t\ttype ipv4_addr\n\t\telements = { 192.0.2.4 }\n" in during


def test_what_a_rule_will_be_is_ours_to_say_when_it_is_in_force(converged: Converged) -> None:
    """A run that failed before that must not open the port to more than it was, should the service go."""
    orders = {**SERVICE["endpoints"][0], "allow": ["strangers"]}
    converged.then({**SERVICE, "endpoints": [orders]}, {**CLIENT, "connects": []})

    def peers(manifest: str | None) -> list[str]:
        entries = [json.loads(line) for line in (manifest or "").splitlines()]
        return next(entry["peers"] for entry in entries if entry["name"] == "quotes.orders 5555")

    plan = converged.plan("broker1")
    assert peers(plan.manifest) == []
    assert peers(plan.final_manifest) == ["192.0.2.5"]
    assert converged.run().errors == {}
    assert peers(converged.hosts["broker1"].paths["/etc/zmqfleet/manifest"].data.decode()) == ["192.0.2.5"]


def test_what_a_newer_version_has_placed_stays_in_the_manifest(converged: Converged) -> None:
    manifest = converged.hosts["broker1"].paths["/etc/zmqfleet/manifest"]
    policy = b'{"capability": "mac", "kind": "policy", "name": "quotes"}\n'
    converged.hosts["broker1"].paths["/etc/zmqfleet/manifest"] = replace(
        manifest, data=manifest.data + policy
    )
    converged.then({**CLIENT, "connects": []})
    assert converged.run().errors == {}
    assert policy in converged.hosts["broker1"].paths["/etc/zmqfleet/manifest"].data
    assert converged.plan("broker1").forecast == []


def test_what_still_listens_keeps_its_rule(converged: Converged) -> None:
    converged.then({**CLIENT, "connects": []})
    plan = converged.plan("broker1")
    assert plan.still_listening == (
        "port 5555 of quotes.orders is no longer declared, but quotes.service listens there: stop that"
    )
    plan.actual.listeners.clear()
    assert Plan(plan.fleet, plan.host, plan.actual).still_listening == ""


# --- what is not ours

# how it comes to be there, what it is called, and in what it differs
FOREIGN: dict[str, tuple[Callable[[Actual], Any], str, str]] = {
    "unit": (
        lambda a: a.units.update(
            {"quotes.service": {"LoadState": "loaded", "FragmentPath": "/lib/systemd/x"}}
        ),
        "unit quotes.service",
        "is that of /lib/systemd/x",
    ),
    "user": (
        lambda a: a.users.update(quotes="/home/quotes:/bin/bash:quotes"),
        "user quotes",
        "home, shell and groups /home/quotes:/bin/bash:quotes",
    ),
    "file": (
        lambda a: a.paths.update({"/etc/zmqfleet/quotes/environment": entry("regular file", "644")}),
        "file /etc/zmqfleet/quotes/environment",
        "mode 644",
    ),
    "directory": (
        lambda a: a.paths.update({"/opt/zmqfleet/quotes": entry("symbolic link", "777")}),
        "directory /opt/zmqfleet/quotes",
        "is a symbolic link",
    ),
    "link": (
        lambda a: a.paths.update({"/opt/zmqfleet/quotes/current": entry("directory", "755")}),
        "link /opt/zmqfleet/quotes/current",
        "is a directory",
    ),
}


def entry(kind: str, mode: str) -> Entry:
    return Entry(kind, mode, "root", "root", 0)


def refused(new: Converged, monkeypatch: pytest.MonkeyPatch, actual: Actual, message: str) -> None:
    """The host is, with nothing but this message and nothing done; the others converge."""
    assert Plan(new.fleet, "broker1", actual).refusals == [message]
    monkeypatch.setattr(new.hosts["broker1"], "actual", lambda fleet: copy.deepcopy(actual))
    assert new.run().errors["broker1"] == f"broker1: {message}"
    assert new.hosts["broker1"].manifest() == []
    assert new.hosts["broker1"].packages == set()
    assert new.hosts["broker2"].processes.keys() == {"quotes.service", "zmqfleet-firewall.service"}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_not_ours_is_refused_by_name_before_anything_is_placed(
    new: Converged, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    place, what, why = FOREIGN[kind]
    actual = Actual("12")
    place(actual)
    message = (
        f"{what} is on the host, and no run of zmqfleet has placed it ({why}): give the service another name, or "
        "remove it there"
    )
    refused(new, monkeypatch, actual, message)


def test_a_port_at_which_others_listen_is_refused_before_anything_is_placed(
    new: Converged, monkeypatch: pytest.MonkeyPatch
) -> None:
    actual = Actual("12", listeners={5556: {"nginx.service"}, 22: {"sshd"}, 7777: {"python3"}})
    message = "port 5556 of quotes.ticks is taken by nginx.service: stop that, or take another"
    refused(new, monkeypatch, actual, message)


def test_what_is_ours_and_was_changed_is_put_right(converged: Converged) -> None:
    host = converged.hosts["broker1"]
    host.users["quotes"] = "/home/quotes:/bin/bash:quotes"
    host._touch("/etc/zmqfleet/quotes/environment", mode="666")
    plan = converged.plan("broker1")
    assert plan.refusals == []
    assert plan.forecast == [
        "user quotes: home, shell and groups /home/quotes:/bin/bash:quotes",
        "file /etc/zmqfleet/quotes/environment: mode 666",
        "unit quotes.service: runs with an earlier /etc/zmqfleet/quotes/environment",
    ]
    assert converged.run().errors == {}
    assert converged.plan("broker1").forecast == []


@pytest.mark.parametrize(
    ("kind", "path", "found"),
    [
        ("file", "/etc/zmqfleet/quotes/environment", "directory"),
        ("directory", "/opt/zmqfleet/quotes/releases", "symbolic link"),
        ("link", "/opt/zmqfleet/quotes/current", "directory"),
    ],
)
def test_what_stands_in_the_way_of_ours_is_refused(
    converged: Converged, kind: str, path: str, found: str
) -> None:
    actual = converged.hosts["broker1"].actual(converged.fleet)
    actual.paths[path] = entry(found, "755")
    assert Plan(converged.fleet, "broker1", actual).refusals == [
        f"{kind} {path} is a {found}: remove it there"
    ]


def test_a_link_where_a_builder_is_to_put_a_program_is_refused(converged: Converged) -> None:
    path = release(converged.fleet, converged.fleet.services["quotes"]).on_builder
    actual = converged.hosts["builder1"].actual(converged.fleet)
    actual.paths[path] = entry("symbolic link", "777")
    assert Plan(converged.fleet, "builder1", actual).refusals == [
        f"file {path} is a symbolic link: remove it there"
    ]


def test_a_manifest_that_is_gone_is_written_anew(converged: Converged) -> None:
    host = converged.hosts["broker1"]
    before = host.manifest()
    del host.paths["/etc/zmqfleet/manifest"]
    assert converged.plan("broker1").forecast == ["file /etc/zmqfleet/manifest: missing"]
    assert converged.run().errors == {}
    assert sorted(map(str, host.manifest())) == sorted(map(str, before))
    assert converged.plan("broker1").forecast == []


def test_nothing_is_taken_away_while_the_manifest_is_gone(converged: Converged) -> None:
    del converged.hosts["broker1"].paths["/etc/zmqfleet/manifest"]
    moved = {**SERVICE, "env": {"REGION": "eu-2"}}
    converged.then(moved, CLIENT)
    refused = (
        "file /etc/zmqfleet/quotes/environment is on the host, and no run of zmqfleet has placed it (content): "
        "/etc/zmqfleet/manifest is gone, so converge what was declared until now, and then change it"
    )
    assert converged.plan("broker1").refusals == [refused]


def test_old_keys_stay_where_the_new_one_is_not_known(converged: Converged) -> None:
    converged.then(SERVICE, {**CLIENT, "name": "renamed"})
    clients = "directory /etc/zmqfleet/quotes/clients: holds gateway1.quotes-client.key"
    assert clients not in converged.plan("broker1").forecast
    converged.fleet.public_key_file(converged.fleet.identities("gateway1")[1]).write_text("x" * 40)
    assert clients in converged.plan("broker1").forecast


# --- what follows from what


def test_what_changes_triggers_what_runs_with_it(converged: Converged) -> None:
    converged.then({**SERVICE, "env": {"REGION": "eu-2"}}, CLIENT)
    plan = converged.plan("broker1")
    assert [(str(change), change.triggered) for change in plan.changes()] == [
        ("step what quotes runs with, kept: /etc/zmqfleet/quotes/environment changes", True),
        ("file /etc/zmqfleet/quotes/environment: content", False),
        ("unit quotes.service: /etc/zmqfleet/quotes/environment changes", True),
    ]
    assert plan.forecast == [
        "file /etc/zmqfleet/quotes/environment: content",
        "unit quotes.service: /etc/zmqfleet/quotes/environment changes",
    ]
    assert [host for host in converged.hosts if converged.plan(host).forecast] == ["broker1", "broker2"]


def test_a_table_that_changes_is_loaded(converged: Converged) -> None:
    wider = {**SERVICE["endpoints"][0], "allow": ["gateways", "strangers"]}
    converged.then({**SERVICE, "endpoints": [wider, *SERVICE["endpoints"][1:]]}, CLIENT)
    plan = converged.plan("broker1")
    assert plan.forecast[:2] == [
        "file /etc/zmqfleet/firewall.nft: content",
        "table inet zmqfleet: content",
    ]
    assert "directory /etc/zmqfleet/quotes/clients: holds" not in "".join(plan.forecast)
    assert "file /etc/zmqfleet/quotes/clients/stranger1.probe.key: missing" in plan.forecast


def test_a_service_is_held_to_its_peers(new: Converged) -> None:
    open_to_all = {**SERVICE["endpoints"][0], "name": "open", "port": 5560, "allow": ["strangers"]}
    bound = {**SERVICE["endpoints"][1], "bind": "198.51.100.7"}
    egress = ["2001:db8::/32", "10.20.0.0/16", "192.0.2.4"]
    services = [
        {**SERVICE, "endpoints": [SERVICE["endpoints"][0], bound, open_to_all], "egress": egress},
        {**CLIENT, "connects": ["quotes.orders", "quotes.ticks"]},
    ]
    found = fleet_of(new.project.root, GROUPS, services)
    assert isinstance(found, Fleet)
    assert peers(found, "broker1") == {
        # itself, the gateway, the stranger; by the order of GROUPS' names
        "quotes.service": "10.20.0.0/16 192.0.2.1/32 192.0.2.4/32 192.0.2.5/32 198.51.100.7/32 2001:db8::/32"
    }
    # nobody but both brokers, where they bind: its own endpoint is on loopback
    assert peers(found, "gateway1") == {
        "quotes-client.service": "192.0.2.1/32 192.0.2.2/32 192.0.2.4/32 198.51.100.7/32"
    }


def peers(found: Fleet, host: str) -> dict[str, str]:
    resources = [one for part in Plan(found, host, Actual("12")).parts for one in part.resources]
    return {one.name: " ".join(one.networks) for one in resources if isinstance(one, Peers)}


def test_a_table_is_ours_where_its_file_is(converged: Converged) -> None:
    """As hosts have it that were converged before manifests knew of tables."""
    manifest = "/etc/zmqfleet/manifest"
    for host in converged.hosts.values():
        lines = host.paths[manifest].data.decode().splitlines(keepends=True)
        without = "".join(line for line in lines if '"kind": "table"' not in line)
        host.paths[manifest] = replace(host.paths[manifest], data=without.encode())
    wider = {**SERVICE["endpoints"][0], "allow": ["gateways", "strangers"]}
    converged.then({**SERVICE, "endpoints": [wider, *SERVICE["endpoints"][1:]]}, CLIENT)
    converged.run()
    assert ("table", "inet zmqfleet") in converged.hosts["broker1"].manifest()
    assert "192.0.2.5" in converged.hosts["broker1"].table


def test_what_goes_back_goes_back_to_its_peers_too(converged: Converged) -> None:
    path = "/etc/zmqfleet/quotes/peers"
    converged.then({**SERVICE, "egress": ["10.0.0.1"]}, CLIENT)
    assert converged.run().errors == {}
    (converged.project.root / "src" / "main.go").write_text("package main\n\nfunc main() { panic(1) }\n")
    converged.then({**SERVICE, "egress": ["10.0.0.2"]}, CLIENT)
    broken = release(converged.fleet, converged.fleet.services["quotes"]).on_host
    for host in converged.hosts.values():
        host.broken.add(broken)
    assert "quotes" in converged.run().errors["broker1"]
    # what was put back may talk to whom it talked to, and to those who have moved meanwhile
    back = converged.hosts["broker1"].paths[path].data.decode().split()
    assert {"10.0.0.1/32", "10.0.0.2/32"} <= set(back)
    assert converged.hosts["broker1"].peers["quotes.service"] == ["127.0.0.0/8", "::1/128", *back]


def test_a_table_of_that_name_that_nobody_has_placed_is_not_taken_over(new: Converged) -> None:
    (refusal,) = Plan(new.fleet, "broker1", Actual("12", tables={"inet zmqfleet": "digest"})).refusals
    assert refusal == (
        "table inet zmqfleet is on the host, and no run of zmqfleet has placed it (content): remove it there"
    )


# --- keys of others


def test_a_key_that_nobody_has_seen_leaves_what_is_there(new: Converged) -> None:
    path = "/etc/zmqfleet/quotes-client/endpoints.json"
    plan = Plan(new.fleet, "gateway1", Actual("12"))
    (file,) = [one for part in plan.parts for one in part.resources if one.name == path]
    assert isinstance(file, File)
    assert isinstance(file.content, Pending)
    why = (
        "needs the public key of quotes on broker1, quotes on broker2, which no run has seen yet: it comes once that "
        "host is converged"
    )
    assert f"file {path}: {why}" in plan.forecast
    plan.actual.paths[path] = entry("regular file", "644")
    assert not any(path in line for line in Plan(new.fleet, "gateway1", plan.actual).forecast)


def test_a_host_whose_peers_were_never_seen_fails_and_says_so(new: Converged) -> None:
    engine, run = Engine(new.hosts), HostRun(new.fleet, "gateway1", HOLDER)
    for phase in (HostRun.read, *engine.phases(new.fleet)):
        if not engine.errors:  # as of a run that is limited to this host
            engine.follow(run, phase(run))
    assert engine.errors["gateway1"].startswith(
        "gateway1: /etc/zmqfleet/quotes-client/endpoints.json: needs the public key of quotes on broker1, quotes on "
        "broker2, which no run has seen yet"
    )
    assert "quotes-client.service" not in new.hosts["gateway1"].processes


def forget(converged: Converged, identity: str) -> None:
    """The controller has not seen a key, and the host that has it is not in the run."""
    (converged.fleet.state / "curve" / f"{identity}.pub").unlink()


def alone(converged: Converged, host: str) -> Engine:
    """A run that is limited to one host."""
    engine, run = Engine(converged.hosts), HostRun(converged.fleet, host, HOLDER)
    for phase in (HostRun.read, *engine.phases(converged.fleet)):
        engine.follow(run, phase(run))
    return engine


def test_a_client_that_was_never_seen_keeps_nobody_else_waiting(converged: Converged) -> None:
    key = "/etc/zmqfleet/quotes/clients/gateway1.quotes-client.key"
    converged.then({**SERVICE, "env": {"REGION": "eu-2"}}, CLIENT)
    forget(converged, "gateway1/quotes-client")
    del converged.hosts["broker1"].paths[key]
    why = (
        "needs the public key of quotes-client on gateway1, which no run has seen yet: it comes once that host is "
        "converged"
    )
    assert f"file {key}: {why}" in converged.plan("broker1").forecast
    engine = alone(converged, "broker1")
    assert engine.errors == {}
    assert f"broker1: {key}: {why}" in engine.warnings
    assert converged.plan("broker1").forecast == [f"file {key}: {why}"]


def test_what_cannot_be_compared_is_said(converged: Converged) -> None:
    assert converged.plan("gateway1").undecided == []
    forget(converged, "broker1/quotes")
    assert converged.plan("gateway1").forecast == []
    said = (
        "not compared: file /etc/zmqfleet/quotes-client/endpoints.json: needs the public key of quotes on broker1, "
        "which no run has seen yet: it comes once that host is converged"
    )
    assert converged.plan("gateway1").undecided == [said]


def test_peers_are_told_the_address_that_an_endpoint_is_bound_to(converged: Converged) -> None:
    bound = copy.deepcopy(SERVICE)
    bound["endpoints"][0]["bind"] = "198.51.100.7"
    beside = {**CLIENT, "hosts": "brokers", "connects": ["quotes.orders", "quotes.health"]}
    bound["endpoints"][0]["allow"] = ["brokers"]
    converged.then(bound, beside)
    data = json.loads(text(converged.plan("broker1"), "/etc/zmqfleet/quotes-client/endpoints.json"))
    assert {
        name: [(peer["host"], peer["endpoint"]) for peer in peers] for name, peers in data["connects"].items()
    } == {
        "quotes.orders": [("broker1", "tcp://198.51.100.7:5555"), ("broker2", "tcp://198.51.100.7:5555")],
        "quotes.health": [("broker1", "tcp://127.0.0.1:5557")],
    }


# --- who is started when


class Broken(dict[str, Any]):
    """A host's processes, of which one unit's never starts."""

    def __init__(self, unit: str, processes: dict[str, Any]) -> None:
        super().__init__(processes)
        self.unit = unit

    def __setitem__(self, unit: str, process: Any) -> None:
        if unit == self.unit:
            raise Failed(f"{unit}: does not stay up")
        super().__setitem__(unit, process)


def test_clients_of_a_server_that_does_not_start_stay_as_they_are(converged: Converged) -> None:
    moved = {**SERVICE["endpoints"][0], "port": 5755}
    converged.then({**SERVICE, "endpoints": [moved, *SERVICE["endpoints"][1:]]}, CLIENT)
    first = converged.hosts["broker1"]
    first.processes = Broken("quotes.service", first.processes)
    gateway = converged.hosts["gateway1"]
    path = "/etc/zmqfleet/quotes-client/endpoints.json"
    before = gateway.paths[path].data, gateway.processes["quotes-client.service"]
    engine = converged.run()
    assert engine.errors == {"broker1": "broker1: quotes.service: does not stay up"}
    assert {
        "quotes stays as it is on broker2: it did not start on broker1",
        "quotes-client stays as it is on gateway1: quotes did not start on broker1",
    } <= set(engine.warnings)
    assert (gateway.paths[path].data, gateway.processes["quotes-client.service"]) == before


def test_clients_of_a_server_that_does_not_start_and_has_not_moved_go_on(converged: Converged) -> None:
    converged.then({**SERVICE, "env": {"REGION": "eu-2"}}, {**CLIENT, "env": {"REGION": "eu-2"}})
    first = converged.hosts["broker1"]
    first.processes = Broken("quotes.service", first.processes)
    engine = converged.run()
    assert list(engine.errors) == ["broker1"]
    assert converged.plan("gateway1").forecast == []


def test_other_services_of_a_host_on_which_one_does_not_start_go_on(converged: Converged) -> None:
    new = {**SERVICE, "name": "a-new", "endpoints": [{**SERVICE["endpoints"][0], "port": 5600}]}
    converged.then(new, {**SERVICE, "env": {"REGION": "eu-2"}}, CLIENT)
    host = converged.hosts["broker1"]
    host.processes = Broken("a-new.service", host.processes)
    before = host.processes["quotes.service"]
    engine = converged.run()
    assert engine.errors == {"broker1": "broker1: a-new.service: does not stay up"}
    assert host.processes["quotes.service"] != before
    assert b"eu-2" in host.paths["/etc/zmqfleet/quotes/environment"].data


def test_what_goes_back_finds_the_servers_that_have_moved(converged: Converged) -> None:
    moved = {**SERVICE["endpoints"][0], "port": 5755}
    health = {**CLIENT["endpoints"][0], "port": 5577}
    converged.then(
        {**SERVICE, "endpoints": [moved, *SERVICE["endpoints"][1:]]}, {**CLIENT, "endpoints": [health]}
    )
    gateway = converged.hosts["gateway1"]
    (converged.project.root / "src" / "main.go").write_text("package main\n\nfunc main() { x }\n")
    converged.then(
        {**SERVICE, "endpoints": [moved, *SERVICE["endpoints"][1:]]}, {**CLIENT, "endpoints": [health]}
    )
    gateway.broken.add(release(converged.fleet, converged.fleet.services["quotes-client"]).on_host)
    engine = converged.run()
    assert list(engine.errors) == ["gateway1"]
    told = json.loads(gateway.paths["/etc/zmqfleet/quotes-client/endpoints.json"].data)
    assert {peer["endpoint"] for peer in told["connects"]["quotes.orders"]} == {
        "tcp://192.0.2.1:5755",
        "tcp://192.0.2.2:5755",
    }
    assert told["binds"]["health"]["endpoint"] == "tcp://127.0.0.1:5567"
    assert gateway.processes["quotes-client.service"].ports == (5567,)


def test_a_first_release_that_does_not_listen_fails_again_each_time(new: Converged) -> None:
    host = new.hosts["broker1"]
    host.deaf.add(release(new.fleet, new.fleet.services["quotes"]).on_host)
    for _ in range(2):
        assert "broker1" in new.run().errors
        assert new.plan("broker1").forecast == ["unit quotes.service: was not proven to run"]
    host.deaf.clear()
    assert new.run().errors == {}
    assert new.plan("broker1").forecast == []


def test_a_new_service_that_does_not_run_gives_back_the_port_that_it_was_to_have(
    converged: Converged,
) -> None:
    moved = {**SERVICE["endpoints"][0], "port": 5755}
    taker = {**SERVICE, "name": "a-taker", "endpoints": [SERVICE["endpoints"][0]]}
    converged.then(
        {**SERVICE, "endpoints": [moved, *SERVICE["endpoints"][1:]]}, taker, {**CLIENT, "connects": []}
    )
    host = converged.hosts["broker1"]
    host.broken.add(release(converged.fleet, converged.fleet.services["a-taker"]).on_host)
    for _ in range(2):
        engine = converged.run()
        assert "broker1" in engine.errors
        assert "quotes.service" in host.processes
    host.broken.clear()
    assert converged.run().errors == {}
    assert converged.plan("broker1").forecast == []


def test_a_unit_without_a_service_starts_anew_when_what_it_runs_with_changes(converged: Converged) -> None:
    host = converged.hosts["broker1"]
    path = "/etc/systemd/system/zmqfleet-firewall.service"
    host.paths[path] = replace(host.paths[path], data=b"other")
    done = recorded(host)
    assert converged.run().errors == {}
    commands = [one.command for one in done if isinstance(one, Execute)]
    assert ("/usr/local/lib/zmqfleet/unit-start", "zmqfleet-firewall.service") in commands


def test_what_a_host_has_made_is_given_its_mode_and_owner_and_nothing_is_sent(converged: Converged) -> None:
    host = converged.hosts["builder1"]
    path = release(converged.fleet, converged.fleet.services["quotes"]).on_builder
    host.paths[path] = replace(host.paths[path], mode="700", owner="zmq-build")
    done = recorded(host)
    assert converged.run().errors == {}
    assert Execute(("chown", "root:root", path)) in done
    assert Execute(("chmod", "755", path)) in done
    assert [one for one in done if isinstance(one, Put) and one.file.path == path] == []


def recorded(host: ModelHost) -> list[Action]:
    """What is done on a host from now on."""
    done: list[Action] = []
    original = host.do
    host.do = lambda fleet, action: (done.append(action), original(fleet, action))[1]  # type: ignore[method-assign]
    return done


def test_a_link_in_place_of_a_file_goes_before_the_file_is_written(converged: Converged) -> None:
    host = converged.hosts["broker1"]
    path = "/etc/zmqfleet/quotes/environment"
    host._put(path, "symbolic link", b"/somewhere", "777", "root", "root")
    done = recorded(host)
    assert converged.run().errors == {}
    places = [place for place, one in enumerate(done) if isinstance(one, Put) and one.file.path == path]
    assert done[places[0] - 1] == Execute(("rm", "-f", "--", path))


def test_a_user_loses_groups_that_are_not_its_own(converged: Converged) -> None:
    host = converged.hosts["broker1"]
    host.users["quotes"] += " sudo"
    assert converged.run().errors == {}
    assert host.users["quotes"] == "/opt/zmqfleet/quotes:/usr/sbin/nologin:quotes"
    host.users["quotes"] += ":uid-0"
    assert "user quotes is root by its number: remove it there" in converged.plan("broker1").refusals


def test_an_allow_list_spares_nobody_whose_name_only_begins_like_that_of_a_host_without_a_key(
    converged: Converged,
) -> None:
    (converged.fleet.state / "curve" / "gateway1" / "quotes-client.pub").unlink()
    fleet = converged.then(SERVICE, CLIENT)
    clients = "/etc/zmqfleet/quotes/clients"
    for name in ("gateway1.old-name", "gateway1.example.probe"):
        converged.hosts["broker1"]._put(f"{clients}/{name}.key", "regular file", b"", "644", "root", "root")
    plan = Plan(fleet, "broker1", converged.hosts["broker1"].actual(fleet))
    assert f"directory {clients}: holds gateway1.example.probe.key" in plan.forecast


def test_who_hands_a_port_over_is_known_and_goes_with_who_gets_it(converged: Converged) -> None:
    assert [converged.plan(host).handed_over for host in converged.hosts] == [{}] * len(converged.hosts)
    moved = {**SERVICE["endpoints"][0], "port": 5755}
    taker = {**SERVICE, "name": "a-taker", "endpoints": [SERVICE["endpoints"][0]]}
    converged.then({**SERVICE, "endpoints": [moved]}, taker, {**CLIENT, "connects": ["quotes.orders"]})
    assert converged.plan("broker1").handed_over == {"a-taker": ["quotes"]}
    run = Engine(converged.hosts).read(converged.fleet)["broker1"]
    assert len(converged.fleet.turns) == 2
    first, last = ({change.part.service for change in run.foreseen(ROLL_OUT, turn=turn) if isinstance(change, Change)}
                   for turn in (0, 1))  # fmt: skip
    assert (first, last) == ({"a-taker", "quotes"}, set())


def test_services_that_hand_ports_to_each_other_stay_together(converged: Converged) -> None:
    def two(first: int, second: int, region: str) -> list[dict[str, Any]]:
        orders = {**SERVICE["endpoints"][0]}
        a = {**SERVICE, "endpoints": [{**orders, "port": first}], "env": {"REGION": region}}
        b = {**SERVICE, "name": "other", "endpoints": [{**orders, "port": second}]}
        return [a, b]

    converged.then(*two(5555, 5556, "eu-1"))
    assert converged.run().errors == {}
    converged.then(*two(5556, 5555, "eu-2"))
    for broker in ("broker1", "broker2"):
        converged.hosts[broker].processes = Broken("quotes.service", converged.hosts[broker].processes)
    second = dict(converged.hosts["broker2"].processes)
    engine = converged.run()
    assert list(engine.errors) == ["broker1"]
    assert "other stays as it is on broker2: quotes did not start on broker1" in engine.warnings
    assert dict(converged.hosts["broker2"].processes) == second


def test_servers_have_their_turn_before_those_that_connect_to_them(new: Converged) -> None:
    def named_by_turn(*services: dict[str, Any]) -> list[list[str]]:
        found = fleet_of(new.project.root, GROUPS, [*services])
        assert isinstance(found, Fleet), found
        return [[service.name for service in turn] for turn in found.turns]

    third = {
        **CLIENT,
        "name": "a-third",
        "connects": [],
        "endpoints": [{**CLIENT["endpoints"][0], "port": 5577}],
    }
    assert named_by_turn(CLIENT, SERVICE) == [["quotes"], ["quotes-client"]]
    assert named_by_turn(third, CLIENT, SERVICE) == [["a-third", "quotes"], ["quotes-client"]]


def test_public_keys_complete_what_peers_are_told(converged: Converged) -> None:
    data = json.loads(text(converged.plan("gateway1"), "/etc/zmqfleet/quotes-client/endpoints.json"))
    shown = {
        host: converged.hosts[host].actual(converged.fleet).keys["quotes"] for host in ("broker1", "broker2")
    }
    peers = data["connects"]["quotes.orders"]
    assert [(peer["host"], peer["endpoint"], peer["server_key"]) for peer in peers] == [
        ("broker1", "tcp://192.0.2.1:5555", shown["broker1"]),
        ("broker2", "tcp://192.0.2.2:5555", shown["broker2"]),
    ]


# --- rulesets


def test_ruleset_opens_a_port_to_its_peers_only(new: Converged) -> None:
    table = text(Plan(new.fleet, "broker1", Actual("12")), "/etc/zmqfleet/firewall.nft")
    assert table.count("elements = { 192.0.2.4 }") == 2
    assert "tcp dport 5555 ip saddr @quotes_orders_v4 accept" in table
    assert "tcp dport 5555 counter reject with icmpx admin-prohibited" in table
    assert "@quotes_health" not in table
    assert "192.0.2.5" not in table


def test_ipv6_peers_get_a_set_of_their_own(new: Converged) -> None:
    object.__setattr__(new.fleet.hosts["gateway1"], "address", "2001:db8::4")
    table = text(Plan(new.fleet, "broker1", Actual("12")), "/etc/zmqfleet/firewall.nft")
    assert "type ipv6_addr" in table
    assert "tcp dport 5555 ip6 saddr @quotes_orders_v6 accept" in table


# --- order is nobody's business


@pytest.mark.parametrize("seed", range(20))
def test_the_order_of_lists_changes_nothing(new: Converged, seed: int) -> None:
    chance = random.Random(seed)
    orders = {**SERVICE["endpoints"][0], "allow": ["gateways", "strangers", "builders"]}
    another = {**CLIENT, "name": "another", "endpoints": [{**CLIENT["endpoints"][0], "port": 6000}]}
    services = [{**SERVICE, "endpoints": [orders, *SERVICE["endpoints"][1:]]}, CLIENT, another]

    def shuffled(found: Any) -> Any:
        if isinstance(found, list):
            return chance.sample([shuffled(one) for one in found], len(found))
        if isinstance(found, dict):
            return {key: shuffled(found[key]) for key in chance.sample(list(found), len(found))}
        return found

    one = fleet_of(new.project.root, GROUPS, services)
    other = fleet_of(new.project.root, shuffled(GROUPS), shuffled(services))
    assert isinstance(one, Fleet)
    assert isinstance(other, Fleet)
    assert {host: described(one, host) for host in one.hosts} == {
        host: described(other, host) for host in one.hosts
    }


def described(found: Fleet, host: str) -> list[str]:
    return [
        f"{part.phase} {part.capability} {one}"
        for part in desired.parts(found, host)
        for one in part.resources
    ]


def test_no_part_states_a_thing_twice_and_differently(new: Converged) -> None:
    for host in new.fleet.hosts:
        every = [one for part in parts(new.fleet, host) for one in part.resources]
        by_name: dict[tuple[str, str], Any] = {}
        for one in every:
            assert by_name.setdefault((one.kind, one.name), one) == one
        places = [one.path for one in set(every) if isinstance(one, File | Link)]
        assert len(places) == len(set(places)), host
        assert not [
            one for one in every if isinstance(one, File) and isinstance(one.content, Made) and one.owned
        ]
