"""Builds of services on the build host. See roles/zmq_build."""

from zmqfleet.deploys.place import converge


def deploy_zmq_build() -> None:
    """This capability alone, where the host's desired state has it."""
    converge("zmq_build")
