"""A lab of these tests' own: what they do to it (faults, boots) would make one of the twins another."""

import pytest
from labs import Lab


@pytest.fixture(scope="session")
def lab(faults_lab: Lab) -> Lab:
    """Five hosts; each test leaves them as declared."""
    return faults_lab
