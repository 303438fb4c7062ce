"""nftables table of the fleet's own. See roles/firewall."""

from zmqfleet.deploys.place import converge


def deploy_firewall() -> None:
    """This capability alone, where the host's desired state has it."""
    converge("firewall")
