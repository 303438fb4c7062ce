"""The examples' own tests, with the toolchain, the libraries and the sources of the build host."""

import shlex

from labs import Lab

from zmqfleet.fleet.model import BUILD
from zmqfleet.releases import release

# as zmq-build builds: its user, module cache and go.env; in a directory that goes again
CHECKS = """
work=$(mktemp -d) && trap "rm -rf $work" EXIT && tar -xf {archive} -C $work && cd $work &&
export HOME=/var/lib/zmqfleet GOPATH=/var/lib/zmqfleet/caches/go GOCACHE=/var/lib/zmqfleet/caches/build &&
gofmt -d . && test -z "$(gofmt -l .)" && go vet ./... && go test -count=1 ./...
"""


def test_the_examples_pass_their_own_tests(lab: Lab) -> None:
    archives = {release(lab.fleet, service).archive for service in lab.fleet.services.values()}
    (archive,) = {one.name for one in archives if one}
    checks = CHECKS.format(archive=f"{BUILD}/sources/{archive}.tar")
    command = f"runuser -u zmq-build -- sh -c {shlex.quote(checks)} 2>&1; echo status $?"
    output = lab.sh("builder1", command)
    assert output.endswith("\nstatus 0\n"), output
    tested = [line.split()[1] for line in output.splitlines() if line.startswith("ok ")]
    assert tested == [
        f"zmqfleet.example/quotes/internal/{name}" for name in ("allowlist", "daemon", "settings")
    ]
