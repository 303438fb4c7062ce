"""Here `lab` is one of their own, since these tests wait for long."""

from collections.abc import Iterator

import pytest
from labs import Lab, provisioned


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Five hosts; each test leaves them as declared."""
    with provisioned("hostile", "pyinfra", 5) as lab:
        yield lab
