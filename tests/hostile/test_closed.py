"""A port that a host may not reach stays closed to it, whatever becomes of the firewall; and a service reaches nobody
but its peers."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from knocking import nobody_gets_in
from labs import ENGINES, Lab, project, variables

BREAK = "echo 'no rule' >>/etc/zmqfleet/firewall.nft"

EVENTS = {
    "nftables restarted": "systemctl restart nftables",
    "nftables reloaded": "systemctl start nftables; systemctl reload nftables",
    "nftables stopped and started": "systemctl stop nftables; sleep 1; systemctl start nftables",
    "nftables restarted more often than systemd allows": "for _ in 1 2 3 4 5 6 7 8 9 10 11 12; do "
    "systemctl restart nftables; done; sleep 1; ! systemctl --quiet is-active nftables; "
    "systemctl reset-failed nftables; nft list table inet zmqfleet >/dev/null",
    "ours restarted more often than systemd allows": "for _ in 1 2 3 4 5 6 7 8 9 10 11 12; do "
    "systemctl restart zmqfleet-firewall || exit 1; done",
    "ours stopped": "systemctl stop zmqfleet-firewall; sleep 1; nft list table inet zmqfleet >/dev/null && "
    "systemctl start zmqfleet-firewall",
    "ruleset flushed by hand": "nft flush ruleset; sleep 2",
    "ruleset flushed, then the service restarted": "nft flush ruleset; systemctl restart quotes && "
    "nft list table inet zmqfleet >/dev/null",
    "broken file": f"{BREAK}; ! systemctl restart zmqfleet-firewall && nft list table inet zmqfleet >/dev/null",
    "broken file, and the service restarted": f"{BREAK}; nft flush ruleset; ! systemctl restart quotes; sleep 2",
}


@pytest.fixture
def mended(lab: Lab) -> Iterator[Lab]:
    """The lab, as declared again at the end."""
    yield lab
    lab.converge("pyinfra")
    assert lab.drift() == set()
    assert lab.probe()[0] == 0


@pytest.mark.parametrize("event", EVENTS)
def test_nobody_gets_in_whatever_becomes_of_the_firewall(mended: Lab, event: str) -> None:
    with nobody_gets_in(mended):
        for broker in ("broker1", "broker2"):  # of two releases of Debian
            mended.sh(broker, f"systemctl reset-failed; {EVENTS[event]}")


def test_nobody_gets_in_after_a_reboot_without_rules(mended: Lab) -> None:
    booted = mended.sh("broker1", f"{BREAK}; stat -c %Y /proc/1")
    state = "stat -c %Y /proc/1; systemctl is-active zmqfleet-firewall quotes"
    with nobody_gets_in(mended):
        mended.sh("broker1", "systemctl reboot", check=False)
        deadline = time.monotonic() + 120
        # the service is tried again, ten times at most
        while (
            not (now := mended.sh("broker1", state, check=False)).endswith("failed\nfailed\n")
            or booted in now
        ):
            assert time.monotonic() < deadline, now
            time.sleep(1)


@pytest.mark.parametrize("engine", ENGINES)
def test_nobody_gets_in_while_a_host_leaves_and_comes_back(mended: Lab, engine: str) -> None:
    with nobody_gets_in(mended):
        mended.run("zmqfleet", "retire", "broker1", "--yes").must_succeed()
        assert (
            mended.sh(
                "broker1", "nft list ruleset; ls -d /etc/systemd/system/nftables.service.d", check=False
            )
            == ""
        )
        assert mended.converge(engine)


CONNECT = """
import socket, sys
with open("/sys/fs/cgroup/system.slice/quotes.service/cgroup.procs", "w") as group:
    group.write("0")
for where in sys.argv[1:]:
    try:
        socket.create_connection((where, 22), 1).close()
        print("open")
    except OSError as error:
        print("closed")
"""


def test_a_service_reaches_its_peers_its_egress_and_nobody_else(mended: Lab, tmp_path: Path) -> None:
    address = {name: host.address for name, host in mended.fleet.hosts.items()}
    # with ssh at its other end; the cloud's address for metadata is a host's own here, or it would be closed anyway
    everybody = [
        "127.0.0.1",
        address["broker1"],
        address["gateway1"],
        address["stranger1"],
        "169.254.169.254",
    ]
    mended.sh("stranger1", "ip address add 169.254.169.254/32 dev eth0")
    mended.sh("broker1", "ip route add 169.254.169.254 dev eth0")

    def reached() -> list[str]:
        return mended.sh("broker1", f"python3 - {' '.join(everybody)}", stdin=CONNECT).split()

    def declare(name: str, egress: list[str]) -> Lab:
        declared = variables()
        declared["zmq_services"][0]["egress"] = egress
        return mended.of(project(tmp_path / name, declared))

    try:
        started = mended.started()
        assert reached() == ["open", "open", "open", "closed", "closed"]
        wider = declare("wider", [address["stranger1"], "169.254.0.0/16"])
        assert ("broker1", "peers quotes.service: differ") in wider.converge("ansible")
        assert wider.drift() == set()
        assert reached() == ["open"] * 5
        assert ("broker1", "peers quotes.service: differ") in mended.converge("pyinfra")
        assert reached() == ["open", "open", "open", "closed", "closed"]
        assert mended.started() == started, "a service was restarted for its peers"
    finally:
        mended.sh("broker1", "ip route del 169.254.169.254")
        mended.sh("stranger1", "ip address del 169.254.169.254/32 dev eth0")


WRITE = """
import os, sys
for directory, _, _ in [*os.walk("/", topdown=True)]:
    if directory.startswith(("/proc", "/sys")):
        continue
    try:
        os.close(os.open(directory + "/zmqfleet-test", os.O_CREAT | os.O_WRONLY))
        print(directory)
    except OSError:
        pass
"""


def test_what_a_service_can_write_is_its_own(lab: Lab) -> None:
    enter = "nsenter --target $(systemctl show -P MainPID quotes) --mount --setuid $(id -u quotes) python3 -"
    written = lab.sh("broker1", f"cd /; {enter}", stdin=WRITE).split()
    assert sorted(written) == ["/dev/shm", "/tmp", "/var/tmp"]
    assert (
        lab.sh("broker1", "find / -xdev -name zmqfleet-test ! -path '*/systemd-private-*'; ls /dev/shm") == ""
    )
