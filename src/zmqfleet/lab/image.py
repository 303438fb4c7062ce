"""The image of a lab host: Debian from its packages, blank but for systemd, Python and sshd."""

import fcntl
import hashlib
import json
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from zmqfleet.lab.podman import LabError, podman


@dataclass(frozen=True)
class Release:
    """A Debian release: its suite and its newest packaged Go."""

    suite: str
    golang: str


# Oldest first: the build host takes the oldest, because a binary runs on its own glibc and newer ones.
RELEASES = {
    "debian12": Release("bookworm", "golang-1.19-go"),
    "debian13": Release("trixie", "golang-1.24-go"),
}

_INCLUDE = "ca-certificates cron dbus iproute2 openssh-server procps python3 sudo systemd systemd-sysv"

# Downloaded into the image, not installed: a converge still installs them, but needs no network for it.
_CACHED = (
    "gcc libc6-dev libczmq-dev libczmq4 libsodium-dev libsodium23 libzmq3-dev libzmq5 nftables pkg-config "
    "python3-apt python3-zmq"
)

# Runs as PID 1 before systemd, see containers.py for the privileges that it gives back.
_INIT = """\
#!/bin/sh
set -eu
# systemd hands credentials to units through mounts, which its own namespace must receive. It makes its mounts
# shared by itself, but not in a container.
mount --make-rshared /
# The tmpfs that podman mounts is world-writable; on a real host it is not.
chmod 755 /run
# The controller's disks are no business of a lab host, nor are its kernel's settings: only those of the
# network are the container's own.
find /dev -xdev -type b -delete
mount --bind /proc/sys/net /proc/sys/net
mount --rbind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
exec setpriv --bounding-set=-sys_module,-sys_rawio,-sys_time,-mac_admin,-mac_override,-syslog /sbin/init
"""

# Every host has a key of its own, and trusts what the controller trusts (mounted by containers.py).
_BOOT_UNIT = """\
[Unit]
Description=SSH host key and trusted certificates of a lab host
Before=ssh.service

[Service]
Type=oneshot
ExecStart=/bin/sh -c 'test -s /etc/ssh/ssh_host_ed25519_key || \
exec ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key'
ExecStart=/usr/sbin/update-ca-certificates

[Install]
WantedBy=multi-user.target
"""


def _write(path: str, mode: str, text: str) -> str:
    return f'printf %s {quote(text)} >"$1{path}" && chmod {mode} "$1{path}"'


def recipe(release: str) -> list[str]:
    """Return mmdebstrap's arguments for `release`, up to the suite."""
    download = (
        'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get --yes --no-install-recommends --download-only install '
        f"{_CACHED} {RELEASES[release].golang}"
    )
    hooks = [
        # What openssh-server's installation and mmdebstrap left of one machine.
        'rm -f "$1"/etc/ssh/ssh_host_* "$1/etc/resolv.conf" "$1/etc/hostname"',
        'chroot "$1" useradd --create-home --shell /bin/bash admin',
        'chroot "$1" install -d -m 0700 -o admin -g admin /home/admin/.ssh',
        _write("/etc/sudoers.d/admin", "0440", "admin ALL=(ALL) NOPASSWD: ALL\n"),
        # Labs need not survive a power cut; dpkg's fsync is most of what installing takes.
        _write("/etc/dpkg/dpkg.cfg.d/lab", "0644", "force-unsafe-io\n"),
        _write("/etc/default/locale", "0644", "LANG=C.UTF-8\n"),
        _write("/usr/local/sbin/lab-init", "0755", _INIT),
        _write("/etc/systemd/system/lab-boot.service", "0644", _BOOT_UNIT),
        'chroot "$1" systemctl --quiet enable lab-boot.service',
        # They would take dpkg's lock at a random moment of a converge.
        'chroot "$1" systemctl --quiet disable apt-daily.timer apt-daily-upgrade.timer',
        'rm -f "$1"/var/cache/apt/archives/*.deb',
        download,
    ]
    return [
        "--mode=root",
        "--variant=minbase",
        "--format=tar",
        f"--include={','.join(_INCLUDE.split())}",
        "--skip=cleanup/apt",
        '--aptopt=Acquire::Languages "none"',
        *(f"--customize-hook={hook}" for hook in hooks),
        RELEASES[release].suite,
    ]


def tag(release: str) -> str:
    """Return the image's name; its tag is a digest of the recipe, so a changed recipe is another image."""
    digest = hashlib.sha256(json.dumps(recipe(release)).encode()).hexdigest()[:12]
    return f"localhost/zmqfleet-lab-{release}:{digest}"


def ensure(release: str, say: Callable[[str], None]) -> str:
    """Build the image of `release` unless it is there, and return its name."""
    name = tag(release)
    # Labs that come up at the same time wait for one build.
    with Path(f"/run/lock/zmqfleet-lab-{release}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if podman("image", "exists", name).returncode != 0:
            _build(release, name, say)
    return name


def _build(release: str, name: str, say: Callable[[str], None]) -> None:
    say(f"{release}: building the image from packages (once, about a minute)")
    with tempfile.TemporaryDirectory(prefix="zmqfleet-lab-", dir="/var/tmp") as directory:
        rootfs = Path(directory) / "rootfs.tar"
        built = subprocess.run(
            ["mmdebstrap", *recipe(release), str(rootfs)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if built.returncode != 0:
            tail = "\n".join(built.stderr.strip().splitlines()[-15:])
            raise LabError(
                f"{release}: mmdebstrap could not build the image (no network? "
                f"debian-archive-keyring too old for {RELEASES[release].suite}?):\n{tail}"
            )
        podman(
            "import",
            "--quiet",
            '--change=CMD ["/usr/local/sbin/lab-init"]',
            str(rootfs),
            name,
            check=True,
        )
    # Images of older recipes go, those in use apart: podman refuses to remove them.
    repository = name.partition(":")[0]
    listing = podman("images", "--format={{.Repository}}:{{.Tag}}", f"--filter=reference={repository}").stdout
    for old in set(listing.split()) - {name}:
        podman("rmi", old)
    say(f"{release}: image built")
