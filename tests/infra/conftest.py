"""Every host against its desired state: the tests' parameters are its resources, so nothing is stated here again.

Hosts are read by their own commands, never by those of zmqfleet.
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
from zmqfleet.capabilities.firewall import rules, ruleset
from zmqfleet.desired import parts
from zmqfleet.fleet import Fleet, FleetError, load
from zmqfleet.releases import release
from zmqfleet.resources import Directory, File, Key, Link, Package, Resource, Unit, User

Cases = list[tuple[str, Any]]


@dataclass(frozen=True)
class Declared:
    """What a host is to have."""

    fleet: Fleet
    host: str
    resources: tuple[Resource, ...]
    capabilities: frozenset[str]

    def all(self, kind: type[Any]) -> list[Any]:
        """Its resources of a kind."""
        return [one for one in self.resources if isinstance(one, kind)]


def _of(fleet: Fleet, host: str) -> Declared:
    found = parts(fleet, host)
    # a resource that several parts name is one
    every = {(one.kind, one.name): one for part in found for one in part.resources}
    return Declared(fleet, host, tuple(every.values()), frozenset(part.capability for part in found))


@functools.cache
def _declared() -> dict[str, Declared]:
    """All hosts of the fleet."""
    project = default_project()
    fleet = load(project, default_inventory(project))
    return {name: _of(fleet, name) for name in fleet.hosts}


def pytest_configure() -> None:
    """Without a valid fleet nothing can be said about any host: the session ends before it starts."""
    try:
        _declared()
    except FleetError as error:
        raise pytest.UsageError(str(error)) from None


def _named(kind: type[Any]) -> Callable[[Declared], Cases]:
    return lambda declared: [(one.path, one) for one in declared.all(kind)]


def _listening(declared: Declared) -> Cases:
    services = declared.fleet.services_of(declared.host)
    return [
        (f"{one.name}.{endpoint.name}", (one, endpoint)) for one in services for endpoint in one.endpoints
    ]


def _builds(declared: Declared) -> Cases:
    fleet = declared.fleet
    built = [one for one in fleet.services.values() if one.build and declared.host == fleet.builder]
    return [(service.name, release(fleet, service)) for service in built]


# What a test asks for by an argument's name, it gets once for each such thing of each host, under this id.
_KINDS: dict[str, Callable[[Declared], Cases]] = {
    "package": _named(Package),
    "user": _named(User),
    "directory": _named(Directory),
    "exact_directory": lambda declared: [(d.path, d) for d in declared.all(Directory) if d.only is not None],
    "file": _named(File),
    "link": _named(Link),
    "key": _named(Key),
    "unit": lambda declared: [(one.name, one) for one in declared.all(Unit)],
    "restarted_unit": lambda declared: [(u.name, u) for u in declared.all(Unit) if u.restarted_by],
    "service": lambda declared: [(s.name, s) for s in declared.fleet.services_of(declared.host)],
    "listening": _listening,
    "identity": lambda declared: [(one.name, one) for one in declared.fleet.identities(declared.host)],
    "build": _builds,
    "table": lambda declared: [("table", ruleset(rules(declared.fleet, declared.host)))],
    "libzmq": lambda declared: [("libzmq", "libzmq.so.5")] if "zeromq" in declared.capabilities else [],
    "golang": lambda declared: (
        [("go", declared.fleet.hosts[declared.host].variables)] if "golang" in declared.capabilities else []
    ),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each host and resource."""
    for kind in _KINDS.keys() & set(metafunc.fixturenames):
        metafunc.parametrize(
            ("hostname", kind),
            [
                pytest.param(name, item, id=f"{name}-{label}")
                for name, declared in _declared().items()
                for label, item in _KINDS[kind](declared)
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
    return next(iter(_declared().values())).fleet


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
def declared(hostname: str) -> Declared:
    """What this test's host is to have."""
    return _declared()[hostname]


@dataclass(frozen=True)
class Entry:
    """What is at a path of a host: kind in stat's words, mode in octal, when it was changed (seconds)."""

    kind: str
    mode: str
    owner: str
    group: str
    changed: float
    sha256: str | None


@pytest.fixture(scope="session")
def entries_of(connections: Connections) -> Callable[[str], dict[str, Entry]]:
    """All declared paths of a host that exist, read by two commands instead of five a path."""

    @functools.cache
    def look(name: str) -> dict[str, Entry]:
        host, declared = connections.to(name), _declared()[name]
        files = [one.path for one in declared.all(File)]
        keys = [path for key in declared.all(Key) for path in (key.secret_file, key.public_file)]
        others = [one.path for one in (*declared.all(Directory), *declared.all(Link))]
        paths = [*files, *keys, *others]
        stat = host.run(shlex.join(["stat", "-c", "%n|%F|%a|%U|%G|%Y", *paths]))
        # keys are not read, not even for a digest
        sums = host.run(shlex.join(["sha256sum", *files]))
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
