"""What a team gives its services: by host, from a vault, as files, as credentials, as directives of their units."""

import os
import signal
from typing import Any

import pytest
from labs import ENGINES, FORECAST
from teams import CERTIFICATE, GIVEN, LITERAL, PASSWORD, Team, restarted

ETC = "/etc/zmqfleet/feeder"
NONE: dict[str, Any] = dict.fromkeys(GIVEN)

both_engines = pytest.mark.parametrize("engine", ENGINES)


@both_engines
def test_each_host_has_its_own_and_no_output_tells_it(team: Team, engine: str) -> None:
    lab = team.declare(feeder=NONE)
    lab.converge("pyinfra")
    listed = "apparmor\nclients\ncurve.key\ncurve.key_secret\nendpoints.json\nenvironment\npeers\n"
    assert lab.sh("broker1", f"ls {ETC}") == listed
    lab = team.declare()
    loud = ("--diff", "-vvv")
    other = next(one for one in ENGINES if one != engine)
    runs = [lab.engine(engine, FORECAST[engine], *loud), lab.engine(engine, *loud).must_succeed()]
    assert lab.forecast(other) == set()
    assert lab.drift() == set()
    for host, rack, first in (("broker1", "r1", "first: true\n"), ("broker2", "r2", "")):
        process = "$(systemctl show -P MainPID feeder)"
        environment = lab.sh(host, f"tr '\\0' '\\n' </proc/{process}/environ").splitlines()
        assert f"RACK={rack.upper()}" in environment
        assert f"TOKEN={PASSWORD}" in environment
        assert f"ZMQFLEET_FILES={ETC}/files" in environment
        assert "CREDENTIALS_DIRECTORY=/run/credentials/feeder.service" in environment
        read = f"runuser -u feeder -- cat {ETC}/files"
        assert lab.sh(host, f"{read}/feeder.yml") == f"{first}peers: broker1,broker2\npassword: {PASSWORD}\n"
        assert lab.sh(host, f"{read}/names.tmpl") == LITERAL
        credentials = "runuser -u feeder -- cat /run/credentials/feeder.service"
        assert lab.sh(host, f"{credentials}/db_password") == PASSWORD
        assert lab.sh(host, f"{credentials}/ca.pem") == CERTIFICATE
        assert lab.sh(host, f"runuser -u quotes -- cat {ETC}/files/feeder.yml; true") == ""
        assert lab.sh(host, f"stat -c '%a %U:%G' {ETC}/credentials {ETC}/credentials/*") == (
            "700 root:root\n600 root:root\n600 root:root\n"
        )
        show = "systemctl show -P CPUQuotaPerSecUSec -P Nice -P Description feeder"
        quota, *others = lab.sh(host, show).splitlines()
        assert (float(quota.removesuffix("s")), *others) == (1.5, "5", f"feeds {rack}")  # 1.5s or 1.500000s
    for run in (*runs, lab.run("zmqfleet", "view", "broker1"), lab.run("zmqfleet", "validate")):
        assert PASSWORD not in run.output, run.command


@both_engines
@pytest.mark.parametrize("what", ["file", "credential"])
def test_a_change_restarts_that_service_on_the_hosts_that_it_concerns(
    team: Team, engine: str, what: str
) -> None:
    before = team.running()
    if what == "file":
        (team.project / "files" / "rack.j2").write_text(
            "{{ rack }}{{ ' by " + engine + "' if rack == 'r2' else '' }}\n"
        )
        lab = team.declare()
    else:
        changed = {"db_password": "{{ vault_db_password }}{{ '" + engine + "' if rack == 'r2' else '' }}"}
        lab = team.declare(feeder={"credentials": {**GIVEN["credentials"], **changed}})
    assert {host for host, _ in lab.forecast(engine)} == {"broker2"}
    lab.converge(engine)
    assert restarted(before, lab.running()) == {("feeder", "broker2")}
    assert lab.drift() == set()


@both_engines
def test_a_directive_that_systemd_does_not_know_stops_before_anything_is_replaced(
    team: Team, engine: str
) -> None:
    before = team.running()
    wrong = team.declare(feeder={"unit": {"Service": {"CPUQuotas": "150%"}}})
    failed = wrong.engine(engine)
    assert failed.status != 0
    assert "feeder.service:" in failed.output
    assert "CPUQuotas" in failed.output
    assert team.running() == before
    assert team.sh("broker1", "grep -c CPUQuotas /etc/systemd/system/feeder.service; true") == "0\n"
    team.declare().converge(engine)
    assert team.running() == before


@both_engines
def test_a_release_that_does_not_start_goes_back_to_its_files(team: Team, engine: str) -> None:
    bad = team.declare(
        feeder={
            "files": {"feeder.yml": "files/names.tmpl", "peers": "files/feeder.yml.j2"},
            "credentials": {"db_password": "another-" + engine},
            "unit": {"Service": {"ExecStartPre": "/bin/false"}},
        }
    )
    failed = bad.engine(engine)
    assert failed.status != 0
    assert "feeder.service: runs as before" in failed.output
    host = next(one for one in ("broker1", "broker2") if f"[{one}]" in failed.output)
    assert PASSWORD in team.sh(host, f"cat {ETC}/files/feeder.yml")
    assert team.sh(host, f"cat {ETC}/files/names.tmpl {ETC}/files/peers") == LITERAL * 2
    assert team.sh(host, "cat /run/credentials/feeder.service/db_password") == PASSWORD
    team.declare().converge(engine)
    assert team.drift() == set()


def test_a_drop_in_of_others_is_followed_and_stays(team: Team) -> None:
    lab = team.declare(feeder=NONE)
    lab.converge("pyinfra")
    directory = "/etc/systemd/system/feeder.service.d"
    for engine, nice in (("pyinfra", "3"), ("ansible", "4")):
        before = lab.running()
        lab.sh(
            "broker1", f"mkdir -p {directory}; printf '[Service]\\nNice={nice}\\n' >{directory}/50-team.conf"
        )
        assert lab.drift() == {("broker1", "unit feeder.service: runs with an earlier drop-in")}
        lab.converge(engine)
        assert lab.sh("broker1", "systemctl show -P Nice feeder") == f"{nice}\n"
        assert restarted(before, lab.running()) == {("feeder", "broker1")}
        assert lab.drift() == set()
    lab.sh("broker1", f"rm -r {directory}")
    assert lab.drift() == {("broker1", "unit feeder.service: must be loaded again")}
    before = lab.running()
    lab.converge("ansible")
    assert lab.sh("broker1", "cut -d ' ' -f 19 /proc/$(systemctl show -P MainPID feeder)/stat") == "0\n"
    assert restarted(before, lab.running()) == {("feeder", "broker1")}
    assert lab.drift() == set()


# starts, and fails three seconds later
FAILS = {"Service": {"ExecStartPre": "/usr/bin/timeout 3 /bin/sleep 9"}}


def test_what_a_full_disk_does_not_let_back_is_kept(team: Team) -> None:
    team.declare(feeder=NONE).converge("pyinfra")
    peers = team.sh("broker1", f"cat {ETC}/peers")
    fills = (
        f"old=$(systemctl show -P InvocationID feeder); cp -a {ETC} /run/feeder; "
        f"mount -t tmpfs -o size=256k,mode=755 none {ETC}; cp -a /run/feeder/. {ETC}; rm -r /run/feeder; "
        "(until [ $(systemctl show -P InvocationID feeder) != $old ]; do sleep 0.2; done; "
        f"head -c 1M /dev/zero >{ETC}/fill) >/dev/null 2>&1 &"
    )
    team.sh("broker1", fills)
    try:
        failed = team.declare(feeder={**NONE, "unit": FAILS}).engine("pyinfra")
        assert failed.status != 0
        assert "feeder.service: ./etc/zmqfleet/feeder/peers cannot be put back" in failed.output
        assert "runs as before" not in failed.output
        assert team.sh("broker1", f"cat {ETC}/.proven{ETC}/peers") == peers
        assert team.sh("broker1", f"cat {ETC}/peers") == peers
    finally:
        team.sh("broker1", f"umount -l {ETC}")
        team.declare().converge("ansible")
    assert team.drift() == set()


@both_engines
def test_a_host_goes_back_by_itself_if_the_run_is_killed(team: Team, engine: str) -> None:
    bad = team.declare(feeder={"unit": FAILS})
    show = "systemctl show -P InvocationID feeder"
    before = team.sh("broker1", show)
    with bad.begin(engine) as process:
        team.sh("broker1", f'until [ "$({show})" != {before.strip()} ]; do sleep 0.2; done')
        os.killpg(process.pid, signal.SIGKILL)
    waits = f"for i in $(seq 60); do sleep 1; [ -e {ETC}/.proven ] || break; done; systemctl is-active feeder"
    assert team.sh("broker1", waits) == "active\n"
    assert team.sh("broker1", "grep -c timeout.3 /etc/systemd/system/feeder.service; true") == "0\n"
    team.declare().converge(engine)
    assert team.drift() == set()
