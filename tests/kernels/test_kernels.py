"""Hosts with kernels of their own, which enforce what a container's cannot."""

from collections.abc import Iterator

import pytest
from labs import Lab, provisioned

# by the security module: the release, the engine that provisions it from blank, and the one that finds nothing to do
_LABS = {
    "apparmor": ("debian13", "ansible", "pyinfra"),
    "selinux": ("debian12", "pyinfra", "ansible"),
}
_ENFORCES = {
    "apparmor": ("cat /sys/module/apparmor/parameters/enabled; aa-enabled", "Y\nYes\n"),
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


def test_a_guest_enforces_and_is_whole(lab: Lab, kernel: str) -> None:
    command, said = _ENFORCES[kernel]
    kernels = {host: lab.sh(host, "uname -r") for host in lab.fleet.hosts}
    assert kernels["broker1"] == kernels["gateway1"] != kernels["builder1"]
    for host in ("broker1", "gateway1"):
        assert lab.sh(host, command) == said
        assert lab.sh(host, "systemctl is-system-running; hostname") == f"running\n{host}\n"


def test_services_run_there_as_everywhere(lab: Lab, kernel: str) -> None:
    assert lab.converge(_LABS[kernel][2]) == set()
    assert lab.drift() == set()
    status, report = lab.probe()
    assert (status, len(report["cells"])) == (0, 16)


def test_services_come_back_after_a_power_cut(lab: Lab) -> None:
    before = lab.sh("broker1", "cat /proc/sys/kernel/random/boot_id")
    with lab.down("broker1"):
        pass
    assert lab.sh("broker1", "cat /proc/sys/kernel/random/boot_id") != before
    assert lab.drift() == set()
    status, report = lab.probe()
    assert (status, len(report["cells"])) == (0, 16)
