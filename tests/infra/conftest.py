"""Every host against its view: the tests' parameters are the view's resources, so nothing is stated here again.

The inventory is chosen as everywhere: ZMQFLEET_PROJECT, ZMQFLEET_INVENTORY, else the lab.
"""

import functools
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import testinfra
from testinfra.host import Host

from zmqfleet import default_inventory, default_project
from zmqfleet.fleet import Fleet, FleetError, View, load
from zmqfleet.fleet import view as derive_view
from zmqfleet.fleet.view import release

Cases = list[tuple[str, Any]]


@functools.cache
def _declared() -> tuple[Fleet, dict[str, View]]:
    """The fleet and all views."""
    project = default_project()
    fleet = load(project, default_inventory(project))
    return fleet, {name: derive_view(fleet, name) for name in fleet.hosts}


def pytest_configure() -> None:
    """Without a valid fleet nothing can be said about any host: the session ends before it starts."""
    try:
        _declared()
    except FleetError as error:
        raise pytest.UsageError(str(error)) from None


def _paths(kind: str) -> Callable[[Fleet, View], Cases]:
    return lambda _, view: [(item.path, item) for item in view.all(kind)]


def _names(kind: str) -> Callable[[Fleet, View], Cases]:
    return lambda _, view: [(item.name, item) for item in view.all(kind)]


def _releases(fleet: Fleet, view: View) -> Cases:
    built = [service for service in fleet.services.values() if service.build and view.host == fleet.builder]
    return [(service.name, release(fleet, service)) for service in built]


# What a test asks for by an argument's name, it gets once for each such thing of each host, under this id.
_KINDS: dict[str, Callable[[Fleet, View], Cases]] = {
    "package": lambda _, view: [(name, name) for name in view.all("packages")],
    "user": _names("users"),
    "directory": _paths("directories"),
    "exact_directory": lambda _, view: [(one.path, one) for one in view.all("directories") if one.exact],
    "file": _paths("files"),
    "link": _paths("links"),
    "unit": _names("units"),
    "restarted_unit": lambda _, view: [(one.name, one) for one in view.all("units") if one.restarted_by],
    "service": lambda fleet, view: [(s.name, s) for s in fleet.services_of(view.host)],
    "listening": lambda _, view: [(f"{one['service']}.{one['endpoint']}", one) for one in view.listening],
    "identity": lambda fleet, view: [(one.name, one) for one in fleet.identities(view.host)],
    "build": _releases,
    "ruleset": lambda _, view: [("ruleset", view.ruleset)],
    "libzmq": lambda _, view: [("libzmq", "libzmq.so.5")] if "zeromq" in view.capabilities else [],
    "golang": lambda fleet, view: (
        [("go", fleet.hosts[view.host].variables)] if "golang" in view.capabilities else []
    ),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each host and resource."""
    for kind in _KINDS.keys() & set(metafunc.fixturenames):
        fleet, views = _declared()
        metafunc.parametrize(
            ("hostname", kind),
            [
                pytest.param(name, item, id=f"{name}-{label}")
                for name, view in views.items()
                for label, item in _KINDS[kind](fleet, view)
            ],
        )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A kind that this fleet has none of has no test, not a skipped one: with skips alone pytest would exit 0."""
    items[:] = [item for item in items if not _is_empty(item)]


def _is_empty(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)
    # pytest's own placeholder is what stands for an empty list of parameters
    return callspec is not None and not isinstance(callspec.params.get("hostname", ""), str)


class Connections:
    """One ssh connection a host, kept open for all commands; a host that did not answer is not tried again."""

    def __init__(self, fleet: Fleet, sockets: Path) -> None:
        self._fleet = fleet
        self._sockets = sockets
        self._open: dict[str, Host | str] = {}

    def to(self, name: str) -> Host:
        """The host; the test fails if it cannot be reached, or sudo does not work there."""
        if name not in self._open:
            self._open[name] = self._connect(name)
        found = self._open[name]
        if isinstance(found, str):
            pytest.fail(found, pytrace=False)
        return found

    def _connect(self, name: str) -> Host | str:
        one = self._fleet.hosts[name]
        address = f"[{one.address}]" if ":" in one.address else one.address
        user = one.variables.get("ansible_user")
        connection = testinfra.get_host(
            f"ssh://{user}@{address}:{one.ssh_port}" if user else f"ssh://{address}:{one.ssh_port}",
            sudo=one.become,
            ssh_identity_file=one.ssh_key,
            ssh_extra_args=shlex.join([*one.ssh_arguments, "-o", "BatchMode=yes"]),
            controlpath=str(self._sockets / name),
        )
        try:
            answer = connection.run("id -u")
        except RuntimeError as error:  # testinfra's word for ssh's own exit status, 255
            return f"{name}: no ssh connection to {one.address}: {error.args[0].stderr.strip()}"
        if answer.stdout.strip() != "0":
            return (
                f"{name}: commands do not run as root; check ansible_become and sudo: {answer.stderr.strip()}"
            )
        return connection

    def close(self) -> None:
        """Ends the connections that stay in the background."""
        for socket in self._sockets.iterdir():
            host = self._fleet.hosts[socket.name]
            command = [*host.ssh()[:1], "-o", f"ControlPath={socket}", "-O", "exit", *host.ssh()[1:]]
            subprocess.run(command, check=False, capture_output=True)


@pytest.fixture(scope="session")
def fleet() -> Fleet:
    """The fleet."""
    return _declared()[0]


@pytest.fixture(scope="session")
def connections(fleet: Fleet) -> Iterator[Connections]:
    """All connections. A socket's path may have about 100 characters, so pytest's own directories are too deep."""
    with tempfile.TemporaryDirectory(prefix="zf-", dir="/tmp") as directory:
        opened = Connections(fleet, Path(directory))
        yield opened
        opened.close()


@pytest.fixture
def host(connections: Connections, hostname: str) -> Host:
    """The host of this test, as root."""
    return connections.to(hostname)


@pytest.fixture
def view(hostname: str) -> View:
    """The view of this test's host."""
    return _declared()[1][hostname]


@dataclass(frozen=True)
class Entry:
    """What is at a path of a host: kind in stat's words, mode in octal, when it was changed (seconds)."""

    kind: str
    mode: str
    owner: str
    group: str
    changed: int
    sha256: str | None


@pytest.fixture(scope="session")
def entries_of(connections: Connections) -> Callable[[str], dict[str, Entry]]:
    """All declared paths of a host that exist, read by two commands instead of five a path."""

    @functools.cache
    def look(name: str) -> dict[str, Entry]:
        host, view = connections.to(name), _declared()[1][name]
        files = [file.path for file in view.all("files")]
        paths = [*files, *(one.path for kind in ("directories", "links") for one in view.all(kind))]
        stat = host.run(shlex.join(["stat", "-c", "%n|%F|%a|%U|%G|%Y", *paths]))
        # secret keys are not read, not even for a digest
        readable = [file.path for file in view.all("files") if file.mode != "400"]
        sums = host.run(shlex.join(["sha256sum", *readable]))
        digests = {
            path: digest for digest, path in (line.split("  ", 1) for line in sums.stdout.splitlines())
        }
        found = {}
        for line in stat.stdout.splitlines():
            path, kind, mode, owner, group, changed = line.rsplit("|", 5)
            found[path] = Entry(kind, mode, owner, group, int(changed), digests.get(path))
        return found

    return look


@pytest.fixture
def entries(entries_of: Callable[[str], dict[str, Entry]], hostname: str) -> dict[str, Entry]:
    """What is at the declared paths of this test's host; a path that does not exist is missing."""
    return entries_of(hostname)
