"""ZeroMQ services. See roles/zmq_service."""

from zmqfleet.deploys.place import converge


def deploy_zmq_service() -> None:
    """This capability alone, where the host's desired state has it."""
    converge("zmq_service")
