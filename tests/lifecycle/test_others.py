"""What is not ours is not taken over, and another controller is not interrupted."""

import os
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from labs import ENGINES, Lab, project, variables

from zmqfleet import locking

VENDOR = "/usr/lib/systemd/system/ledger.service"


def with_service(path: Path, name: str) -> Path:
    """A project with one more service on the brokers, a copy of quotes."""
    declared = variables()
    quotes = declared["zmq_services"][0]
    endpoints = [{**one, "port": one["port"] + 1000} for one in quotes["endpoints"]]
    declared["zmq_services"].append({**quotes, "name": name, "endpoints": endpoints})
    root = project(path / name)
    (root / "group_vars" / "all.yml").write_text(yaml.safe_dump(declared))
    return root


@contextmanager
def nothing(lab: Lab) -> Iterator[None]:
    yield


@contextmanager
def vendor_unit(lab: Lab) -> Iterator[None]:
    lab.sh("broker1", f"printf '[Service]\\nExecStart=/bin/true\\n' >{VENDOR} && systemctl daemon-reload")
    yield
    lab.sh("broker1", f"rm {VENDOR} && systemctl daemon-reload")


@contextmanager
def link(lab: Lab) -> Iterator[None]:
    lab.sh("broker1", "mkdir -p /srv/mine /opt/zmqfleet && ln -s /srv/mine /opt/zmqfleet/ledger")
    yield
    lab.sh("broker1", "rm /opt/zmqfleet/ledger")


@contextmanager
def listener(lab: Lab) -> Iterator[None]:
    lab.sh("broker1", "systemd-run --quiet --unit=somebodys python3 -m http.server 6555 && sleep 1")
    yield
    lab.sh("broker1", "systemctl stop somebodys")


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("proxy", nothing, "user proxy is on the host, and no run of zmqfleet has placed it"),
        (
            "ledger",
            vendor_unit,
            f"(is that of {VENDOR}",
        ),
        (
            "ledger",
            link,
            "directory /opt/zmqfleet/ledger is on the host, and no run of zmqfleet has placed it",
        ),
        ("ledger", listener, "port 6555 of ledger.orders is taken by somebodys.service"),
    ],
    ids=["user", "unit", "link", "listener"],
)
@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_foreign_is_taken_over(
    lab: Lab, tmp_path: Path, engine: str, name: str, make, words: str
) -> None:
    here = lab.of(with_service(tmp_path, name))
    state = (
        "cat /etc/zmqfleet/manifest; getent passwd; ls -lR /etc/systemd/system /etc/zmqfleet /opt/zmqfleet"
    )
    with make(here):
        before = here.sh("broker1", state)
        refused = here.engine(engine, "--limit", "broker1")
        assert refused.status != 0
        assert words in refused.output
        assert here.sh("broker1", state) == before
        assert words in here.run("zmqfleet", "drift", "broker1").output


@pytest.mark.parametrize("engine", ENGINES)
def test_a_second_controller_is_refused_while_the_first_is_at_work(lab: Lab, engine: str) -> None:
    lab.sh("broker1", "echo x >>/etc/zmqfleet/quotes/environment")
    first = locking.Holder.of(os.getpid())
    lab.sh("broker1", locking.acquire(first, 600))
    refused = lab.engine(engine)
    assert refused.status != 0
    assert f"(process {os.getpid()}) is at work on it" in refused.output
    assert lab.sh("broker1", "tail -n 1 /etc/zmqfleet/quotes/environment") == "x\n"
    lab.sh("broker1", locking.release(first))
    assert lab.converge(engine)
    assert lab.sh("broker1", f"cat {locking.PATH}", check=False) == ""


@pytest.mark.parametrize("engine", ENGINES)
def test_a_dead_run_of_this_machine_keeps_nobody_out(lab: Lab, engine: str) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        dead = locking.Holder.of(process.pid)
        process.kill()
    lab.sh("broker1", "echo x >>/etc/zmqfleet/quotes/environment")
    lab.sh("broker1", locking.acquire(dead, 600))
    assert lab.converge(engine)
    assert lab.drift() == set()


@pytest.mark.parametrize("engine", ENGINES)
def test_what_a_dead_run_has_started_is_waited_for(lab: Lab, engine: str) -> None:
    environment = "/etc/zmqfleet/quotes/environment"
    lab.sh("broker1", f"echo x >>{environment}")
    late = f"sleep 8; echo too late >>{environment}"
    lab.sh("broker1", f"systemd-run --quiet --setenv={locking.MARK}=dead sh -c {shlex.quote(late)}")
    assert lab.converge(engine)
    assert lab.sh("broker1", f"grep -c late {environment}", check=False) == "0\n"
    assert lab.drift() == set()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_that_failed_keeps_nobody_out(lab: Lab, engine: str) -> None:
    environment, bad = "/etc/zmqfleet/quotes/environment", "/usr/local/lib/zmqfleet/unit-start"
    lab.sh("broker1", f"echo x >>{environment}; mount --bind /bin/false {bad}")
    failed = lab.engine(engine)
    lab.sh("broker1", f"umount {bad}")
    assert failed.status != 0
    assert lab.sh("broker1", f"cat {locking.PATH}", check=False) == ""
    assert lab.converge(engine)
