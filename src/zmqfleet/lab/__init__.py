"""Lab hosts for trying and testing, with sshd and addresses of their own: containers with systemd as PID 1, and virtual
machines."""

from zmqfleet.lab.containers import down, ssh, status, up
from zmqfleet.lab.podman import LabError, podman
from zmqfleet.lab.vm import KERNELS

__all__ = ["KERNELS", "LabError", "down", "podman", "ssh", "status", "up"]
