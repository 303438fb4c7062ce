"""A connect loop against the services of a lab, from a host that none of them allows."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen

from labs import Lab

LOOP = Path(__file__).with_name("knock.py").read_text()
# all that the declared services and their variants in these tests ever bind for others
PORTS = (5555, 5556, 5755)
LEAST = 1000  # connects a second that a loop must have tried, or it has proven nothing


@contextmanager
def nobody_gets_in(lab: Lab) -> Iterator[None]:
    """While it is entered, builder1 knocks at all of the brokers' ports; nothing may open."""
    addresses = [lab.fleet.hosts[broker].address for broker in lab.fleet.members("brokers")]
    command = lab.fleet.hosts["builder1"].ssh("python3", "-u", "-")
    with Popen(command, stdin=PIPE, stdout=PIPE, text=True) as loop:
        assert loop.stdin is not None
        assert loop.stdout is not None
        loop.stdin.write(f"{LOOP}\nknock({addresses!r}, {PORTS!r})\n")
        loop.stdin.close()
        assert loop.stdout.readline() == "knocking\n"
        try:
            yield
            lab.sh("builder1", "pkill --signal TERM --full ^python3.-u")
            said = json.loads(loop.stdout.readline())
        finally:
            loop.kill()
    assert said["tried"] > LEAST * said["seconds"], said
    assert said["opened"] == [], said
