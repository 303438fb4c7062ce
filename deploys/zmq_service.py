"""ZeroMQ services: user, keys, release, configuration, sandboxed unit. See roles/zmq_service.

Three deploys, since what one host is given depends on the public keys of others.
"""

from pyinfra import host
from pyinfra.api import deploy

from deploys import common, zmq_probe


@deploy("zmq_service")
def install() -> None:
    """Users, directories and keys, so that public keys are there before anybody needs them."""
    for service in common.fleet().services_of(host.name):
        part = f"zmq_service {service.name}"
        common.users(part, name="Create the user")
        common.directories(part, name="Make directories")
        if common.fleet().has_key(service):
            zmq_probe.key(service.name, name="Make the key")


@deploy("zmq_service")
def configure() -> None:
    """Release, environment, endpoints, unit and allow-list."""
    for service in common.fleet().services_of(host.name):
        common.files(f"zmq_service {service.name}", name="Place release, configuration and unit")
        common.links(f"zmq_service {service.name}", name="Point current to the release")
        if service.serves_curve:
            common.directories(f"zmq_clients {service.name}", name="Prune the allow-list")
            common.files(f"zmq_clients {service.name}", name="Place the allow-list")


@deploy("zmq_service")
def start() -> None:
    """Starts what is stopped, restarts what changed; a changed allow-list needs no restart."""
    for service in common.fleet().services_of(host.name):
        common.units(f"zmq_service {service.name}", name="Enable and start, or restart after a change")
