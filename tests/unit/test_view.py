"""What people and programs are shown of a host's desired state."""

import json

import pytest
import yaml
from click.testing import CliRunner
from team_project import CLIENT, SERVICE, Project

from zmqfleet import fleet
from zmqfleet.cli import main
from zmqfleet.view import view_of

SECRET = "plain-as-day-4711"


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_view_is_printed_for_people_and_machines(project: Project, arguments: list[str]) -> None:
    run = CliRunner().invoke(main, ["view", "broker1", *arguments, *project.arguments])
    assert run.exit_code == 0, run.output
    data = json.loads(run.output) if arguments else yaml.safe_load(run.output)
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
    assert data["users"] == [{"name": "quotes", "home": "/opt/zmqfleet/quotes"}]
    assert [one["name"] for one in data["units"]] == ["zmqfleet-firewall.service", "quotes.service"]
    assert [one["path"] for one in data["directories"] if one["exact"]] == ["/etc/zmqfleet/quotes/clients"]
    assert any(file["path"] == "/etc/systemd/system/quotes.service" for file in data["files"])
    assert "tcp dport 5555 ip saddr @quotes_orders_v4 accept" in data["ruleset"]


def test_a_view_states_no_path_twice(project: Project) -> None:
    found = fleet.load(project.root, project.inventory)
    for host in found.hosts:
        data = view_of(found, host)
        for kind in ("files", "directories", "links", "units", "users", "packages"):
            names = [one if isinstance(one, str) else one.get("path") or one["name"] for one in data[kind]]
            assert len(names) == len(set(names)), (host, kind)


def test_a_view_shows_no_secret(project: Project) -> None:
    project.write(zmq_services=[{**SERVICE, "env": {"REGION": SECRET}}, CLIENT])
    found = fleet.load(project.root, project.inventory)
    text = json.dumps([view_of(found, host) for host in found.hosts])
    assert SECRET not in text
    assert '"content": "(secret)"' in text
    shown = CliRunner().invoke(main, ["view", "broker1", "--show-secrets", *project.arguments])
    assert SECRET in shown.stdout


def test_what_cannot_be_known_yet_is_said(project: Project) -> None:
    found = fleet.load(project.root, project.inventory)
    files = {file["path"]: file for file in view_of(found, "gateway1")["files"]}
    assert files["/etc/zmqfleet/quotes-client/endpoints.json"] == {
        "path": "/etc/zmqfleet/quotes-client/endpoints.json",
        "mode": "644",
        "owner": "root",
        "group": "root",
        "pending": "needs the public key of quotes on broker1, quotes on broker2, which no run has seen yet: "
        "it comes once that host is converged",
    }
    built = {file["path"]: file for file in view_of(found, "builder1")["files"]}
    assert [file["made"] for file in built.values() if "made" in file] == ["on the host"] * 2
    (sources,) = (file for file in built.values() if file["path"].endswith(".tar"))
    assert len(sources["sha256"]) == 64, "an archive is no text"


def test_unknown_host_names_the_nearest(project: Project) -> None:
    run = CliRunner().invoke(main, ["view", "brokr1", *project.arguments])
    assert run.exit_code == 2
    assert "no host 'brokr1'; did you mean 'broker1'?" in run.stderr


def test_what_this_machine_refuses_is_told_in_words(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "/x")

    monkeypatch.setattr("zmqfleet.cli.view_of", refuse)
    run = CliRunner().invoke(main, ["view", "broker1", *project.arguments])
    assert (run.exit_code, run.output) == (2, "zmqfleet: [Errno 28] No space left on device: '/x'\n")
