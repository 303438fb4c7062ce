"""A lab of the tests' own, provisioned by pyinfra from blank; it goes when the tests end."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from lab_run import NAME, PYINFRA, ROOT, Lab, run


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Progress of the long steps goes to the terminal."""
    try:
        subprocess.run(["zmqfleet", "lab", "up", "--name", NAME], cwd=ROOT, check=True, stdout=sys.stderr)
        first = run(*PYINFRA)
        assert first.returncode == 0, first.stderr[-5000:]
        yield Lab(first)
    finally:
        run("zmqfleet", "lab", "down", "--name", NAME, check=True)
