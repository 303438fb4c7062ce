"""Labs that tests share: the first test that needs one has it provisioned from blank; they go when the tests end."""

from collections.abc import Iterator

import pytest
from labs import Lab, provisioned


@pytest.fixture(scope="session")
def pyinfra_lab() -> Iterator[Lab]:
    """Five hosts, provisioned by pyinfra."""
    with provisioned("by-pyinfra", "pyinfra", 5) as lab:
        yield lab


@pytest.fixture(scope="session")
def ansible_lab() -> Iterator[Lab]:
    """Its twin, provisioned by Ansible."""
    with provisioned("by-ansible", "ansible", 5) as lab:
        yield lab


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Five hosts that are no twins: what tests do to them (faults, boots) would make them others. Each test leaves them
    as declared."""
    with provisioned("faults", "pyinfra", 5) as lab:
        yield lab
