"""A lab of these tests' own: what they do to it (faults, boots) would make one of the twins another."""

from collections.abc import Iterator

import pytest
from labs import Lab, provisioned


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Five hosts; each test leaves them as declared."""
    with provisioned("faults", "pyinfra", 5) as lab:
        yield lab
