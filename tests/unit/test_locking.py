"""One run at a time changes a host; the lock's commands are run for real, against a file of this machine."""

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from host_model import Engine, ModelHost, Modelled
from team_project import CLIENT, HOSTS, SERVICE, Project, fleet_of

from zmqfleet import locking
from zmqfleet.converge import Answer, Ask, HostError, HostRun
from zmqfleet.fleet import Fleet
from zmqfleet.locking import Holder, acquire, held_by, refusal, release, wait_for_others

ELSEWHERE = Holder("another.machine", 4711, "1", "you@there")


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The lock's file."""
    path = tmp_path / "lock"
    monkeypatch.setattr(locking, "PATH", str(path))
    return path


@pytest.fixture
def mine() -> Holder:
    return Holder.of(os.getpid())


@pytest.fixture
def gone() -> Holder:
    """A run on this machine that was killed."""
    process = subprocess.Popen(["sleep", "60"])
    found = Holder.of(process.pid)
    assert not found.is_gone
    process.kill()
    process.wait()
    return found


def run(command: str) -> tuple[int, str]:
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout


def seconds(lock: Path, holder: Holder) -> float:
    """For how long the lock is held."""
    who, until = lock.read_text().split()
    assert who == holder.text
    return int(until) - time.time()


def test_a_lock_is_taken_renewed_and_given_back(lock: Path, mine: Holder) -> None:
    assert run(acquire(mine, 900)) == (0, "")
    assert 880 < seconds(lock, mine) <= 900
    assert run(acquire(mine, 120)) == (0, "renewed\n")
    assert 100 < seconds(lock, mine) <= 120
    assert run(release(mine)) == (0, "")
    assert not lock.exists()
    assert run(release(mine)) == (0, "")


def test_a_lock_of_another_run_is_refused_and_stays(lock: Path, mine: Holder) -> None:
    run(acquire(ELSEWHERE, 900))
    before = lock.read_text()
    status, printed = run(acquire(mine, 900))
    assert status == 75
    held = held_by(f"Welcome!\n{printed}bye\n")
    assert held
    assert (held[0], before) == (ELSEWHERE, f"{held[0].text} {held[1]}\n")
    assert run(release(mine)) == (0, "")
    assert lock.read_text() == before, "nobody gives back what is another's"


def test_a_lock_ends_by_itself(lock: Path, mine: Holder) -> None:
    run(acquire(ELSEWHERE, -1))
    assert run(acquire(mine, 900)) == (0, "")
    assert seconds(lock, mine) > 880


def test_a_lock_of_a_dead_run_of_this_machine_is_taken_over(lock: Path, mine: Holder, gone: Holder) -> None:
    run(acquire(gone, 900))
    assert run(acquire(mine, 900))[0] == 75
    assert gone.is_gone
    assert run(acquire(mine, 900, instead_of=gone.text)) == (0, "")
    assert seconds(lock, mine) > 880


def test_a_lock_that_a_third_run_took_meanwhile_is_not_taken_over(
    lock: Path, mine: Holder, gone: Holder
) -> None:
    run(acquire(ELSEWHERE, 900))
    assert run(acquire(mine, 900, instead_of=gone.text))[0] == 75
    assert seconds(lock, ELSEWHERE) > 880


@pytest.mark.parametrize(
    "content", ["", "\n", "garbage", "a b c\n", "x 12:34\n", "x 99999999999999999999999\n"]
)
def test_a_lock_that_holds_garbage_keeps_nobody_out(lock: Path, mine: Holder, content: str) -> None:
    lock.write_text(content)
    subprocess.run(["sh", "-c", acquire(mine, 900)], capture_output=True, check=False)
    assert seconds(lock, mine) > 880


def test_a_lock_of_a_clock_that_was_wrong_keeps_nobody_out(lock: Path, mine: Holder) -> None:
    run(acquire(ELSEWHERE, 1_000_000))
    assert run(acquire(mine, 900)) == (0, "")
    assert seconds(lock, mine) > 880


def test_what_only_looks_like_this_run_s_lock_is_not_given_back(lock: Path, mine: Holder) -> None:
    other = replace(mine, machine=mine.machine.replace(".", "x"))
    run(acquire(other, 900))
    assert run(release(mine)) == (0, "")
    assert seconds(lock, other) > 880


def test_of_many_runs_at_once_one_has_the_lock(lock: Path) -> None:
    holders = [replace(ELSEWHERE, pid=number) for number in range(12)]
    tries = [subprocess.Popen(["sh", "-c", acquire(one, 900)], stdout=subprocess.PIPE) for one in holders]
    statuses = [one.wait() for one in tries]
    for one in tries:
        assert one.stdout
        one.stdout.close()
    assert sorted(statuses) == [0] + [75] * 11
    assert seconds(lock, holders[statuses.index(0)]) > 880


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Holder], subprocess.Popen[bytes]]]:
    """Starts a command of a run; the mark is this test's own, and patience short."""
    monkeypatch.setattr(locking, "MARK", f"ZMQFLEET_TEST_{os.getpid()}")
    monkeypatch.setattr(locking, "PATIENCE", 2)
    started = []

    def start(holder: Holder) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(["env", f"{locking.MARK}={holder.text}", "sleep", "60"]))
        while b"sleep" not in Path(f"/proc/{started[-1].pid}/cmdline").read_bytes().split(b"\0"):
            time.sleep(0.01)
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.wait()


Marked = Callable[[Holder], subprocess.Popen[bytes]]


def test_commands_of_other_runs_are_waited_for(marked: Marked, mine: Holder) -> None:
    assert run(wait_for_others(mine)) == (0, "")
    marked(mine)
    assert run(wait_for_others(mine)) == (0, ""), "a run does not wait for itself"
    alike = (replace(mine, who=f"{mine.who}2"), replace(mine, machine=mine.machine.replace(".", "x")))
    others = [marked(one) for one in (ELSEWHERE, replace(mine, started="1"), *alike)]
    status, printed = run(wait_for_others(mine))
    assert (status, set(printed.split())) == (75, {str(one.pid) for one in others})
    for one in others:
        one.kill()
        one.wait()
    assert run(wait_for_others(mine)) == (0, "")


def test_what_is_not_of_a_run_of_this_user_is_not_waited_for(
    marked: Marked, mine: Holder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marked(ELSEWHERE)
    assert run(wait_for_others(mine))[0] == 75
    (tmp_path / "id").write_text("#!/bin/sh\necho 4711\n")
    (tmp_path / "id").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert run(wait_for_others(mine)) == (0, "")


def test_a_variable_whose_name_ends_as_the_mark_does_is_none(marked: Marked, mine: Holder) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(locking, "MARK", f"NOT_{locking.MARK}")
        marked(ELSEWHERE)
    assert run(wait_for_others(mine)) == (0, "")


def test_a_machine_is_known_by_its_boot_and_its_processes_name_space(mine: Holder) -> None:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert os.readlink("/proc/self/ns/pid") == f"pid:[{mine.machine.removeprefix(f'{boot}.')}]"


def test_who_is_gone_is_known_of_this_machine_only(mine: Holder, gone: Holder) -> None:
    assert not mine.is_gone
    assert gone.is_gone
    assert replace(mine, started="1").is_gone, "another process has that id now"
    assert not ELSEWHERE.is_gone
    assert not replace(gone, machine=ELSEWHERE.machine).is_gone


def test_a_name_of_a_run_is_one_word_that_is_read_back(mine: Holder) -> None:
    assert re.fullmatch(r"\S+", mine.text)
    assert held_by(f"locked {mine.text} 1795269190\n") == (mine, 1795269190)


@pytest.mark.parametrize(
    "printed",
    ["", "locked", "locked a b", "locked a:b:c:d 5", "locked a:1:c 5", "locked a:1:c:d x", "locke a:1:c:d 5",
     "locked a:1:c:d 99999999999999999999", "\0é\n"],
)  # fmt: skip
def test_garbage_is_no_holder(printed: str) -> None:
    assert held_by(printed) is None


def test_people_are_told_who_holds_it_until_when_and_what_to_do() -> None:
    at = time.strftime("%H:%M:%S", time.localtime(1795269190))
    assert refusal("broker1", ELSEWHERE, 1795269190) == (
        f"broker1: you@there (process 4711) is at work on it, until {at} at the latest: wait for that run; if it is "
        "gone, remove /run/zmqfleet.lock there"
    )


# --- in a run


@pytest.fixture
def fleet(project: Project) -> Fleet:
    groups = {name: [group] for group, members in HOSTS.items() for name in members}
    found = fleet_of(project.root, groups, [SERVICE, CLIENT])
    assert isinstance(found, Fleet)
    return found


def begun(fleet: Fleet, holder: Holder, host: ModelHost) -> None:
    """The first phase of a run, with a lock that is real."""
    engine, run = Engine({host.name: host}), HostRun(fleet, host.name, holder)
    engine.follow(run, run.read())
    actions, answer = run.place("zmq_probe", "install"), None
    try:
        while True:
            action = actions.send(answer)
            answer = host.do(fleet, action)
            if isinstance(action, Ask) and locking.PATH in action.command:
                done = subprocess.run(
                    ["sh", "-c", action.command], capture_output=True, text=True, check=False
                )
                answer = Answer(done.returncode == 0, done.stdout, done.stderr)
    except StopIteration:
        pass


def test_a_run_takes_the_lock_before_anything_is_placed_and_keeps_it_between_steps(
    fleet: Fleet, modelled: Modelled, lock: Path, mine: Holder
) -> None:
    host = modelled(fleet, {})["stranger1"]
    begun(fleet, mine, host)
    assert "python3-zmq" in host.packages
    assert 100 < seconds(lock, mine) <= 120, "other hosts are at work meanwhile"


def test_a_run_is_refused_where_another_is_at_work(
    fleet: Fleet, modelled: Modelled, lock: Path, mine: Holder
) -> None:
    host = modelled(fleet, {})["stranger1"]
    run(acquire(ELSEWHERE, 900))
    with pytest.raises(HostError, match=r"^stranger1: you@there \(process 4711\) is at work on it, until "):
        begun(fleet, mine, host)
    assert (host.packages, host.manifest()) == (set(), [])
    assert seconds(lock, ELSEWHERE) > 880


def test_a_run_takes_over_from_one_that_was_killed_here(
    fleet: Fleet, modelled: Modelled, lock: Path, mine: Holder, gone: Holder
) -> None:
    host = modelled(fleet, {})["stranger1"]
    run(acquire(gone, 900))
    begun(fleet, mine, host)
    assert "python3-zmq" in host.packages
    assert 100 < seconds(lock, mine) <= 120
