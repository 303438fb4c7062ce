"""What a host says has an end, or the host fails: the controller's memory and time are its own."""

import re
import resource
from collections.abc import Iterator

import pytest
from labs import Lab

# what sshd runs before any command, and what a command is on its way to
RC, SYSTEMCTL = "/etc/ssh/sshrc", "/usr/local/sbin/systemctl"
# Ansible reads so slowly that time would be up first
ANSWERS = {
    "lines": ("pyinfra", RC, "exec yes", "printed more than 16 MiB"),
    "one line": ("pyinfra", RC, "exec tr '\\0' x </dev/zero", "printed more than 16 MiB"),
    "nothing": ("ansible", SYSTEMCTL, "exec sleep 1000", "has not ended its answer within 120 s"),
}
MEMORY = 1024**2  # KiB, of the largest process of a run


@pytest.fixture
def talking(lab: Lab, path: str, script: str) -> Iterator[Lab]:
    """broker2 answers without an end."""
    lab.sh("gateway1", "systemctl stop quotes-client")
    lab.sh("broker2", f"install -m 755 /dev/stdin {path}", f"#!/bin/sh\n{script}\n")
    try:
        yield lab
    finally:
        lab.inside("broker2", f"rm {path}; pkill -x 'yes|tr|sleep'; true")
        lab.converge("pyinfra")
        assert lab.drift() == set()


@pytest.mark.parametrize(("engine", "path", "script", "problem"), ANSWERS.values(), ids=ANSWERS)
def test_a_host_whose_answer_has_no_end_fails_alone(talking: Lab, engine: str, problem: str) -> None:
    done = talking.engine(engine)
    assert done.status != 0
    assert re.search(f"broker2.*{problem}", done.output), done.output[-3000:]
    assert "Traceback" not in done.output
    assert talking.sh("gateway1", "systemctl is-active quotes-client") == "active\n", done.output[-3000:]
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < MEMORY
