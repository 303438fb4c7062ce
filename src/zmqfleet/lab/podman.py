"""Podman, run so that it also works where cgroup v1 and v2 are both mounted."""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

CGROUP2_ONLY = Path(__file__).with_name("cgroup2-only")


class LabError(Exception):
    """A message for people: what is wrong, where, and what to do."""


def require_tools() -> None:
    """Raise LabError when this machine cannot run a lab."""
    if not sys.platform.startswith("linux"):
        raise LabError("the lab needs Linux: its hosts are containers")
    if os.geteuid() != 0:
        raise LabError(
            "the lab needs root (its hosts have addresses and firewalls of their own): run it with sudo"
        )
    packages = {
        "podman": "podman",
        "netavark": "netavark",
        "iptables": "iptables",
        "mmdebstrap": "mmdebstrap",
        "ssh": "openssh-client",
    }
    # netavark is no command: podman keeps it in a directory of its own.
    helpers = [Path("/usr/lib/podman"), Path("/usr/libexec/podman")]
    found = {name: shutil.which(name) or any((path / name).exists() for path in helpers) for name in packages}
    missing = sorted(packages[name] for name, where in found.items() if not where)
    if missing:
        raise LabError(f"the lab needs {', '.join(missing)}: apt-get install {' '.join(missing)}")


def privileged() -> list[str]:
    """The arguments of `podman run` for a container that may do what root may, and that any machine can start."""
    # Podman's own limits are above what a machine may grant its root, and then no container starts.
    found = ["--privileged", "--cgroupns=private", "--pids-limit=0"]
    for name, which, most in (
        ("nofile", resource.RLIMIT_NOFILE, 1048576),
        ("nproc", resource.RLIMIT_NPROC, 32768),
    ):
        hard = resource.getrlimit(which)[1]
        value = most if hard == resource.RLIM_INFINITY else min(hard, most)
        found.append(f"--ulimit={name}={value}:{value}")
    return found


def podman(*args: str, check: bool = False, timeout: float | None = None) -> subprocess.CompletedProcess[str]:
    """Run podman with `args` and return the result with captured text.

    With `check` a failure raises LabError; `timeout` (seconds) raises subprocess.TimeoutExpired.
    """
    # cgroupfs: the other manager needs a systemd that runs this machine's cgroup2; not every machine has one.
    # Through bash: an installed package may have lost the script's executable bit.
    command = ["bash", str(CGROUP2_ONLY), "podman", "--cgroup-manager=cgroupfs", *args]
    result = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",  # a console may hold anything
        timeout=timeout,
        check=False,
    )
    if check and result.returncode != 0:
        tail = "\n".join(result.stderr.strip().splitlines()[-15:])
        raise LabError(f"podman {' '.join(args[:2])} failed:\n{tail}")
    return result
