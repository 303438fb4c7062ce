"""What hands did to hosts: all who look say the same about it, before and after it is mended."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from labs import ENGINES, Changes, Lab, project

# a host, what is done to it, and what is to be done then; ID stands for a release's
DRIFT: list[tuple[str, str, list[str]]] = [
    (
        "broker1",
        "echo x >>/etc/zmqfleet/quotes/environment",
        [
            "file /etc/zmqfleet/quotes/environment: content",
            "unit quotes.service: runs with an earlier /etc/zmqfleet/quotes/environment",
        ],
    ),
    (
        "broker1",
        "chmod 600 /etc/zmqfleet/quotes/endpoints.json",
        ["file /etc/zmqfleet/quotes/endpoints.json: mode 600"],
    ),
    (
        "broker1",
        "touch /etc/zmqfleet/quotes/clients/old.key",
        ["directory /etc/zmqfleet/quotes/clients: holds old.key"],
    ),
    ("broker1", "nft flush chain inet zmqfleet input", ["table inet zmqfleet: content"]),
    (
        "broker1",
        "systemctl set-property --runtime quotes IPAddressAllow=192.0.2.1",
        ["peers quotes.service: differ"],
    ),
    ("gateway1", "nft delete table inet zmqfleet", ["table inet zmqfleet: missing"]),
    ("broker2", "systemctl disable --quiet --now quotes", ["unit quotes.service: is disabled"]),
    (
        "stranger1",
        "echo '# x' >>/etc/zmqfleet/firewall.nft",
        ["file /etc/zmqfleet/firewall.nft: content"],
    ),
    ("builder1", "echo GOFLAGS=-x >>/usr/local/go/go.env", ["step Go toolchain 1.25.4: to be done"]),
    (
        "builder1",
        "userdel zmq-build",
        [
            "user zmq-build: missing",
            "directory /var/lib/zmqfleet/caches: owner UNKNOWN:UNKNOWN",
        ],
    ),
    (
        "gateway1",
        "cd /opt/zmqfleet/quotes-client/current/ && echo x >new && chmod 755 new && mv new quotes-client",
        ["file /opt/zmqfleet/quotes-client/releases/ID/quotes-client: content"],
    ),
    (
        "gateway1",
        "systemctl stop quotes-client; rm /opt/zmqfleet/quotes-client/current",
        ["link /opt/zmqfleet/quotes-client/current: missing", "unit quotes-client.service: is inactive"],
    ),
]
# it is kept before it is replaced, though nothing runs with it any more; not of a forecast, since it changes nothing
KEPT = {
    ("broker1", "step what quotes runs with, kept: /etc/zmqfleet/quotes/environment changes"),
    ("gateway1", "step what quotes-client runs with, kept: /opt/zmqfleet/quotes-client/current changes"),
}


def without_ids(changes: Changes) -> Changes:
    return {(host, re.sub("/[0-9a-f]{16}/", "/ID/", change)) for host, change in changes}


@pytest.mark.parametrize("engine", ENGINES)
def test_forecasts_agree_and_drift_is_mended(lab: Lab, engine: str) -> None:
    # a toolchain and caches take minutes to be made anew: once will do
    chosen = [row for row in DRIFT if engine == "ansible" or row[0] != "builder1"]
    for host, damage, _ in chosen:
        lab.sh(host, damage)
    expected = {(host, change) for host, _, changes in chosen for change in changes}
    assert without_ids(lab.drift()) == expected
    assert [without_ids(lab.forecast(one)) for one in ENGINES] == [expected, expected]
    assert without_ids(lab.drift()) == expected, "a forecast has changed something"
    assert without_ids(lab.converge(engine)) - KEPT == expected
    assert lab.drift() == set()
    assert [lab.converge(one) for one in ENGINES] == [set(), set()]
    assert lab.probe()[0] == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_a_controller_that_knows_nothing_changes_nothing(lab: Lab, tmp_path: Path, engine: str) -> None:
    """Neither a public key nor a digest nor an artefact, as in a fresh clone, of a fleet that is as declared."""
    before = lab.started()
    assert lab.of(project(tmp_path / "drift")).drift() == set()
    assert lab.of(project(tmp_path / "forecast")).forecast(engine) == set()
    # the keys of its clients stay unknown, and the clients are not cut off
    assert lab.of(project(tmp_path / "limit")).converge(engine, "--limit", "broker1") == set()
    fresh = lab.of(project(tmp_path / "converge"))
    assert fresh.converge(engine) == set()
    assert fresh.drift() == set()
    assert lab.started() == before
    assert public_keys(fresh) == public_keys(lab)


@pytest.fixture
def others_firewalls(lab: Lab) -> Iterator[None]:
    """Real ones, which let in ssh alone: ufw on broker1, firewalld on broker2."""
    install = "DEBIAN_FRONTEND=noninteractive apt-get install -qq -y"
    lab.sh("broker1", f"{install} ufw && ufw allow 22/tcp && ufw --force enable")
    lab.sh("broker2", f"{install} firewalld && firewall-cmd --state")
    yield
    lab.sh("broker1", "ufw --force disable; apt-get autopurge -qq -y ufw")
    lab.sh("broker1", "nft delete table ip filter && nft delete table ip6 filter")
    lab.sh("broker2", "systemctl stop firewalld && apt-get autopurge -qq -y firewalld")


@pytest.mark.usefixtures("others_firewalls")
def test_no_run_succeeds_while_others_firewalls_keep_peers_out(lab: Lab) -> None:
    said = (
        "there drops what it does not allow itself, perhaps tcp 5555 (quotes.orders), 5556 (quotes.ticks): "
    )
    drift = lab.run("zmqfleet", "drift")
    assert (drift.status, drift.output.count(f"{said}zmqfleet probe tells")) == (0, 2), drift.output
    # nothing to do, and something
    for engine, before in itertools.product(
        ENGINES, ("true", "chmod 600 /etc/zmqfleet/quotes/endpoints.json")
    ):
        lab.sh("broker1", before)
        run = lab.engine(engine)
        assert run.status != 0, run.output
        # Ansible breaks lines
        words = " ".join(run.output.split())
        for host, who in (("broker1", "ufw"), ("broker2", "firewalld")):
            kept_out = f"does not get through: gateway1 to quotes.orders on {host}: "
            assert f"{host}: {who} {said}{kept_out}" in words, run.output
        assert "gateway1: ufw" not in words
        assert lab.drift() == set()
    status, report = lab.probe()
    failed = {cell["destination"] for cell in report["cells"] if cell["verdict"] == "fail"}
    assert (status, failed) == (1, {"broker1", "broker2"})
    lab.sh("broker1", "ufw allow 5555:5556/tcp")
    lab.sh("broker2", "firewall-cmd --add-port=5555-5556/tcp")
    assert lab.probe()[0] == 0
    for engine in ENGINES:
        assert "Nothing to do: 5 hosts are as declared\n" in lab.engine(engine).must_succeed().output


@pytest.fixture
def client_kept_in(lab: Lab) -> Iterator[None]:
    """A table of a team's own on gateway1, which lets out what was let in."""
    rules = "type filter hook output priority 0; policy drop; ct state established accept; oif lo accept"
    lab.sh("gateway1", f"nft 'table inet corp {{ chain out {{ {rules}; }}; }}'")
    yield
    lab.sh("gateway1", "nft delete table inet corp")


@pytest.mark.usefixtures("client_kept_in")
def test_no_run_succeeds_while_a_client_is_kept_in(lab: Lab) -> None:
    said = (
        "gateway1: table corp there drops what goes out and it does not allow itself, perhaps tcp 5555 "
        "(quotes.orders), 5556 (quotes.ticks): "
    )
    assert f"{said}zmqfleet probe tells" in lab.run("zmqfleet", "drift").output
    for engine in ENGINES:
        run = lab.engine(engine)
        assert run.status != 0, run.output
        words = " ".join(run.output.split())
        assert f"{said}does not get through: gateway1 to quotes.orders on broker1: " in words, run.output
    lab.sh("gateway1", "nft add rule inet corp out tcp dport 5555-5556 accept")
    for engine in ENGINES:
        assert "Nothing to do: 5 hosts are as declared\n" in lab.engine(engine).must_succeed().output


def test_a_secret_key_that_others_may_read_is_none(lab: Lab) -> None:
    secret = "/etc/zmqfleet/quotes-client/curve.key_secret"
    lab.sh("gateway1", f"chmod 440 {secret}")
    found = lab.drift()
    lab.sh("gateway1", f"chmod 400 {secret}; systemctl restart quotes-client")
    assert ("gateway1", "key quotes-client: missing, or not root's alone") in found
    assert lab.drift() == set()


def public_keys(lab: Lab) -> dict[str, str]:
    curve = lab.state / "curve"
    found = {str(path.relative_to(curve)): path.read_text() for path in curve.rglob("*.pub")}
    assert found
    return found
