"""Hosts with kernels of their own, which enforce what a container's cannot."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from labs import Lab, blank, pipeline, project, variables

# AppArmor: a profile that allows nothing denies all
_DENIED = (
    "echo 'profile nothing { }' >/tmp/nothing; apparmor_parser --replace /tmp/nothing; "
    "aa-exec -p nothing -- /bin/true 2>/dev/null || echo denied; "
    "apparmor_parser --remove /tmp/nothing; rm /tmp/nothing"
)
_CONFINED = "echo $(cat /sys/fs/selinux/enforce); id -Z | cut -d: -f3"
_ENFORCES = {"broker1": (_DENIED, "denied\n"), "gateway1": (_CONFINED, "1\nunconfined_t\n")}


def declared(mac: str = "enforce", before: str = "/bin/sh -c 'test -d /tmp'") -> dict[str, Any]:
    """This project's services, with a mode of AppArmor, and the pipeline where that is: on zmq4, one with a state, one
    with a credential and a command that is run `before` it."""
    found = variables()
    feeder, worker = pipeline()
    worker["hosts"] = "brokers"
    feeder.update(credentials={"token": "kept"}, unit={"Service": {"ExecStartPre": before}})
    feeder["endpoints"][0]["allow"] = [worker["hosts"]]
    found["zmq_services"] = [*({**one, "mac": mac} for one in found["zmq_services"]), feeder, worker]
    return found


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with blank("kernels", 3, "--vm", "apparmor,selinux") as found:
        at = found.of(project(tmp_path_factory.mktemp("kernels") / "project", declared()))
        at.engine("ansible").must_succeed()
        yield at


def boot(lab: Lab, host: str) -> str:
    """What tells a boot of a host's kernel from any other; empty if it does not answer."""
    return lab.sh(host, "cat /proc/sys/kernel/random/boot_id", check=False)


def told(lab: Lab) -> list[str]:
    """What `zmqfleet drift` says beside what differs."""
    found: list[str] = json.loads(lab.run("zmqfleet", "drift", "--json").stdout)["warnings"]
    return found


def label(lab: Lab) -> str:
    """What AppArmor labels the process of quotes with."""
    return lab.sh("broker1", "cat /proc/$(systemctl show -P MainPID quotes)/attr/current").strip()


def profiles(lab: Lab) -> set[str]:
    """The profiles in the kernel that has AppArmor, and their modes."""
    return set(lab.sh("broker1", "cat /sys/kernel/security/apparmor/profiles").splitlines())


def all_is_well(lab: Lab) -> None:
    """All is as declared, reachable as declared, and nothing that a service does is denied."""
    assert lab.drift() == set()
    assert told(lab) == []
    # without KVM, and beside other suites, a guest may take seconds for a handshake
    status, report = lab.probe("--timeout", "15")
    assert (status, len(report["cells"])) == (0, 22), report


@pytest.mark.parametrize("host", _ENFORCES)
def test_a_guest_enforces_and_is_whole(lab: Lab, host: str) -> None:
    command, said = _ENFORCES[host]
    assert lab.sh(host, command) == said
    assert lab.sh(host, "systemctl is-system-running; hostname") == f"running\n{host}\n"


def test_each_has_a_kernel_of_its_own(lab: Lab) -> None:
    assert len({boot(lab, host) for host in lab.fleet.hosts}) == 3


def test_services_run_there_as_everywhere(lab: Lab) -> None:
    assert lab.converge("pyinfra") == set()
    all_is_well(lab)


def test_services_come_back_after_a_power_cut_and_a_reboot(lab: Lab) -> None:
    before = {host: boot(lab, host) for host in ("broker1", "gateway1")}
    lab.sh("gateway1", "systemctl reboot", check=False)
    with lab.down("broker1"):
        deadline = time.monotonic() + 300
        while boot(lab, "gateway1") in ("", before["gateway1"]):
            assert time.monotonic() < deadline
            time.sleep(1)
    assert boot(lab, "broker1") not in ("", before["broker1"])
    all_is_well(lab)


def test_services_are_confined(lab: Lab) -> None:
    assert label(lab) == "zmqfleet.quotes (enforce)"
    rows = json.loads(lab.run("zmqfleet", "status", "--json").stdout)["services"]
    assert {(row["service"], row["apparmor"]) for row in rows} == {
        ("quotes", "enforce"),
        ("feeder", "enforce"),
        ("worker", "enforce"),
        ("quotes-client", ""),  # on SELinux' host
    }


def test_a_service_can_do_what_it_has_to_and_nothing_else(lab: Lab) -> None:
    intruder = (Path(__file__).parent / "intruder.py").read_text()
    # by root, outside the unit's sandbox: it is AppArmor alone that denies
    denied = json.loads(lab.sh("broker1", "python3 -", intruder))
    assert denied == [
        "read its key",
        "read its environment",
        "read another's key",
        "read passwords",
        "read homes",
        "read another's environment",
        "write its endpoints",
        "write beside its program",
        "write for cron",
        "run another program",
        "run a program of its own",
        "listen to all packets",
        "make packets",
        "signal others",
        "trace others",
        "mount",
        "name the host",
    ]
    lines = told(lab)
    # the kernel says no more than ten in a row
    for rule in ('"/etc/shadow" r,', '"/etc/zmqfleet/quotes/endpoints.json" w,'):
        assert any(
            line.startswith("broker1: quotes: apparmor=DENIED ") and line.endswith(rule) for line in lines
        ), lines
    # since its start: what was before is of no interest any more
    lab.run("zmqfleet", "restart", "quotes").must_succeed()
    assert told(lab) == []


def test_a_start_that_it_denies_is_told_and_goes_back(lab: Lab, tmp_path: Path) -> None:
    failed = lab.of(project(tmp_path / "denied", declared(before="/bin/sh -c /usr/bin/id"))).engine("pyinfra")
    assert failed.status != 0
    assert 'apparmor="DENIED" operation="exec"' in failed.output
    assert 'name="/usr/bin/id"' in failed.output
    assert "feeder.service: runs as before" in failed.output
    assert lab.converge("pyinfra")
    assert told(lab) == []


def test_a_service_is_confined_no_longer_than_declared(lab: Lab, tmp_path: Path) -> None:
    others = {one for one in profiles(lab) if not one.startswith("zmqfleet.quotes ")}
    lab.sh("broker1", "printf zmqfleet.quotes >/sys/kernel/security/apparmor/.remove")
    assert lab.drift() == {
        ("broker1", "unit quotes.service: is unconfined to AppArmor, not zmqfleet.quotes (enforce)"),
        ("broker1", "profile zmqfleet.quotes: missing"),
    }
    assert lab.of(project(tmp_path / "complain", declared("complain"))).converge("pyinfra")
    assert label(lab) == "zmqfleet.quotes (complain)"
    assert lab.of(project(tmp_path / "none", declared("none"))).converge("ansible")
    assert (label(lab), profiles(lab)) == ("unconfined", others)
    assert lab.sh("broker1", "ls /etc/zmqfleet/quotes").split().count("apparmor") == 0
    # a rule of the site's that AppArmor does not understand
    local = "/etc/apparmor.d/local/zmqfleet.quotes"
    lab.sh("broker1", f"echo no rule >{local}")
    failed = lab.engine("ansible")
    assert failed.status != 0
    assert "quotes.service: does not start without its profile of AppArmor" in failed.output
    assert "quotes.service: runs as before" in failed.output
    assert label(lab) == "unconfined"
    lab.sh("broker1", f"rm {local}")
    assert lab.converge("ansible")
    assert (label(lab), profiles(lab)) == (
        "zmqfleet.quotes (enforce)",
        {*others, "zmqfleet.quotes (enforce)"},
    )
    all_is_well(lab)


def test_services_that_move_or_are_removed_leave_no_profile(lab: Lab, tmp_path: Path) -> None:
    others = {one for one in profiles(lab) if not one.startswith("zmqfleet.")}
    moved = variables()
    moved["zmq_services"] = [{**one, "hosts": "gateways"} for one in moved["zmq_services"]]
    assert lab.of(project(tmp_path / "moved", moved)).converge("pyinfra")
    assert profiles(lab) == others
    assert not {"quotes", "feeder", "worker"} & set(lab.sh("broker1", "ls /etc/zmqfleet").split())
