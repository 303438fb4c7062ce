"""Programs that know little of zmqfleet, the example pipeline: no sd_notify, no endpoints, arguments, a state; zmq4."""

import time
from typing import Any

import pytest
from labs import ENGINES, pipeline
from teams import Team

ODD = 'a "b" \\ $HOME ${HOME} %n; exit'  # what systemd or a shell would make something else of
DONE = "/var/lib/zmqfleet-state/worker/done"
PIPELINE = pipeline()

both_engines = pytest.mark.parametrize("engine", ENGINES)


def heard(lab: Team, host: str) -> set[str]:
    """The hosts that presence has heard there."""
    said = lab.sh(host, "journalctl -u presence -o cat | grep 'is there'; true")
    return {line.rpartition("host=")[2] for line in said.splitlines()}


def done(lab: Team) -> int:
    return int(lab.sh("gateway1", f"cat {DONE}"))


def test_they_run_and_talk_and_nothing_else_does(team: Team) -> None:
    assert team.forecast("pyinfra") == set()
    assert team.drift() == set()
    assert team.sh("gateway1", "stat -c '%a %U' /var/lib/zmqfleet-state/worker") == "700 worker\n"
    before = done(team)
    deadline = time.monotonic() + 60
    while done(team) <= before:
        assert time.monotonic() < deadline, "no job arrives"
        time.sleep(1)
    while any(heard(team, host) != {"broker1", "broker2"} for host in ("broker1", "broker2")):
        assert time.monotonic() < deadline, "not all are heard by all"
        time.sleep(1)
    status, report = team.probe()
    assert status == 0
    sources: dict[tuple[str, str], set[str]] = {}
    for cell in report["cells"]:
        sources.setdefault((cell["endpoint"], cell["socket"]), set()).add(cell["source"])
    # each of the five hosts tries both feeders, with keys that are admitted, unknown, missing, and of no server
    assert sources["jobs", "PUSH"] == set(team.fleet.hosts)
    assert sources["in", "XSUB"] == sources["out", "XPUB"] == set(team.fleet.hosts) - {"gateway1"}


@both_engines
def test_arguments_arrive_as_they_are_and_a_state_outlives_a_change(team: Team, engine: str) -> None:
    before = done(team)
    changed = team.declare(worker={"args": ["--every", "7", "--", engine, ODD, ""]})
    assert {host for host, _ in changed.converge(engine)} == {"gateway1"}
    command = changed.sh("gateway1", "tr '\\0' '\\n' </proc/$(systemctl show -P MainPID worker)/cmdline")
    assert command.split("\n")[1:] == ["--every", "7", "--", engine, ODD, "", ""]
    journal = changed.sh("gateway1", "journalctl -u worker -o cat | grep ready | tail -1")
    assert int(journal.rpartition("done=")[2]) >= before
    assert changed.drift() == set()


@both_engines
@pytest.mark.parametrize(
    ("feeder", "worker", "why"),
    [
        ({}, {"type": "notify", "start_timeout": 4}, "has not said READY=1 within 4s, its start_timeout"),
        (
            {"start_timeout": 4, "endpoints": [*PIPELINE[0]["endpoints"], {
                "name": "silent", "socket": "REP", "port": 5572, "security": "null", "allow": ["all"]}]},
            {},
            "runs, but nothing listens at port 5572 after 4 s",
        ),
    ],
    ids=["never ready", "never listens"],
)  # fmt: skip
def test_one_that_is_not_ready_in_time_goes_back_and_says_why(
    team: Team, engine: str, feeder: dict[str, Any], worker: dict[str, Any], why: str
) -> None:
    host, unit = ("broker1", "feeder") if feeder else ("gateway1", "worker")
    bad = team.declare(feeder=feeder, worker=worker)
    failed = bad.engine(engine)
    assert failed.status != 0
    assert f"{unit}.service: {why}" in failed.output
    assert f"{unit}.service: runs as before" in failed.output
    assert bad.sh(host, f"systemctl is-active {unit}") == "active\n"
    team.declare().converge(engine)
    assert team.drift() == set()
