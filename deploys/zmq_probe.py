"""What the probe's agent needs on a host. See roles/zmq_probe."""

from zmqfleet.deploys.place import converge


def deploy_zmq_probe() -> None:
    """This capability alone, where the host's desired state has it."""
    converge("zmq_probe")
