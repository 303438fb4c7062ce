"""What the fleet derives: peers, keys, rulesets, releases, and each host's view."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from team_project import CLIENT, SERVICE, Project

from zmqfleet import fleet
from zmqfleet.fleet.view import release


def load(project: Project) -> fleet.Fleet:
    return fleet.load(project.root, project.inventory)


def test_allowed_peers_are_the_members_of_the_groups(project: Project) -> None:
    found = load(project)
    quotes = found.services["quotes"]
    assert found.allowed(quotes, quotes.endpoint("orders"), "broker1") == ["gateway1"]
    assert found.allowed(quotes, quotes.endpoint("health"), "broker1") == ["broker1"]


def test_allow_list_holds_the_clients_key_and_else_the_probes(project: Project) -> None:
    wider = {**SERVICE, "endpoints": [{**SERVICE["endpoints"][0], "allow": ["gateways", "builders"]}]}
    project.write(zmq_services=[wider, {**CLIENT, "connects": ["quotes.orders"]}])
    found = load(project)
    clients = found.clients(found.services["quotes"], "broker1")
    assert [(c.host, c.name) for c in clients] == [("builder1", "probe"), ("gateway1", "quotes-client")]


def test_a_host_is_given_only_what_it_needs(project: Project) -> None:
    found = load(project)
    assert list(fleet.view(found, "stranger1").capabilities) == ["zmq_probe", "firewall"]
    assert list(fleet.view(found, "builder1").capabilities) == [
        "zeromq",
        "golang",
        "zmq_build",
        "zmq_probe",
        "firewall",
    ]
    assert "gcc" in fleet.view(found, "builder1").all("packages")
    assert "gcc" not in fleet.view(found, "broker1").all("packages")


def test_no_view_states_a_path_twice(project: Project) -> None:
    found = load(project)
    for host in found.hosts:
        for kind in ("files", "directories", "links", "units", "users"):
            names = [getattr(item, "path", None) or item.name for item in fleet.view(found, host).all(kind)]
            assert len(names) == len(set(names)), (host, kind)


def test_ruleset_opens_a_port_to_its_peers_only(project: Project) -> None:
    ruleset = fleet.view(load(project), "broker1").ruleset
    assert "elements = { 192.0.2.4 }" in ruleset
    assert "tcp dport 5555 ip saddr @quotes_orders_v4 accept" in ruleset
    assert "tcp dport 5555 counter reject with icmpx admin-prohibited" in ruleset
    assert "@quotes_health" not in ruleset
    assert "192.0.2.5" not in ruleset


def test_ipv6_peers_get_a_set_of_their_own(project: Project) -> None:
    project.hosts.write_text(project.hosts.read_text().replace("192.0.2.4", "2001:db8::4"))
    ruleset = fleet.view(load(project), "broker1").ruleset
    assert "type ipv6_addr" in ruleset
    assert "tcp dport 5555 ip6 saddr @quotes_orders_v6 accept" in ruleset


def test_release_follows_from_every_input_of_the_build_and_nothing_else(project: Project) -> None:
    first = release(load(project), load(project).services["quotes"]).id
    (project.root / "src" / "main.go").touch()
    assert release(load(project), load(project).services["quotes"]).id == first
    (project.root / "src" / "main.go").write_text("package main\n")
    second = release(load(project), load(project).services["quotes"]).id
    assert second != first
    project.write(zmq_services=[SERVICE, CLIENT], golang_version="1.25.3")
    assert release(load(project), load(project).services["quotes"]).id != second
    project.write(zmq_services=[{**SERVICE, "build": {"source": "src", "package": "./cmd/serve"}}, CLIENT])
    assert release(load(project), load(project).services["quotes"]).id not in (first, second)
    project.write(zmq_services=[{**SERVICE, "build": {"source": "src", "package": "."}}, CLIENT])
    assert release(load(project), load(project).services["quotes"]).id == second, "`.` is the default"


def test_services_of_one_module_share_a_source_archive(project: Project) -> None:
    serving = {**SERVICE, "build": {"source": "src", "package": "./cmd/serve"}}
    project.write(zmq_services=[serving, CLIENT])
    found = load(project)
    one, other = (release(found, service) for service in found.services.values())
    assert (one.package, other.package) == ("./cmd/serve", ".")
    assert one.on_builder != other.on_builder
    assert one.archive_on_builder == other.archive_on_builder
    files = fleet.view(found, "builder1").capabilities["zmq_build"].files
    assert [file.path for file in files].count(one.archive_on_builder) == 1
    (project.root / "src" / "go.sum").write_text("\n")
    assert release(load(project), found.services["quotes"]).archive_on_builder != one.archive_on_builder


def test_public_keys_complete_the_view(project: Project) -> None:
    found = load(project)

    def contents() -> list[str | None]:
        files = fleet.view(found, "gateway1").capabilities["zmq_service quotes-client"].files
        return [file.content for file in files if file.path.endswith("endpoints.json")]

    assert contents() == [None]
    for broker in ("broker1", "broker2"):
        path = found.public_key_file(fleet.Identity(broker, "quotes"))
        path.parent.mkdir(parents=True)
        path.write_text("k" * 40 + "\n")
    (text,) = contents()
    assert text is not None
    peers = json.loads(text)["connects"]["quotes.orders"]
    assert [(peer["host"], peer["endpoint"], peer["server_key"]) for peer in peers] == [
        ("broker1", "tcp://192.0.2.2:5555", "k" * 40),
        ("broker2", "tcp://192.0.2.3:5555", "k" * 40),
    ]


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_view_is_printed_for_people_and_machines(project: Project, arguments: list[str]) -> None:
    command = [sys.executable, "-m", "zmqfleet", "view", "broker1", *arguments, *project.arguments]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    data = json.loads(output) if arguments else yaml.safe_load(output)
    assert data["host"] == "broker1"
    assert {
        "service": "quotes",
        "endpoint": "orders",
        "socket": "ROUTER",
        "address": "*",
        "port": 5555,
    } in data["listening"]
    assert data["allowed"]["quotes.orders"] == ["192.0.2.4"]
    assert data["probe"]
    assert any(file["path"] == "/etc/systemd/system/quotes.service" for file in data["files"])


def test_unknown_host_names_the_nearest(project: Project) -> None:
    command = [sys.executable, "-m", "zmqfleet", "view", "brokr1", *project.arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert "no host 'brokr1'; did you mean 'broker1'?" in run.stderr


def test_defaults_equal_the_specification() -> None:
    for path in sorted(Path(fleet.__file__).parents[3].glob("roles/*/defaults/main.yml")):
        specification = yaml.safe_load((path.parents[1] / "meta" / "argument_specs.yml").read_text())
        options = specification["argument_specs"]["main"]["options"]
        declared = {name: option["default"] for name, option in options.items() if not option.get("required")}
        assert yaml.safe_load(path.read_text()) == declared, path
