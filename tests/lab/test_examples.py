"""The examples' own tests, with the toolchain, the libraries and the sources of the build host."""

from lab_run import INVENTORY, ROOT, Lab

from zmqfleet.fleet import load
from zmqfleet.fleet.view import release

# as zmq-build builds: its user, module cache and go.env; in a directory that goes again
CHECKS = """
work=$(mktemp -d) && trap "rm -rf $work" EXIT && tar -xf {archive} -C $work && cd $work &&
export HOME=/var/lib/zmqfleet GOPATH=/var/lib/zmqfleet/go GOCACHE=/var/lib/zmqfleet/cache &&
gofmt -d . && test -z "$(gofmt -l .)" && go vet ./... && go test -count=1 ./...
"""


def test_the_examples_pass_their_own_tests(lab: Lab) -> None:
    fleet = load(ROOT, INVENTORY)
    (archive,) = {release(fleet, service).archive_on_builder for service in fleet.services.values()}
    checks = CHECKS.format(archive=archive).replace("$", r"\$").replace('"', r"\"")
    output = lab.ssh("builder1", f'runuser -u zmq-build -- sh -c "{checks}" 2>&1; echo status $?')
    assert output.endswith("\nstatus 0\n"), output
    tested = [line.split()[1] for line in output.splitlines() if line.startswith("ok ")]
    assert tested == [
        f"zmqfleet.example/quotes/internal/{name}" for name in ("allowlist", "daemon", "settings")
    ]
