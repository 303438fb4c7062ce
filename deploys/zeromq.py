"""ZeroMQ libraries, CURVE asserted. See roles/zeromq."""

from zmqfleet.deploys.place import converge


def deploy_zeromq() -> None:
    """This capability alone, where the host's desired state has it."""
    converge("zeromq")
