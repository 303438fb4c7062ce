"""Bring up, list, enter and remove a lab: containers, on a network of their own, in which systemd boots, or a guest."""

import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zmqfleet.lab import image, vm
from zmqfleet.lab.inventory import LabHost, Paths, inventory_text, plan, ssh_config_text
from zmqfleet.lab.podman import LabError, podman, privileged, require_tools
from zmqfleet.text import counted, printable

Say = Callable[[str], None]

_BOOT_SECONDS = 600.0  # virtual machines without KVM, several of them, on a machine that is busy
_AT_ONCE = 4  # hosts that boot at the same time; more make each one slower
_INOTIFY_INSTANCES = 1024  # a host's systemd takes 7; the kernel's default of 128 is for all hosts together


def up(
    project: Path, name: str, hosts: int, releases: list[str], say: Say, kernels: Sequence[str] = ()
) -> None:
    """Bring up the first `hosts` lab hosts; what is there already stays as it is. With kernels, of vm.KERNELS, those
    that run services are virtual machines which have them, by turns.

    Writes the inventory `name` of `project`. Raises LabError.
    """
    paths = Paths(project, name)
    plan(hosts, releases, "0.0.0.0/24", kernels)  # wrong arguments are refused before anything is made
    if kernels:
        vm.check_machine()
    require_tools()
    paths.check_own()
    with _locked(paths):
        wanted = plan(hosts, releases, _network(paths), kernels)
        existing = _containers(paths)
        for host in wanted:
            found = existing.get(host.name)
            if found and found[0].system != host.system:
                say(
                    f"{host.name}: stays on {found[0].system} (`zmqfleet lab down` and `up` make it {host.system})"
                )
        missing = [host for host in wanted if host.name not in existing]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            needed = sorted({(host.release, host.kernel) for host in missing})
            images = dict(
                zip(
                    needed,
                    pool.map(lambda one: image.ensure(one[0], one[1], say), needed),
                    strict=True,
                )
            )
            _write_files(paths)
            _raise_kernel_limits(say)
            complete = [host for host, _ in existing.values()] + missing
            states = {host.name: state for host, state in existing.values()}
            keys = pool.map(
                lambda host: _bring_up(
                    paths,
                    host,
                    states.get(host.name),
                    images.get((host.release, host.kernel), ""),
                    say,
                ),
                complete,
            )
            known = dict(zip((host.name for host in complete), keys, strict=True))
        complete.sort(key=lambda host: _number(host.address))
        _write(
            paths.files / "known_hosts",
            "".join(f"{host.address} {known[host.name]}\n" for host in complete),
        )
        _write(paths.files / "ssh_config", ssh_config_text(complete, paths.files))
        for host in complete:
            _check_ssh(paths, host)
        paths.inventory.parent.mkdir(parents=True, exist_ok=True)
        _write(paths.inventory, inventory_text(complete, paths.files))
    say(f"lab {name}: {len(complete)} hosts answer over ssh; inventory {paths.inventory}")


def status(project: Path, name: str) -> list[dict[str, str]]:
    """Return host, release, address, state and kernel of every host; no host means no lab. Raises LabError."""
    require_tools()
    found = sorted(
        _containers(Paths(project, name)).values(),
        key=lambda item: _number(item[0].address),
    )
    return [
        {
            "host": host.name,
            "release": host.release,
            "address": host.address,
            "state": state,
            "vm": host.kernel,
        }
        for host, state in found
    ]


def ssh(project: Path, name: str, host: str, command: list[str]) -> int:
    """Run ssh to `host` on this terminal, with `command` or a shell; return its exit status. Raises LabError."""
    paths = Paths(project, name)
    config = paths.files / "ssh_config"
    if not config.exists():
        raise LabError(f"there is no lab {name}: zmqfleet lab up --name {name}")
    names = [line.split()[1] for line in config.read_text().splitlines() if line.startswith("Host ")][:-1]
    if host not in names:
        raise LabError(f"lab {name} has no host {host!r}; it has {', '.join(names)}")
    return subprocess.call(["ssh", "-F", str(config), host, *command])


def down(project: Path, name: str, say: Say) -> None:
    """Remove the lab: containers, network, inventory, state. The images stay, as a cache. Raises LabError."""
    paths = Paths(project, name)
    require_tools()
    paths.check_own()
    if not paths.inventory.exists() and not paths.files.exists() and not _exists(paths):
        say(f"lab {name}: nothing to remove")
        return
    with _locked(paths):
        ids = podman(
            "ps",
            "--all",
            "--quiet",
            "--filter",
            f"label=zmqfleet.lab={paths.prefix}",
            check=True,
        ).stdout.split()
        remove = ("rm", "--force", "--volumes", "--time=0", "--ignore", *ids)
        # crun fails over a process that ends just then (crun's issue 660), and the container is gone all the same
        if ids and podman(*remove).returncode:
            podman(*remove, check=True)
        if podman("network", "exists", paths.prefix).returncode == 0:
            podman("network", "rm", paths.prefix, check=True)
        paths.inventory.unlink(missing_ok=True)
        # Only a lab's state: that of an inventory of the same name without a lab was refused above.
        shutil.rmtree(paths.state, ignore_errors=True)
        for directory in (
            paths.inventory.parent,
            paths.inventory.parent.parent,
            paths.state.parent,
        ):
            if directory.is_dir() and not any(directory.iterdir()):
                directory.rmdir()
    if paths.inventory.parent.exists():
        say(f"lab {name}: {paths.inventory.parent} holds files that are not the lab's, they stay")
    say(f"lab {name}: {counted(len(ids), 'host')} removed")


@contextmanager
def _locked(paths: Paths) -> Iterator[None]:
    # Two runs for one lab would make the same containers; other labs do not wait.
    path = Path(f"/run/lock/{paths.prefix}.lock")
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabError(
                f"another `zmqfleet lab` is at work on lab {paths.name}: wait until it is done"
            ) from None
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _exists(paths: Paths) -> bool:
    return bool(_containers(paths)) or podman("network", "exists", paths.prefix).returncode == 0


def _network(paths: Paths) -> str:
    """Return the subnet of the lab's network, which is made when it is missing."""
    # Without podman's DNS, hosts ask the controller's resolvers, and nothing more can go wrong in between.
    if podman("network", "exists", paths.prefix).returncode != 0:
        podman("network", "create", "--disable-dns", paths.prefix, check=True)
    found: list[dict[str, Any]] = json.loads(podman("network", "inspect", paths.prefix, check=True).stdout)
    return str(found[0]["subnets"][0]["subnet"])


def _containers(paths: Paths) -> dict[str, tuple[LabHost, str]]:
    """Return the lab's hosts by name, with the state that podman gives them."""
    listing = podman(
        "ps",
        "--all",
        "--format=json",
        "--filter",
        f"label=zmqfleet.lab={paths.prefix}",
        check=True,
    ).stdout
    hosts = {}
    for container in json.loads(listing or "[]"):
        labels = container["Labels"]
        host = LabHost(
            labels["zmqfleet.host"],
            labels["zmqfleet.release"],
            labels["zmqfleet.address"],
            labels.get("zmqfleet.kernel", ""),
        )
        hosts[host.name] = (host, str(container["State"]))
    return hosts


def _write_files(paths: Paths) -> None:
    """Make what the hosts mount: the lab's key and the certificates that the controller trusts."""
    paths.files.mkdir(parents=True, exist_ok=True)
    paths.files.chmod(0o700)
    key = paths.files / "key"
    if not key.exists():
        command = [
            "ssh-keygen",
            "-q",
            "-t",
            "ed25519",
            "-N",
            "",
            "-C",
            paths.prefix,
            "-f",
            str(key),
        ]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    bundle = Path(os.environ.get("SSL_CERT_FILE") or "/etc/ssl/certs/ca-certificates.crt")
    if not bundle.is_file():
        raise LabError(
            f"{bundle}: no such file; set SSL_CERT_FILE to the certificates that this machine trusts"
        )
    # A copy, because containers keep mounting it for as long as they live.
    (paths.files / "ca-certificates.crt").write_bytes(bundle.read_bytes())


def _raise_kernel_limits(say: Say) -> None:
    """Give the kernel what containers with systemd and a network need."""
    wanted = {
        "fs/inotify/max_user_instances": _INOTIFY_INSTANCES,
        "net/ipv4/ip_forward": 1,
    }
    for setting, value in wanted.items():
        path = Path("/proc/sys") / setting
        if int(path.read_text()) < value:
            path.write_text(f"{value}\n")
            say(f"this machine: {setting.replace('/', '.')} set to {value} until the next boot")


def _bring_up(paths: Paths, host: LabHost, state: str | None, image_name: str, say: Say) -> str:
    """Create or start the host's container, wait for its boot, and return its host key (type and key)."""
    started = time.monotonic()
    container = f"{paths.prefix}-{host.name}"
    if state is None:
        podman(*_run_arguments(paths, host, container), image_name, check=True)
    elif state != "running":
        podman("start", container, check=True)
    _wait_booted(host, container, new=state is None)
    if state != "running":
        say(f"{host.name}: {host.system} at {host.address}, booted in {time.monotonic() - started:.0f} s")
    key = podman("exec", container, "cat", "/etc/ssh/ssh_host_ed25519_key.pub", check=True).stdout
    return " ".join(key.split()[:2])


def _run_arguments(paths: Paths, host: LabHost, container: str) -> list[str]:
    return [
        "run",
        "--detach",
        f"--name={container}",
        f"--hostname={host.name}",
        f"--label=zmqfleet.lab={paths.prefix}",
        f"--label=zmqfleet.host={host.name}",
        f"--label=zmqfleet.release={host.release}",
        f"--label=zmqfleet.address={host.address}",
        f"--label=zmqfleet.kernel={host.kernel}",
        f"--network={paths.prefix}",
        f"--ip={host.address}",
        # Fixed too: with a new one at an old address, neighbours would look for the old one for half a minute.
        f"--mac-address={_mac(host.address)}",
        f"--systemd={'false' if host.kernel else 'always'}",
        # Units' sandboxes need CAP_SYS_ADMIN (mounts, seccomp, BPF), nftables needs CAP_NET_ADMIN. But crun 1.8
        # raises RLIMIT_MEMLOCK for a container's device filter, which root may not do everywhere: it takes
        # CAP_SYS_RESOURCE. Only a privileged container has no such filter. lab-init (image.py) takes back what
        # a host must not do to the machine, before systemd starts.
        *privileged(),
        # So that `reboot` in a host is one; `podman stop` is what keeps a host down.
        "--restart=on-failure",
        f"--volume={paths.files}/key.pub:/home/admin/.ssh/authorized_keys:ro",
        f"--volume={paths.files}/ca-certificates.crt:/usr/local/share/ca-certificates/controller.crt:ro",
    ]


def _wait_booted(host: LabHost, container: str, new: bool) -> None:
    deadline = time.monotonic() + _BOOT_SECONDS
    state = "no answer from systemd"
    while (left := deadline - time.monotonic()) > 0:
        try:
            how = vm.BOOTED if host.kernel else ("systemctl", "is-system-running", "--wait")
            answer = podman("exec", container, *how, timeout=left)
        except subprocess.TimeoutExpired:
            break
        state = answer.stdout.strip() or answer.stderr.strip()
        # Degraded: a unit failed. On a host in use that is for a converge to mend, on a new one for the lab.
        if state == "running" or (state == "degraded" and not new):
            return
        if state == "degraded":
            break
        time.sleep(0.3)
    journal = podman("exec", container, "journalctl", "--boot", "--no-pager", "--lines=20")
    console = podman("logs", "--tail=20", container)
    said = journal.stdout.strip() or (console.stdout + console.stderr).strip()
    tail = "\n".join(map(printable, said.splitlines()))
    raise LabError(
        f"{host.name}: did not boot as it should ({state}, after at most {_BOOT_SECONDS:.0f} s); "
        f"the last lines of its journal, or console:\n{tail}"
    )


def _check_ssh(paths: Paths, host: LabHost) -> None:
    config = str(paths.files / "ssh_config")
    options = [
        "-o",
        "BatchMode=yes",
        "-o",
        "ConnectTimeout=10",
        "-o",
        "ControlPath=none",
    ]
    command = ["ssh", "-F", config, *options, host.name, "sudo", "-n", "true"]
    answer = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if answer.returncode == 0:
        return
    container = f"{paths.prefix}-{host.name}"
    tail = podman(
        "exec",
        container,
        "journalctl",
        "--boot",
        "--no-pager",
        "--lines=20",
        "--unit=ssh",
    ).stdout.strip()
    raise LabError(
        f"{host.name}: no ssh to admin@{host.address} ({answer.stderr.strip()}); "
        f"`zmqfleet lab down` and `up` again if the lab's files were removed; the last lines of sshd's journal:\n{tail}"
    )


def _write(path: Path, text: str) -> None:
    """Replace `path` at once, so that nobody reads half a file."""
    draft = path.with_name(path.name + ".new")
    draft.write_text(text)
    draft.replace(path)


def _mac(address: str) -> str:
    """Return a locally administered MAC address that is unique on the network as `address` is."""
    return "0a:58:" + ":".join(f"{int(part):02x}" for part in address.split("."))


def _number(address: str) -> int:
    return int(address.rsplit(".", 1)[1])
