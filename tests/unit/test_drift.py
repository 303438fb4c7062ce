"""What differs between hosts and what is declared: the report, its exit status, and what it says of wrong names."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from click.testing import CliRunner
from host_model import Engine, ModelHost, Modelled
from team_project import Project

from zmqfleet import desired, drift, fleet, remote
from zmqfleet.cli import main
from zmqfleet.drift import Report
from zmqfleet.fleet import Fleet, Identity
from zmqfleet.inventory import Host
from zmqfleet.resources import Entry
from zmqfleet.resources.profile import Denial
from zmqfleet.resources.unit import seconds


@pytest.mark.parametrize(
    ("changes", "unknown", "status", "text"),
    [
        ({"a": [], "b": []}, {}, 0, "2 hosts: 2 as declared, 0 not"),
        ({"a": [], "b": ["x: y", "z"]}, {}, 1, "b: x: y\nb: z\n2 hosts: 1 as declared, 1 not"),
        (
            {"a": [], "b": ["x"]},
            {"c": "no answer"},
            2,
            "b: x\nc: no answer\n3 hosts: 1 as declared, 1 not; 1 unknown",
        ),
        ({}, {"c": "no answer"}, 2, "c: no answer\n1 host: 0 as declared, 0 not; 1 unknown"),
        ({"a": [], "b": ["x"]}, {"b": "y"}, 2, "b: x\nb: y\n2 hosts: 1 as declared, 0 not; 1 unknown"),
    ],
)
def test_a_report_in_words_and_as_an_exit_status(
    changes: dict[str, list[str]], unknown: dict[str, str], status: int, text: str
) -> None:
    report = Report(changes, unknown)
    assert (report.exit_status, report.as_text()) == (status, text)
    assert report.as_json() == {"schema": 1, "changes": changes, "unknown": unknown, "warnings": []}


@pytest.fixture
def found(project: Project) -> Fleet:
    return fleet.load(project.root, project.inventory)


@pytest.fixture
def hosts(found: Fleet, modelled: Modelled, monkeypatch: pytest.MonkeyPatch) -> dict[str, ModelHost]:
    """Hosts as declared, which answer over what would be ssh."""
    hosts = modelled(found, {})
    engine = Engine(hosts)
    engine.run(found)
    assert engine.errors == {}

    def run(host: Host, *command: str, stdin: str = "", seconds: float) -> remote.Answer:
        assert command[:2] == ("sh", "-c")
        return remote.Answer(0, host.name, "")

    monkeypatch.setattr(remote, "run", run)
    return hosts


def told(project: Project, *names: str) -> tuple[int, dict[str, Sequence[str]], dict[str, str]]:
    """What the command says of hosts."""
    run = CliRunner().invoke(main, ["drift", "--json", *names, *project.arguments])
    data = json.loads(run.stdout)
    return run.exit_code, data["changes"], data["unknown"]


def test_hosts_as_declared_have_nothing_to_tell(project: Project, hosts: dict[str, ModelHost]) -> None:
    run = CliRunner().invoke(main, ["drift", *project.arguments])
    assert (run.exit_code, run.output) == (0, "5 hosts: 5 as declared, 0 not\n")
    assert told(project) == (0, {name: [] for name in sorted(hosts)}, {})


def test_what_differs_is_told_by_host_and_nothing_is_changed(
    project: Project, hosts: dict[str, ModelHost]
) -> None:
    hosts["broker1"]._touch("/etc/zmqfleet/quotes/environment", mode="666")
    hosts["broker2"].processes.pop("quotes.service")
    before = dict(hosts["broker1"].paths)
    run = CliRunner().invoke(main, ["drift", *project.arguments])
    assert run.exit_code == 1
    assert run.output.splitlines() == [
        "broker1: file /etc/zmqfleet/quotes/environment: mode 666",
        "broker1: unit quotes.service: runs with an earlier /etc/zmqfleet/quotes/environment",
        "broker2: unit quotes.service: is inactive",
        "5 hosts: 3 as declared, 2 not",
    ]
    assert hosts["broker1"].paths == before


def test_what_is_no_longer_declared_differs(project: Project, hosts: dict[str, ModelHost]) -> None:
    manifest = hosts["stranger1"].paths["/etc/zmqfleet/manifest"]
    entry = b'{"capability": "zmq_service", "kind": "unit", "name": "old.service"}\n'
    hosts["stranger1"].paths["/etc/zmqfleet/manifest"] = replace(manifest, data=manifest.data + entry)
    assert told(project, "stranger1") == (1, {"stranger1": ["unit old.service: no longer declared"]}, {})


def test_who_else_drops_what_comes_in_is_said_and_is_no_drift(
    project: Project, hosts: dict[str, ModelHost]
) -> None:
    hosts["broker2"].filters = {("input", "inet", "firewalld")}
    run = CliRunner().invoke(main, ["drift", *project.arguments])
    warning, summary = run.output.splitlines()
    assert (run.exit_code, summary) == (0, "5 hosts: 5 as declared, 0 not")
    as_json = CliRunner().invoke(main, ["drift", "--json", *project.arguments])
    assert json.loads(as_json.stdout)["warnings"] == [warning]
    assert warning.startswith(
        "broker2: firewalld there drops what it does not allow itself, perhaps tcp 5555"
    )


def test_who_else_drops_what_comes_in_is_said_by_status_too(
    project: Project, hosts: dict[str, ModelHost]
) -> None:
    hosts["broker2"].filters = {("input", "inet", "firewalld")}
    run = CliRunner().invoke(main, ["status", *project.arguments])
    assert run.exit_code == 0
    assert run.output.splitlines()[-1].startswith("broker2: firewalld there drops")
    as_json = json.loads(CliRunner().invoke(main, ["status", "--json", *project.arguments]).stdout)
    assert as_json["warnings"] == [run.output.splitlines()[-1]]


def test_what_apparmor_denies_a_service_since_it_began_to_start_is_told(
    project: Project, hosts: dict[str, ModelHost]
) -> None:
    broker = hosts["broker1"]
    started = int(broker.processes["quotes.service"].started)
    broker.denials = [
        denial
        for number, (at, profile) in enumerate(
            [
                (started - 9, "zmqfleet.quotes"),
                (started - 3, "zmqfleet.quotes"),
                (started + 9, "zmqfleet.quotes"),
                (started + 9, "zmqfleet.other"),
            ]
        )
        if (
            denial := Denial.of(
                f'audit: type=1400 audit({at}.100:{number}): apparmor="DENIED" operation="open" profile="{profile}" '
                f'name="/etc/{number}" requested_mask="r" denied_mask="r"'
            )
        )
    ]
    words = [
        f"broker1: quotes: apparmor=DENIED operation=open name=/etc/{number} denied_mask=r; what would allow it: "
        f'"/etc/{number}" r,'
        for number in (1, 2)
    ]
    for command in ("drift", "status"):
        run = CliRunner().invoke(main, [command, "--json", *project.arguments])
        assert (run.exit_code, json.loads(run.stdout)["warnings"]) == (0, words)


def test_what_was_denied_a_service_that_does_not_run_is_told_from_before_it_ended() -> None:
    at = "Sat 2026-11-21 13:{}:10.500000 UTC".format
    crashed = {"InactiveExitTimestamp": at(53), "ExecMainStartTimestamp": at(54)}
    begun = seconds(at(53))
    assert desired._last_start({**crashed, "ActiveState": "active"}) == begun
    assert desired._last_start({**crashed, "ActiveState": "activating"}) == begun - 60
    # nothing before its program has gone well
    only = {"InactiveExitTimestamp": at(53), "ExecMainStartTimestamp": "", "ActiveState": "failed"}
    assert desired._last_start(only) == begun - 60
    # not started since the host is up
    assert desired._last_start({"ActiveState": "inactive"}) == math.inf


def test_status_tells_what_apparmor_does(project: Project, hosts: dict[str, ModelHost]) -> None:
    labels = {"broker1": "zmqfleet.quotes (enforce)", "broker2": "unconfined"}
    for host, label in labels.items():
        hosts[host].processes["quotes.service"].label = label
    run = CliRunner().invoke(main, ["status", *project.arguments])
    head, *rows = run.output.splitlines()
    column = head.split().index("APPARMOR") - len(head.split())
    assert [row.split()[column:] for row in rows] == [["enforce", "no"], ["unconfined", "yes"], ["-", "no"]]
    assert run.exit_code == 1


def test_status_tells_of_those_that_are_named_and_ends_with_1_if_one_is_not_well(
    project: Project, hosts: dict[str, ModelHost]
) -> None:
    def rows(*names: str) -> tuple[int, list[tuple[str, str]]]:
        run = CliRunner().invoke(main, ["status", "--json", *names, *project.arguments])
        found = json.loads(run.stdout)["services"]
        return run.exit_code, [(one["service"], one["host"]) for one in found]

    on_brokers = [("quotes", "broker1"), ("quotes", "broker2")]
    assert rows() == (0, [*on_brokers, ("quotes-client", "gateway1")])
    assert rows("quotes") == rows("brokers") == (0, on_brokers)
    assert rows("quotes", "gateway1")[1] == [*on_brokers, ("quotes-client", "gateway1")]
    hosts["gateway1"].processes["quotes-client.service"].ports = ()
    assert rows()[0] == 1
    assert rows("quotes")[0] == 0


def test_what_cannot_be_compared_is_unknown(
    project: Project, found: Fleet, hosts: dict[str, ModelHost]
) -> None:
    found.public_key_file(Identity("broker1", "quotes")).unlink()
    hosts["broker1"].paths.pop("/etc/zmqfleet/quotes/curve.key")
    status, changes, unknown = told(project, "gateway1")
    assert (status, changes) == (2, {"gateway1": []})
    assert "not compared: file /etc/zmqfleet/quotes-client/endpoints.json" in unknown["gateway1"]


def test_a_key_that_is_another_one_than_before_is_said(
    project: Project, found: Fleet, hosts: dict[str, ModelHost]
) -> None:
    path = found.public_key_file(Identity("broker1", "quotes"))
    now, before = path.read_text().strip(), "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
    path.write_text(f"{before}\n")
    run = CliRunner().invoke(main, ["drift", *project.arguments])
    assert run.output.startswith(f"broker1: its key quotes is {now} now, and was {before}: ")


@pytest.mark.parametrize(
    ("names", "asked"),
    [
        (["broker1"], ["broker1"]),
        (["brokers"], ["broker1", "broker2"]),
        (["gateways", "broker2", "broker2"], ["broker2", "gateway1"]),
    ],
)
@pytest.mark.usefixtures("hosts")
def test_hosts_are_chosen_by_name_or_group(project: Project, names: list[str], asked: list[str]) -> None:
    assert list(told(project, *names)[1]) == asked


@pytest.mark.usefixtures("hosts")
def test_a_wrong_name_is_refused_with_the_nearest_right_one(project: Project) -> None:
    run = CliRunner().invoke(main, ["drift", "broker1", "brokr2", *project.arguments])
    assert (run.exit_code, run.stdout) == (2, "")
    assert run.stderr == (
        f"zmqfleet: {project.inventory}: no host or group 'brokr2'; did you mean 'broker2'?\n"
    )


def test_a_host_that_cannot_be_asked_is_unknown_and_the_others_are_told_of(
    project: Project, hosts: dict[str, ModelHost], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = remote.run

    def run(host: Host, *command: str, stdin: str = "", seconds: float) -> remote.Answer:
        if host.name == "broker1":
            raise remote.RemoteError("no answer over ssh within 120 s")
        if host.name == "broker2":
            return remote.Answer(255, "", "Permission denied (publickey).\n")
        return answer(host, *command, stdin=stdin, seconds=seconds)

    monkeypatch.setattr(remote, "run", run)
    assert told(project) == (
        2,
        {name: [] for name in ("builder1", "gateway1", "stranger1")},
        {
            "broker1": "no answer over ssh within 120 s",
            "broker2": "cannot be read: Permission denied (publickey).",
        },
    )


def test_a_host_with_something_foreign_is_unknown(
    found: Fleet, hosts: dict[str, ModelHost], monkeypatch: pytest.MonkeyPatch
) -> None:
    actual = hosts["broker1"].actual(found)
    actual.manifest.clear()
    actual.paths["/etc/zmqfleet/quotes/environment"] = Entry("regular file", "600", "root", "root", 0)
    monkeypatch.setattr(hosts["broker1"], "actual", lambda _: actual)
    report = drift.look(found, ["broker1"])
    assert report.exit_status == 2
    assert report.unknown["broker1"].startswith(
        "cannot be converged: file /etc/zmqfleet/quotes/environment is on the host, and no run of zmqfleet has placed "
        "it (mode 600)"
    )


def test_ssh_that_does_not_answer_is_told_in_words(found: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    host = found.hosts["broker1"]
    monkeypatch.setattr(Host, "ssh", lambda self, *command: ["sleep", "60"])
    with pytest.raises(remote.RemoteError, match=r"^no answer over ssh within 0 s$"):
        remote.run(host, "true", seconds=0.01)
    monkeypatch.setattr(Host, "ssh", lambda self, *command: ["/nowhere/ssh"])
    with pytest.raises(remote.RemoteError, match=r"^ssh cannot be run here, or true there: .*/nowhere/ssh"):
        remote.run(host, "true", seconds=60)
    monkeypatch.setattr(Host, "ssh", lambda self, *command: ["sh", "-c", "exec head -c 67108864 /dev/zero"])
    with pytest.raises(remote.RemoteError, match=r"^printed more than 16 MiB$"):
        remote.run(host, "true", seconds=60)
    monkeypatch.setattr(
        Host, "ssh", lambda self, *command: ["sh", "-c", r"printf '\033[2Jbad\r\n\r' >&2; exit 3"]
    )
    assert remote.run(host, "true", seconds=60).stderr == "\N{REPLACEMENT CHARACTER}[2Jbad\n"
    monkeypatch.setattr(Host, "ssh", lambda self, *command: ["sh", "-c", "printf 'a\\377'; cat; exit 7"])
    assert remote.run(host, "true", stdin="b", seconds=60) == remote.Answer(
        7, "a\N{REPLACEMENT CHARACTER}b", ""
    )
