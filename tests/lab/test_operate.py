"""What operators do with services that run: status, logs, restart, rollback, releases."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from labs import Lab, project, variables

from zmqfleet.releases import release

BROKERS = ("broker1", "broker2")


def invocations(lab: Lab) -> dict[str, str]:
    return {host: lab.sh(host, "systemctl show -P InvocationID quotes") for host in BROKERS}


def rows(lab: Lab, *hosts: str) -> tuple[int, dict[tuple[str, str], dict[str, object]]]:
    done = lab.run("zmqfleet", "status", "--json", *hosts)
    found = json.loads(done.stdout)["services"]
    return done.status, {(row["service"], row["host"]): row for row in found}


def test_status_tells_how_each_service_is_on_each_host(lab: Lab) -> None:
    status, found = rows(lab)
    assert status == 0, found
    assert set(found) == {("quotes", "broker1"), ("quotes", "broker2"), ("quotes-client", "gateway1")}
    row = found["quotes", "broker1"]
    declared = release(lab.fleet, lab.fleet.services["quotes"]).id
    assert (row["state"], row["release"], row["declared"], row["drift"]) == (
        "active",
        declared,
        declared,
        False,
    )
    assert row["endpoints"] == {"orders": True, "ticks": True, "health": True}
    started = lab.sh("broker1", 'date +%s -d "$(systemctl show -P ExecMainStartTimestamp quotes)"')
    assert abs(row["since"] - int(started)) < 2
    made = lab.sh("broker1", "echo $(($(date +%s) - $(stat -c %Z /etc/zmqfleet/quotes/curve.key_secret)))")
    assert abs(row["key_age"] - int(made)) < 5

    lab.sh("broker1", "systemctl stop quotes")
    try:
        status, found = rows(lab)
        assert status == 1
        row = found["quotes", "broker1"]
        assert (row["state"], row["since"], row["drift"]) == ("inactive", None, True)
        assert row["endpoints"] == {"orders": False, "ticks": False, "health": False}
        table = lab.run("zmqfleet", "status", "brokers")
        assert table.status == 1
        head, first, second = table.stdout.splitlines()
        assert head.split() == [
            "SERVICE",
            "HOST",
            "STATE",
            "FOR",
            "RELEASE",
            "ENDPOINTS",
            "KEY",
            "APPARMOR",
            "DRIFT",
        ]
        assert first.split()[:4] == ["quotes", "broker1", "inactive", "-"]
        assert "silent: orders, ticks, health" in first
        assert second.split()[:3] == ["quotes", "broker2", "active"]
        assert second.endswith("no")
        assert set(rows(lab, "quotes")[1]) == {("quotes", "broker1"), ("quotes", "broker2")}
        assert set(rows(lab, "quotes-client", "broker1")[1]) == {
            ("quotes", "broker1"),
            ("quotes-client", "gateway1"),
        }
    finally:
        lab.sh("broker1", "systemctl start quotes")


def test_status_tells_whom_it_could_not_ask(lab: Lab) -> None:
    with lab.down("broker1"):
        done = lab.run("zmqfleet", "status", "brokers")
    assert done.status == 2
    assert [line.split(":")[0].split()[0] for line in done.stdout.splitlines()] == [
        "SERVICE",
        "quotes",
        "quotes",
        "broker1",
    ]
    assert [line.split()[1:3] for line in done.stdout.splitlines()[1:3]] == [
        ["broker1", "unknown"],
        ["broker2", "active"],
    ]
    assert (
        lab.run("zmqfleet", "status", "stranger1").must_succeed().stdout == "no service is declared there\n"
    )
    assert lab.run("zmqfleet", "status", "brokrs").status == 2
    assert "did you mean 'brokers'?" in lab.run("zmqfleet", "status", "brokrs").stderr


def test_restart_takes_one_host_after_the_other(lab: Lab) -> None:
    before = invocations(lab)
    client = lab.sh("gateway1", "systemctl show -P InvocationID quotes-client")
    done = lab.run("zmqfleet", "restart", "quotes").must_succeed()
    assert done.stdout.splitlines() == [
        "broker1: starts quotes.service, and waits until it runs",
        "broker1: unit quotes.service: started anew",
        "broker2: starts quotes.service, and waits until it runs",
        "broker2: unit quotes.service: started anew",
    ]
    after = invocations(lab)
    assert all(before[host] != after[host] for host in BROKERS)
    assert lab.sh("gateway1", "systemctl show -P InvocationID quotes-client") == client
    assert lab.drift() == set()
    assert lab.sh("broker1", "ls /run/zmqfleet.lock 2>/dev/null; true") == ""

    failed = lab.run("zmqfleet", "restart", "quots")
    assert failed.status == 2
    assert "no service 'quots'; did you mean 'quotes'?" in failed.stderr


@pytest.fixture
def failing(lab: Lab) -> Iterator[None]:
    """quotes of broker1 cannot be started any more."""
    directory = "/run/systemd/system/quotes.service.d"
    lab.sh(
        "broker1",
        f"mkdir -p {directory}; printf '[Service]\\nExecStartPre=/bin/false\\n' >{directory}/50-fails.conf",
    )
    yield
    lab.sh("broker1", f"rm -r {directory}; systemctl daemon-reload")
    lab.converge("pyinfra")
    assert lab.drift() == set()


@pytest.mark.usefixtures("failing")
def test_a_restart_that_fails_touches_no_other_host(lab: Lab) -> None:
    before = invocations(lab)
    failed = lab.run("zmqfleet", "restart", "quotes")
    assert failed.status == 2
    assert "zmqfleet: broker1: " in failed.stderr
    assert "not touched: broker2" in failed.stderr
    assert invocations(lab)["broker2"] == before["broker2"]


@pytest.fixture
def changed(lab: Lab, tmp_path: Path) -> Iterator[Lab]:
    """The lab, with quotes of a changed source, which are rolled out."""
    found = lab.of(project(tmp_path / "project"))
    main = found.project / "examples" / "quotes" / "cmd" / "quotes" / "main.go"
    main.write_text(main.read_text().replace("func main() {", 'func main() {\n\tprintln("the newer one")', 1))
    found.converge("pyinfra")
    yield found
    lab.converge("pyinfra")
    assert lab.drift() == set()


def listed(lab: Lab) -> list[list[str]]:
    return [line.split(maxsplit=2) for line in lab.run("zmqfleet", "releases", "quotes").stdout.splitlines()]


def test_a_release_goes_back_and_comes_again(lab: Lab, changed: Lab) -> None:
    old, new = (release(one.fleet, one.fleet.services["quotes"]).id for one in (lab, changed))
    assert ["broker1", new, "runs, declared"] in listed(changed)
    assert ["broker2", old, "ran before"] in listed(changed)
    client = lab.sh("gateway1", "systemctl show -P InvocationID quotes-client")

    refused = changed.run("zmqfleet", "rollback", "quotes", "0123456789abcdef")
    assert refused.status == 2
    assert "quotes has no release 0123456789abcdef on broker1, broker2; all have: " in refused.stderr
    assert old in refused.stderr

    # the newest there are, and do not run: not what to go back to
    failed = "/opt/zmqfleet/quotes/releases/00000000000000ff"
    changed.sh("broker1", f"systemctl stop quotes; touch /opt/zmqfleet/quotes/releases/{new}")
    for host in BROKERS:
        changed.sh(host, f"mkdir {failed}; cp /bin/false {failed}/quotes")
    assert ["broker2", "00000000000000ff", "not known to have run"] in listed(changed)
    done = changed.run("zmqfleet", "rollback", "quotes").must_succeed()
    assert done.stdout.splitlines() == [
        line
        for host in BROKERS
        for line in (
            f"{host}: starts quotes.service, and waits until it runs",
            f"{host}: link /opt/zmqfleet/quotes/current: releases/{old}",
            f"{host}: unit quotes.service: started anew",
        )
    ]
    for host in BROKERS:
        exe = f"/opt/zmqfleet/quotes/releases/{old}/quotes"
        assert changed.sh(host, "readlink /proc/$(systemctl show -P MainPID quotes)/exe") == f"{exe}\n"
    assert ["broker1", old, "runs"] in listed(changed)
    assert lab.sh("gateway1", "systemctl show -P InvocationID quotes-client") == client
    said = changed.drift()
    assert ("broker1", f"link /opt/zmqfleet/quotes/current: leads to releases/{old}") in said
    assert {host for host, _ in said} == set(BROKERS)
    assert rows(changed)[1]["quotes", "broker1"]["release"] == old

    again = changed.run("zmqfleet", "rollback", "quotes", old).must_succeed()
    assert again.stdout.splitlines() == [f"{host}: runs {old} already" for host in BROKERS]
    # as if it had been interrupted: one host is where it was
    changed.sh("broker1", f"ln -sfn releases/{new} /opt/zmqfleet/quotes/current; systemctl restart quotes")
    refused = changed.run("zmqfleet", "rollback", "quotes")
    assert refused.status == 2
    assert f"is not of one release on its hosts (broker1 {new}, broker2 {old})" in refused.stderr
    done = changed.run("zmqfleet", "rollback", "quotes", old).must_succeed()
    assert done.stdout.splitlines() == [
        f"broker2: runs {old} already",
        "broker1: starts quotes.service, and waits until it runs",
        f"broker1: link /opt/zmqfleet/quotes/current: releases/{old}",
        "broker1: unit quotes.service: started anew",
    ]
    changed.converge("ansible")
    assert ["broker1", new, "runs, declared"] in listed(changed)
    assert changed.drift() == set()


def test_what_has_not_been_rolled_out_is_not_restarted(lab: Lab, tmp_path: Path) -> None:
    declared = variables()
    declared["zmq_services"][0]["endpoints"][0]["port"] = 5559
    other = lab.of(project(tmp_path / "project", declared))
    before = invocations(lab)
    current = lab.run("zmqfleet", "releases", "quotes", "--json").stdout
    other_release = next(one["release"] for one in json.loads(current)["releases"] if not one["runs"])
    for command in (("restart", "quotes"), ("rollback", "quotes", other_release)):
        refused = other.run("zmqfleet", *command)
        assert refused.status == 2
        assert "the unit or the endpoints of quotes are not those that are declared" in refused.stderr
        assert "converge it first; not touched: broker2" in refused.stderr
    assert invocations(lab) == before


def test_the_journals_of_all_hosts_are_one(lab: Lab) -> None:
    lab.run("zmqfleet", "restart", "quotes").must_succeed()
    lines = lab.run("zmqfleet", "logs", "quotes", "-n", "400").must_succeed().stdout.splitlines()
    times = [line.split()[1] for line in lines]
    assert times == sorted(times)
    assert {line.split(":")[0] for line in lines} == set(BROKERS)
    assert len(lab.run("zmqfleet", "logs", "quotes", "-n", "3").stdout.splitlines()) == 3


def test_a_journal_that_nobody_reads_on_is_not_followed(lab: Lab) -> None:
    lab.run("zmqfleet", "restart", "quotes").must_succeed()
    last = lab.run("zmqfleet", "logs", "quotes", "-n", "3").stdout
    read = "timeout 60 zmqfleet logs -f -n 3 quotes | head -3; exit ${PIPESTATUS[0]}"
    done = lab.run("bash", "-c", read)
    assert done.stdout == last
    assert done.status != 124
    assert "Traceback" not in done.stderr


def test_a_journal_is_followed_until_ctrl_c(lab: Lab) -> None:
    about = {"ZMQFLEET_PROJECT": str(lab.project), "ZMQFLEET_INVENTORY": str(lab.inventory)}
    process = subprocess.Popen(
        # whoever runs the tests in the background ignores Ctrl-C
        ["env", "--default-signal=INT", "zmqfleet", "logs", "-f", "-n", "1", "quotes"],
        env={**os.environ, **about},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    seen: set[str] = set()
    deadline = time.monotonic() + 60
    lab.run("zmqfleet", "restart", "quotes").must_succeed()
    while seen != set(BROKERS):
        assert time.monotonic() < deadline
        line = process.stdout.readline()
        if "Started quotes.service" in line:
            seen.add(line.split(":")[0])
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(20) == 0
