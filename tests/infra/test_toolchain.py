"""What services are built with and loaded against: Go and its environment, libzmq."""

import json
import shlex
from typing import Any

import pytest
from testinfra.host import Host

from zmqfleet.capabilities.golang import settings as declared_settings

# A login shell, a systemd unit and cron's environment get PATH and HOME in three different ways, or not at all.
_CONTEXTS = {
    "login-shell": "env -i HOME=/root bash -lc {go}",
    "systemd-unit": "systemd-run --quiet --wait --pipe --collect sh -c {go}",
    "cron": "env -i PATH=/usr/bin:/bin sh -c {cron_go}",
}


@pytest.mark.parametrize("context", _CONTEXTS)
def test_go_has_its_version_and_settings_everywhere(host: Host, golang: dict[str, Any], context: str) -> None:
    settings = declared_settings(golang)
    assert settings
    go = "go version && go env -json " + shlex.join(settings)
    cron_go = go.replace("go ", "/usr/local/go/bin/go ")
    command = _CONTEXTS[context].format(go=shlex.quote(go), cron_go=shlex.quote(cron_go))
    version, _, found = host.check_output(command).partition("\n")
    assert version == f"go version go{golang['golang_version']} linux/{golang['golang_arch']}"
    assert json.loads(found) == settings


def test_libzmq_has_curve(host: Host, libzmq: str) -> None:
    ask = "import ctypes, sys; print(ctypes.CDLL(sys.argv[1]).zmq_has(b'curve'))"
    assert host.check_output("python3 -c %s %s", ask, libzmq) == "1"
