"""A lab for the ways in which the engines may be used."""

from collections.abc import Iterator

import pytest
from labs import Lab, provisioned


@pytest.fixture(scope="session")
def ways() -> Iterator[Lab]:
    """Three hosts: a build host, a broker and a gateway."""
    with provisioned("ways", "ansible", 3) as lab:
        yield lab


@pytest.fixture
def converged(ways: Lab) -> Lab:
    """The lab as declared, whatever tests have left there."""
    ways.converge("ansible")
    return ways
