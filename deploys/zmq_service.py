"""ZeroMQ services: user, keys, release, configuration, sandboxed unit. See roles/zmq_service.

Three deploys, since what one host is given depends on the public keys of others.
"""

import hashlib
import shutil
import urllib.request
from collections.abc import Generator, Iterator

from pyinfra import host
from pyinfra.api import FunctionCommand, deploy, operation

from deploys import common, zmq_probe
from zmqfleet.fleet import Service
from zmqfleet.fleet.view import Release, release


@operation()
def download(wanted: Release, sha256: str) -> Generator[FunctionCommand]:
    """A release from its URL, to the controller; it counts only if it has the digest that was declared."""
    if not wanted.artifact.exists():
        yield FunctionCommand(_download, (wanted, sha256), {})


def _download(wanted: Release, sha256: str) -> None:
    part = wanted.artifact.with_suffix(".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        with urllib.request.urlopen(str(wanted.url)) as answer, part.open("wb") as file:
            shutil.copyfileobj(answer, file)
    except OSError as error:
        raise ValueError(f"{wanted.service}: artifact.url {wanted.url}: {error}") from None
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise ValueError(f"{wanted.service}: artifact.url {wanted.url} has sha256 {found}, not {sha256}")
    part.chmod(0o755)
    part.replace(wanted.artifact)


def _running() -> Iterator[Service]:
    """The host's services. The loop is pyinfra's own and goes over the fleet's, so that one service's operations are
    the same on every host: else hosts with others between them would want them in different orders."""
    here = common.fleet().services_of(host.name)
    for service in host.loop(common.fleet().services.values()):
        if service in here:
            yield service


@deploy("zmq_service")
def install() -> None:
    """Users, directories and keys, so that public keys are there before anybody needs them."""
    for service in _running():
        part = f"zmq_service {service.name}"
        common.users(part, name="Create the user")
        common.directories(part, name="Make directories")
        if common.fleet().has_key(service):
            zmq_probe.key(service.name, name="Make the key")
        wanted = release(common.fleet(), service)
        if wanted.url and service.artifact:
            download(
                wanted, service.artifact["sha256"], name="Get the release from elsewhere", _run_once=True
            )


@deploy("zmq_service")
def configure() -> None:
    """Release, environment, endpoints, unit and allow-list."""
    for service in _running():
        common.files(f"zmq_service {service.name}", name="Place release, configuration and unit")
        common.links(f"zmq_service {service.name}", name="Point current to the release")
        if service.serves_curve:
            common.directories(f"zmq_clients {service.name}", name="Prune the allow-list")
            common.files(f"zmq_clients {service.name}", name="Place the allow-list")


@deploy("zmq_service")
def start() -> None:
    """Starts what is stopped, restarts what changed; a changed allow-list needs no restart."""
    for service in _running():
        common.units(f"zmq_service {service.name}", name="Enable and start, or restart after a change")
