"""A team's repository and its hosts."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from labs import blank
from teams import Team, settle


@pytest.fixture(scope="session")
def adopted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """Five hosts that Ansible provisioned from blank."""
    with blank("adoption", 5) as lab:
        found = settle(lab, tmp_path_factory.mktemp("team") / "fleet")
        yield replace(found, first=found.engine("ansible").must_succeed())


@pytest.fixture
def team(adopted: Team) -> Team:
    """The hosts as declared, whatever tests have left there."""
    adopted.restore()
    found = adopted.declare()
    found.converge("pyinfra")
    return found
