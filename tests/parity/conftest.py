"""Twin labs, one provisioned by each engine from blank; they go when the tests end."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from twin import ROOT, Twin

# for snapshot.py; a real cron, which hosts do not have otherwise
GO_ENV_IN_CRON = """
apt-get -qq install --no-install-recommends cron >/dev/null 2>&1 || exit
cat >/etc/cron.d/go-env <<'END'
* * * * * root /usr/local/bin/go env GOROOT GOVERSION GOPROXY GOSUMDB GOTOOLCHAIN CGO_ENABLED >/run/new && \
mv /run/new /run/go-env
END
"""


@pytest.fixture(scope="session")
def twins() -> Iterator[tuple[Twin, Twin]]:
    """One lab for each engine, provisioned; progress of the long steps goes to the terminal."""
    both = Twin("pyinfra"), Twin("ansible")
    try:
        for twin in both:
            name = twin.inventory.name
            subprocess.run(["zmqfleet", "lab", "up", "--name", name], cwd=ROOT, check=True, stdout=sys.stderr)
            twin.converge(twin.engine)
            twin.run("builder1", GO_ENV_IN_CRON)
        yield both
    finally:
        for twin in both:
            name = twin.inventory.name
            subprocess.run(
                ["zmqfleet", "lab", "down", "--name", name], cwd=ROOT, check=True, stdout=sys.stderr
            )
