"""What a shell completes: commands, options, and names of the fleet that is chosen."""

import subprocess

import pytest
from team_project import Project

BASH = """
eval "$(_ZMQFLEET_COMPLETE=bash_source zmqfleet)"
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_zmqfleet_completion zmqfleet
printf '%s\\n' "${COMPREPLY[@]}"
"""


def completed(project: Project, *words: str) -> list[str]:
    chosen = {"ZMQFLEET_PROJECT": str(project.root), "ZMQFLEET_INVENTORY": str(project.inventory)}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in chosen.items():
            patch.setenv(name, value)
        done = subprocess.run(
            ["bash", "-c", BASH, "bash", "zmqfleet", *words], capture_output=True, text=True, check=True
        )
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completes_commands_hosts_groups_and_services(project: Project) -> None:
    assert completed(project, "re") == ["releases", "restart", "retire"]
    assert completed(project, "status", "b") == ["broker1", "broker2", "brokers", "builder1", "builders"]
    assert completed(project, "status", "quotes-") == ["quotes-client"]
    assert completed(project, "view", "b") == ["broker1", "broker2", "builder1"]
    assert completed(project, "logs", "quotes-") == ["quotes-client"]


def test_a_fleet_that_is_not_as_it_should_be_completes_nothing(project: Project) -> None:
    project.write(zmq_services=[{"name": "!"}])
    assert completed(project, "status", "b") == []
