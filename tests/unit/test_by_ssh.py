"""What is done by ssh alone: what people are told of it."""

import errno

import pytest
from team_project import SERVICE, Project

from zmqfleet import by_ssh, fleet
from zmqfleet.converge import Actions, HostRun, Say, Warn
from zmqfleet.locking import Holder

SECRET = "hunter2-hunter2"


def actions() -> Actions:
    yield Say(f"starts what has {SECRET}")
    yield Warn(f"broker1: {SECRET}")


@pytest.fixture
def run(project: Project) -> HostRun:
    project.write(zmq_services=[{**SERVICE, "env": {"REGION": SECRET}}])
    found = fleet.load(project.root, project.inventory)
    return HostRun(found, "broker1", Holder("machine", 1, "1", "me@here"))


def test_what_is_said_names_the_host_and_no_secret(run: HostRun) -> None:
    said: list[str] = []
    by_ssh.follow(run, actions(), said.append)
    assert [line.partition(": ")[0] for line in said] == ["broker1", "broker1"]
    assert said[0].startswith("broker1: starts what has ")
    assert SECRET not in "".join(said)


def test_that_nobody_reads_on_stops_nothing_half_way(run: HostRun) -> None:
    done = []

    def both() -> Actions:
        yield from actions()
        done.append("all")

    def say(_: str) -> None:
        raise BrokenPipeError(errno.EPIPE, "nobody reads on")

    by_ssh.follow(run, both(), say)
    assert done == ["all"]
