"""Both engines give the same hosts, and each has nothing to do after the other."""

import pytest
from labs import ENGINES, Lab
from twins import differences, snapshot

Twins = tuple[Lab, Lab]
HOSTS = ("builder1", "broker1", "gateway1", "stranger1", "broker2")


@pytest.mark.parametrize("host", HOSTS)
def test_twins_are_equal(twins: Twins, host: str) -> None:
    found = snapshot(twins[0], host)
    assert all(
        f"/etc/zmqfleet/{name}" in found["file"] for name in ("firewall.nft", "probe/curve.key_secret")
    )
    assert differences(*twins, host) == []


def test_go_has_one_environment_everywhere(twins: Twins) -> None:
    for twin in twins:
        found = snapshot(twin, "builder1")["go env"]
        assert "/usr/local/lib/go/" in found["login shell"]
        assert set(found.values()) == {found["login shell"]}, found


def test_hosts_are_all_compared(twins: Twins) -> None:
    assert all(sorted(twin.fleet.hosts) == sorted(HOSTS) for twin in twins)


@pytest.mark.parametrize("first", [0, 1], ids=ENGINES)
def test_the_first_run_changes_each_host_and_no_engine_changes_any_after_it(twins: Twins, first: int) -> None:
    lab = twins[first]
    assert lab.first
    assert {host for host, _ in lab.first.changes} == set(HOSTS)
    before = lab.started()
    assert lab.drift() == set()
    for engine in ENGINES:
        assert lab.converge(engine) == set()
    assert lab.started() == before
