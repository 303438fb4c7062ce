"""The examples' own tests, with the toolchain, the libraries and the module cache of the build host."""

import base64
import shlex
import subprocess

import pytest
from labs import ROOT, Lab

# as zmq-build builds: its user, module cache and go.env; in a directory that goes again
CHECKS = """
work=$(mktemp -d) && trap "chmod -R u+w $work; rm -rf $work" EXIT && base64 -d | tar -x -C $work && cd $work &&
export HOME=/var/lib/zmqfleet GOPATH=/var/lib/zmqfleet/caches/go GOCACHE=/var/lib/zmqfleet/caches/build &&
gofmt -d . && test -z "$(gofmt -l .)" && go vet ./... && go test -count=1 ./...
"""


@pytest.mark.parametrize(
    ("module", "packages"),
    [("quotes", ["allowlist", "daemon", "settings"]), ("pipeline", ["allowlist", "settings"])],
)
def test_the_examples_pass_their_own_tests(lab: Lab, module: str, packages: list[str]) -> None:
    sources = subprocess.run(
        ["tar", "-c", "-C", str(ROOT / "examples" / module), "."], capture_output=True, check=True
    ).stdout
    command = f"runuser -u zmq-build -- sh -c {shlex.quote(CHECKS)} 2>&1; echo status $?"
    output = lab.sh("builder1", command, base64.b64encode(sources).decode())
    assert output.endswith("\nstatus 0\n"), output
    tested = [line.split()[1] for line in output.splitlines() if line.startswith("ok ")]
    assert tested == [f"zmqfleet.example/{module}/internal/{name}" for name in packages]
