"""The images of lab hosts: Debian from its packages, blank but for systemd, Python and sshd."""

import fcntl
import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from zmqfleet.lab import vm
from zmqfleet.lab.podman import LabError, podman, privileged


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
_INIT = f"""\
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
# A container is not held by profiles of its own: to it, the controller's kernel has no AppArmor.
[ ! -e /sys/module/apparmor ] || mount -t tmpfs -o ro,size=4k none /sys/module/apparmor
exec setpriv --bounding-set={vm.WITHOUT} /sbin/init
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


def _enabled(unit: str, text: str) -> list[str]:
    return [
        _write(f"/etc/systemd/system/{unit}", "0644", text),
        f'chroot "$1" systemctl --quiet enable {unit}',
    ]


def _contained() -> list[str]:
    return [
        _write("/usr/local/sbin/lab-init", "0755", _INIT),
        *_enabled("lab-boot.service", _BOOT_UNIT),
    ]


def _guest() -> list[str]:
    return [
        _write("/etc/fstab", "0644", "/dev/vda / ext4 defaults 0 0\n"),
        'chroot "$1" systemctl --quiet enable systemd-networkd.service',
        'chroot "$1" systemctl --quiet disable e2scrub_all.timer e2scrub_reap.service',
        *_enabled("lab-seed.service", vm.SEED_UNIT),
        *_enabled("lab-booted.service", vm.BOOTED_UNIT),
    ]


def recipe(release: str, kernel: str = "") -> list[str]:
    """Return mmdebstrap's arguments for `release`, up to the suite; with a kernel, one of vm.KERNELS, for its disk."""
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
        *(_guest() if kernel else _contained()),
        # They would take dpkg's lock at a random moment of a converge.
        'chroot "$1" systemctl --quiet disable apt-daily.timer apt-daily-upgrade.timer',
        'rm -f "$1"/var/cache/apt/archives/*.deb',
        download,
    ]
    if kernel:
        hooks += vm.KERNELS[kernel].hooks
    packages = f"{_INCLUDE} {vm.GUEST} {vm.KERNELS[kernel].packages}" if kernel else _INCLUDE
    target = "directory" if kernel else "tar"
    return [*_arguments(target, packages, hooks, "--skip=cleanup/apt"), RELEASES[release].suite]


def _runner() -> list[str]:
    """The same, for the image in which guests run: the newest release's, for its qemu."""
    hooks = [_write("/usr/local/sbin/lab-init", "0755", vm.INIT), 'mkdir "$1/vm"']
    return [*_arguments("tar", vm.RUNNER, hooks), list(RELEASES.values())[-1].suite]


def _arguments(target: str, packages: str, hooks: Sequence[str], *more: str) -> list[str]:
    return [
        "--mode=root",
        "--variant=minbase",
        f"--format={target}",
        f"--include={','.join(packages.split())}",
        *more,
        '--aptopt=Acquire::Languages "none"',
        *(f"--customize-hook={hook}" for hook in hooks),
    ]


def tag(release: str, kernel: str = "") -> str:
    """Return the image's name; its tag is a digest of the recipe, so a changed recipe is another image."""
    if not kernel:
        return _tag(release, recipe(release))
    parts = [
        *recipe(release, kernel),
        _tag("runner", _runner()),
        vm.DISK,
        vm.KERNELS[kernel].arguments,
    ]
    return _tag(f"{release}-{kernel}", parts)


def _tag(what: str, recipe: Sequence[str]) -> str:
    digest = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:12]
    return f"localhost/zmqfleet-lab-{what}:{digest}"


def ensure(release: str, kernel: str, say: Callable[[str], None]) -> str:
    """Build the image of `release`, with a kernel of its own if that is one of vm.KERNELS, unless it is there, and
    return its name."""
    if not kernel:
        return _ensured(tag(release), lambda name, work: _build(name, work, recipe(release)), say)
    base = _runner()
    runner = _ensured(_tag("runner", base), lambda name, work: _build(name, work, base), say)
    return _ensured(
        tag(release, kernel), lambda name, work: _build_guest(name, work, release, kernel, runner), say
    )


def _ensured(name: str, build: Callable[[str, Path], None], say: Callable[[str], None]) -> str:
    repository = name.partition(":")[0]
    what = repository.rpartition("/")[2]
    # Labs that come up at the same time wait for one build.
    with Path(f"/run/lock/{what}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if podman("image", "exists", name).returncode != 0:
            say(f"{what}: building the image from packages (once, a minute or two)")
            with tempfile.TemporaryDirectory(prefix="zmqfleet-lab-", dir="/var/tmp") as directory:
                build(name, Path(directory))
            # Images of older recipes go, those in use apart: podman refuses to remove them.
            listing = podman(
                "images", "--format={{.Repository}}:{{.Tag}}", f"--filter=reference={repository}"
            ).stdout
            for old in set(listing.split()) - {name}:
                podman("rmi", old)
            say(f"{what}: image built")
    return name


def _build(name: str, work: Path, recipe: Sequence[str]) -> None:
    rootfs = work / "rootfs.tar"
    _bootstrap(name, recipe, rootfs)
    command = '--change=CMD ["/usr/local/sbin/lab-init"]'
    podman("import", "--quiet", command, str(rootfs), name, check=True)


def _build_guest(name: str, work: Path, release: str, kernel: str, runner: str) -> None:
    guest, files = work / "guest", work / "vm"
    _bootstrap(name, recipe(release, kernel), guest)
    files.mkdir()
    for file in ("vmlinuz", "initrd.img"):
        (found,) = (guest / "boot").glob(f"{file}-*")
        shutil.move(found, files / file)
    (files / "arguments").write_text(vm.KERNELS[kernel].arguments)
    disk = (*privileged(), "--network=none", f"--volume={work}:/build", runner, "sh", "-c", vm.DISK)
    podman("run", "--rm", *disk, check=True)
    container = f"zmqfleet-lab-build-{release}-{kernel}"
    podman("rm", "--force", "--ignore", container)  # of a run that was killed
    podman("create", f"--name={container}", runner, check=True)
    try:
        podman("cp", f"{files}/.", f"{container}:/vm", check=True)
        podman("commit", "--quiet", container, name, check=True)
    finally:
        podman("rm", container, check=True)


def _bootstrap(name: str, recipe: Sequence[str], target: Path) -> None:
    """Debian at a path."""
    built = subprocess.run(
        ["mmdebstrap", *recipe, str(target)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode != 0:
        tail = "\n".join(built.stderr.strip().splitlines()[-15:])
        raise LabError(
            f"{name}: mmdebstrap could not build the image (no network? "
            f"debian-archive-keyring too old for {recipe[-1]}?):\n{tail}"
        )
