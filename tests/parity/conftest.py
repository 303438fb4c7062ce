"""Twin labs, one provisioned by each engine from blank."""

import pytest
from labs import Lab

# for snapshot.py; a real cron, which hosts do not have otherwise
GO_ENV_IN_CRON = """
apt-get -qq install --no-install-recommends cron >/dev/null 2>&1 || exit
cat >/etc/cron.d/go-env <<'END'
* * * * * root /usr/local/bin/go env GOROOT GOVERSION GOPROXY GOSUMDB GOTOOLCHAIN CGO_ENABLED >/run/new && \
mv /run/new /run/go-env
END
"""


@pytest.fixture(scope="session")
def twins(pyinfra_lab: Lab, ansible_lab: Lab) -> tuple[Lab, Lab]:
    """The labs, by pyinfra and by Ansible."""
    for lab in (pyinfra_lab, ansible_lab):
        lab.sh("builder1", GO_ENV_IN_CRON)
    return pyinfra_lab, ansible_lab
