"""pyinfra's half: `converge` brings a host into its desired state; beside it, a deploy for each capability alone."""

from zmqfleet.deploys.place import converge

__all__ = ["converge"]
