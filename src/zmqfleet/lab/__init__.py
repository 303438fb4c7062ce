"""Lab hosts for trying and testing: containers with systemd as PID 1, sshd and addresses of their own."""

from zmqfleet.lab.containers import down, ssh, status, up
from zmqfleet.lab.podman import LabError, podman

__all__ = ["LabError", "down", "podman", "ssh", "status", "up"]
