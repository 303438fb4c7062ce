"""Hosts with kernels of their own, which enforce what a container's cannot."""

import time
from collections.abc import Iterator

import pytest
from labs import Lab, provisioned

# AppArmor: a profile that allows nothing denies all
_DENIED = (
    "echo 'profile nothing { }' >/tmp/nothing; apparmor_parser --replace /tmp/nothing; "
    "aa-exec -p nothing -- /bin/true 2>/dev/null || echo denied; "
    "apparmor_parser --remove /tmp/nothing; rm /tmp/nothing"
)
_CONFINED = "echo $(cat /sys/fs/selinux/enforce); id -Z | cut -d: -f3"
_ENFORCES = {"broker1": (_DENIED, "denied\n"), "gateway1": (_CONFINED, "1\nunconfined_t\n")}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with provisioned("kernels", "ansible", 3, "--vm", "apparmor,selinux") as found:
        yield found


def boot(lab: Lab, host: str) -> str:
    """What tells a boot of a host's kernel from any other; empty if it does not answer."""
    return lab.sh(host, "cat /proc/sys/kernel/random/boot_id", check=False)


def all_is_well(lab: Lab) -> None:
    """All is as declared, and reachable as declared."""
    assert lab.drift() == set()
    # without KVM, and beside other suites, a guest may take seconds for a handshake
    status, report = lab.probe("--timeout", "15")
    assert (status, len(report["cells"])) == (0, 16), report


@pytest.mark.parametrize("host", _ENFORCES)
def test_a_guest_enforces_and_is_whole(lab: Lab, host: str) -> None:
    command, said = _ENFORCES[host]
    assert lab.sh(host, command) == said
    assert lab.sh(host, "systemctl is-system-running; hostname") == f"running\n{host}\n"


def test_each_has_a_kernel_of_its_own(lab: Lab) -> None:
    assert len({boot(lab, host) for host in lab.fleet.hosts}) == 3


def test_services_run_there_as_everywhere(lab: Lab) -> None:
    assert lab.converge("pyinfra") == set()
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
