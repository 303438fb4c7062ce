"""What the fleet derives: peers and the keys that they are known by; defaults are those of the specification."""

from pathlib import Path

import pytest
import yaml
from team_project import CLIENT, SERVICE, Project

from zmqfleet import fleet
from zmqfleet.desired import parts
from zmqfleet.fleet.addresses import addresses
from zmqfleet.fleet.model import Endpoint
from zmqfleet.resources import File, Inline


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


def test_an_instance_connects_to_the_others_of_its_own_service(project: Project) -> None:
    mesh = {**SERVICE, "connects": ["quotes.orders"]}
    mesh["endpoints"] = [{**SERVICE["endpoints"][0], "allow": ["brokers", "gateways"]}]
    project.write(zmq_services=[mesh, {**CLIENT, "connects": ["quotes.orders"]}])
    found = load(project)
    quotes, client = found.services["quotes"], found.services["quotes-client"]
    assert [peers for _, _, peers in found.servers("broker1", quotes)] == [["broker2"]]
    assert [peers for _, _, peers in found.servers("broker2", quotes)] == [["broker1"]]
    assert [peers for _, _, peers in found.servers("gateway1", client)] == [["broker1", "broker2"]]
    assert found.has_key(quotes)
    assert [(c.host, c.name) for c in found.clients(quotes, "broker1")] == [
        ("broker1", "quotes"),
        ("broker2", "quotes"),
        ("gateway1", "quotes-client"),
    ]


def test_peers_use_the_address_that_is_theirs(project: Project) -> None:
    project.hosts.write_text(
        project.hosts.read_text().replace(
            "ansible_host: 192.0.2.2", "ansible_host: 127.0.0.1\n          zmq_address: 10.20.0.2"
        )
    )
    found = load(project)
    assert found.hosts["broker1"].ssh()[-1] == "127.0.0.1"
    placed = {
        one.path: one.content.data.decode()
        for host in ("gateway1", "broker2")
        for part in parts(found, host)
        for one in part.resources
        if isinstance(one, File) and isinstance(one.content, Inline)
    }
    assert "10.20.0.2/32\n" in placed["/etc/zmqfleet/quotes-client/peers"]
    assert not [path for path, text in placed.items() if "127.0.0.1:5555" in text]
    found.hosts["gateway1"].variables["zmq_address"] = "10.20.0.4"
    ruleset = next(
        one.content.data.decode()
        for part in parts(found, "broker1")
        for one in part.resources
        if isinstance(one, File) and one.path.endswith("firewall.nft") and isinstance(one.content, Inline)
    )
    assert "10.20.0.4" in ruleset
    assert "192.0.2.4" not in ruleset


@pytest.mark.parametrize(
    "way",
    ["ansible_port: 2202", "ansible_ssh_common_args: -J other.example.com"],
    ids=["another port", "another bastion"],
)
def test_ssh_may_find_several_hosts_at_one_address(project: Project, way: str) -> None:
    text = project.hosts.read_text()
    for number, more in ((2, ""), (3, f"\n          {way}")):
        apart = f"ansible_host: 127.0.0.1\n          zmq_address: 10.20.0.{number}{more}"
        text = text.replace(f"ansible_host: 192.0.2.{number}", apart)
    project.hosts.write_text(text)
    found = load(project)
    assert [found.hosts[name].peer_address for name in ("broker1", "broker2")] == ["10.20.0.2", "10.20.0.3"]


def test_an_address_of_peers_may_be_a_name(project: Project) -> None:
    host = load(project).hosts["broker1"]
    host.variables["zmq_address"] = "localhost"
    assert set(addresses(host)) <= {"127.0.0.1", "::1"}


def test_what_hosts_print_is_shown_without_secrets(project: Project) -> None:
    env = {"REGION": "eu-1", "TOKEN": "hunter22", "LONGER": "hunter22hunter22", "SIGNS": 'p"<w&rd-1'}
    env |= {"PEER": "gateway1", "AT": "192.0.2.2", "NEAR": "10.20.0.4"}
    project.write(zmq_services=[{**SERVICE, "env": env}, CLIENT])
    found = load(project)
    found.hosts["gateway1"].variables["zmq_address"] = "10.20.0.4"
    told = "panic in eu-1: hunter22 hunter22hunter22! get https://me:hunter2@goproxy.example.com/x: 401"
    shown = "panic in eu-1: *** ***! get https://***@goproxy.example.com/x: 401"
    assert found.masked(told) == shown
    assert found.masked("https://me:p@ss@goproxy.example.com") == "https://***@goproxy.example.com"
    # as loggers print it, and in a URL
    assert found.masked(r'{"dsn":"p\"\u003cw\u0026rd-1"} p%22%3Cw%26rd-1') == '{"dsn":"***"} ***'
    for address in ("192.0.2.2", "10.20.0.4"):
        assert found.masked(f"at {address}") == f"at {address}", "a message without its subject"
    assert found.masked("mail me@example.com") == "mail me@example.com"


def test_defaults_equal_the_specification() -> None:
    for path in sorted(Path(fleet.__file__).parents[3].glob("roles/*/defaults/main.yml")):
        specification = yaml.safe_load((path.parents[1] / "meta" / "argument_specs.yml").read_text())
        options = specification["argument_specs"]["main"]["options"]
        # the fleet itself, and what it is by default depends on the host
        free = ("zmq_services", "zmq_address")
        declared = {name: option["default"] for name, option in options.items() if name not in free}
        assert yaml.safe_load(path.read_text()) == declared, path


def test_passwords_for_private_modules_are_roots_on_build_hosts_alone(project: Project) -> None:
    entry = {"machine": "goproxy.example.com", "login": "builder", "password": "hunter2-8c21"}
    assert netrcs(project) == {}
    project.write(zmq_services=[SERVICE, CLIENT], golang_netrc=[entry, {**entry, "machine": "192.0.2.7"}])
    assert netrcs(project) == {
        "builder1": (
            "600",
            (
                b"machine goproxy.example.com login builder password hunter2-8c21\n"
                b"machine 192.0.2.7 login builder password hunter2-8c21\n"
            ),
        )
    }
    assert load(project).masked("401 for builder:hunter2-8c21") == "401 for builder:***"


def netrcs(project: Project) -> dict[str, tuple[str, bytes]]:
    found = load(project)
    return {
        host: (one.mode, one.content.data)
        for host in found.hosts
        for part in parts(found, host)
        for one in part.resources
        if isinstance(one, File) and one.path == "/etc/zmqfleet/netrc" and isinstance(one.content, Inline)
    }


@pytest.mark.parametrize(
    ("bind", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("127.255.0.9", True),
        ("::1", True),
        ("0:0:0:0:0:0:0:1", True),
        ("*", False),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.127", False),
        ("2001:db8::1", False),
    ],
)
def test_an_endpoint_is_on_loopback_however_that_is_written(bind: str, is_loopback: bool) -> None:
    assert Endpoint("health", "REP", 5557, "null", ("all",), bind).loopback is is_loopback
