"""The lab of what is done to hosts, as in tests/lab."""

import pytest
from labs import Lab


@pytest.fixture(scope="session")
def lab(faults_lab: Lab) -> Lab:
    """Five hosts; each test leaves them as declared."""
    return faults_lab
