"""Hosts with kernels of their own, which enforce what a container's cannot."""

import time
from collections.abc import Iterator

import pytest
from labs import Lab, provisioned

# by the security module: the release, the engine that provisions it from blank, and the one that finds nothing to do
_LABS = {
    "apparmor": ("debian13", "ansible", "pyinfra"),
    "selinux": ("debian12", "pyinfra", "ansible"),
}
_DENIED = (
    "echo 'profile nothing { }' >/tmp/nothing; apparmor_parser --replace /tmp/nothing; "
    "aa-exec -p nothing -- /bin/true 2>/dev/null || echo denied; "
    "apparmor_parser --remove /tmp/nothing; rm /tmp/nothing"
)
_ENFORCES = {
    "apparmor": (_DENIED, "denied\n"),
    "selinux": ("echo $(cat /sys/fs/selinux/enforce); id -Z | cut -d: -f3", "1\nunconfined_t\n"),
}


@pytest.fixture(scope="module", params=_LABS)
def kernel(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def lab(kernel: str) -> Iterator[Lab]:
    release, engine, _ = _LABS[kernel]
    with provisioned(f"on-{kernel}", engine, 3, "--vm", kernel, "--release", release) as found:
        yield found


def boot(lab: Lab, host: str) -> str:
    """What tells a boot of a host's kernel from any other; empty if it does not answer."""
    return lab.sh(host, "cat /proc/sys/kernel/random/boot_id", check=False)


def all_is_well(lab: Lab) -> None:
    """All is as declared, and reachable as declared."""
    assert lab.drift() == set()
    status, report = lab.probe()
    assert (status, len(report["cells"])) == (0, 16)


def test_a_guest_enforces_and_is_whole(lab: Lab, kernel: str) -> None:
    command, said = _ENFORCES[kernel]
    assert len({boot(lab, host) for host in lab.fleet.hosts}) == 3, "each has a kernel of its own"
    for host in ("broker1", "gateway1"):
        assert lab.sh(host, command) == said
        assert lab.sh(host, "systemctl is-system-running; hostname") == f"running\n{host}\n"


def test_services_run_there_as_everywhere(lab: Lab, kernel: str) -> None:
    assert lab.converge(_LABS[kernel][2]) == set()
    all_is_well(lab)


def test_services_come_back_after_a_power_cut_and_a_reboot(lab: Lab) -> None:
    before = {host: boot(lab, host) for host in ("broker1", "gateway1")}
    lab.sh("gateway1", "systemctl reboot", check=False)
    with lab.down("broker1"):
        deadline = time.monotonic() + 300
        while boot(lab, "gateway1") in ("", before["gateway1"]):
            assert time.monotonic() < deadline
            time.sleep(1)
    assert boot(lab, "broker1") not in ("", before["broker1"])
    all_is_well(lab)
