"""Here `lab` is one of the twins."""

import pytest
from labs import Lab


@pytest.fixture(scope="session")
def lab(pyinfra_lab: Lab) -> Lab:
    """The lab of tests that need one; each leaves it as declared, and like its twin."""
    return pyinfra_lab
