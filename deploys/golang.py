"""Go toolchain of one exact version, through the module proxy. See roles/golang."""

from zmqfleet.deploys.place import converge


def deploy_golang() -> None:
    """This capability alone, where the host's desired state has it."""
    converge("golang")
