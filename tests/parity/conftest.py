"""Twin labs, one provisioned by each engine from blank; they go when the tests end."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from twin import ROOT, Twin


@pytest.fixture(scope="session")
def twins() -> Iterator[tuple[Twin, Twin]]:
    """One lab for each engine, provisioned; progress of the long steps goes to the terminal."""
    both = Twin("pyinfra"), Twin("ansible")
    try:
        for twin in both:
            name = twin.inventory.name
            subprocess.run(["zmqfleet", "lab", "up", "--name", name], cwd=ROOT, check=True, stdout=sys.stderr)
            twin.converge(twin.engine)
        yield both
    finally:
        for twin in both:
            name = twin.inventory.name
            subprocess.run(
                ["zmqfleet", "lab", "down", "--name", name], cwd=ROOT, check=True, stdout=sys.stderr
            )
