"""Runs that are killed at any moment: the next one makes it good, the one after has nothing to do, and meanwhile no
port that should be closed is open. ZMQFLEET_KILLS says how often, ZMQFLEET_SEED at which moments.
"""

import os
import random
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from knocking import nobody_gets_in
from labs import ENGINES, Lab, project
from test_retirement import LIFE, declare
from twins import TOOLCHAINS, differences

KILLS = int(os.environ.get("ZMQFLEET_KILLS", "4"))
SEED = int(os.environ.get("ZMQFLEET_SEED", "1"))
LONGEST = {"pyinfra": 14.0, "ansible": 18.0}  # seconds, about what an update takes
LEFTOVERS = (
    "find /etc/zmqfleet /opt/zmqfleet /etc/systemd/system /usr/local/lib/zmqfleet /home/admin/.zmqfleet-uploads "
    r"\( -name '*.new' -o -name .proven -o -path '*uploads/*' \) 2>/dev/null"
)


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project(tmp_path_factory.mktemp("killed") / "project")


@pytest.mark.parametrize("number", range(KILLS))
def test_a_killed_run_is_made_good(
    pyinfra_lab: Lab,
    ansible_lab: Lab,
    team: Path,
    number: int,
) -> None:
    chance = random.Random(SEED * 1000 + number)
    here, twin = pyinfra_lab.of(team), ansible_lab.of(team)
    change, _, _ = LIFE[number % len(LIFE)]
    killed, next_one = chance.choice(ENGINES), chance.choice(ENGINES)
    after = chance.uniform(1, LONGEST[killed])
    declare(team, change)
    about = f"{change.__name__}: {killed} killed after {after:.1f} s, then {next_one}"
    with ThreadPoolExecutor() as pool, nobody_gets_in(here):
        undisturbed = pool.submit(twin.converge, "ansible")
        kill(here, killed, after)
        here.engine(next_one).must_succeed()
        assert undisturbed.result()
    assert here.drift() == set(), about
    assert here.converge(killed) == set(), about
    for host in here.fleet.hosts:
        assert here.sh(host, LEFTOVERS, check=False) == "", f"{about}: {host}"
        assert differences(here, twin, host, TOOLCHAINS) == [], f"{about}: {host}"
    assert here.probe()[0] == 0, about


def kill(lab: Lab, engine: str, seconds: float) -> None:
    """A run of an engine, with all of its processes killed after so long; it may have ended."""
    with lab.begin(engine) as process:
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_the_twins_are_left_as_declared(pyinfra_lab: Lab, ansible_lab: Lab) -> None:
    for lab in (pyinfra_lab, ansible_lab):
        lab.engine("pyinfra").must_succeed()
        assert lab.drift() == set()
