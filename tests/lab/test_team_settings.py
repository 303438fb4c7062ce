"""What a team gives its services: by host, from a vault, as files, as credentials, as directives of their units."""

import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from labs import ENGINES, FORECAST, Lab, pipeline, project, variables

PASSWORD = "vaulted-5d0e9a41"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIB\n-----END CERTIFICATE-----\n"
TEMPLATE = """\
{% if rack == 'r1' %}
first: true
{% endif %}
peers: {{ groups.brokers | join(',') }}
password: {{ vault_db_password }}
"""
LITERAL = "{{ .Name }} {% not ours %}\n"
GIVEN: dict[str, Any] = {
    "env": {"RACK": "{{ rack | upper }}", "TOKEN": "{{ vault_db_password }}"},
    # one has the name of a file of ours
    "files": {
        "feeder.yml": "files/feeder.yml.j2",
        "names.tmpl": "files/names.tmpl",
        "peers": "files/names.tmpl",
    },
    "credentials": {"db_password": "{{ vault_db_password }}", "ca.pem": CERTIFICATE},
    "unit": {"Service": {"CPUQuota": "150%", "Nice": 5}, "Unit": {"Description": "feeds {{ rack }}"}},
}
ETC = "/etc/zmqfleet/feeder"

both_engines = pytest.mark.parametrize("engine", ENGINES)


@pytest.fixture(scope="module")
def home(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The lab, as a team has it whose own repository holds vaulted and templated values."""
    root = project(tmp_path_factory.mktemp("team") / "project")
    found = lab.at(root)
    password = root.parent / "password"
    password.write_text("open sesame\n")
    config = root / "ansible.cfg"
    config.write_text(
        config.read_text().replace("[defaults]\n", f"[defaults]\nvault_password_file = {password}\n")
    )
    vault = root / "group_vars" / "brokers.yml"
    vault.write_text(f"vault_db_password: {PASSWORD}\n")
    subprocess.run(["ansible-vault", "encrypt", vault], cwd=root, check=True, capture_output=True)
    (root / "host_vars").mkdir()
    for host, rack in (("broker1", "r1"), ("broker2", "r2")):
        (root / "host_vars" / f"{host}.yml").write_text(f"rack: {rack}\n")
    (root / "files").mkdir()
    (root / "files" / "feeder.yml.j2").write_text(TEMPLATE)
    (root / "files" / "names.tmpl").write_text(LITERAL)
    yield found
    lab.converge("pyinfra")
    # what is left of a service is nobody's, whoever gets its user's number
    state = "/var/lib/zmqfleet-state/worker"
    assert lab.sh("gateway1", f"stat -c '%a %U' {state}; rm -r {state}") == "700 root\n"
    assert lab.drift() == set()


def declared(home: Lab, **feeder: Any) -> Lab:
    """The lab with the pipeline, whose feeder is given something."""
    services = pipeline()
    services[0].update(feeder)
    everything = variables()
    everything["zmq_services"] += services
    (home.project / "group_vars" / "all.yml").write_text(yaml.safe_dump(everything))
    return Lab(home.name, home.project, home.cwd)


def started(lab: Lab) -> dict[str, str]:
    """When the pipeline's services were started, by host."""
    show = "systemctl show -P InvocationID feeder worker"
    return {host: lab.sh(host, show) for host in ("broker1", "broker2", "gateway1")}


@both_engines
def test_each_host_has_its_own_and_no_output_tells_it(home: Lab, engine: str) -> None:
    lab = declared(home, **GIVEN)
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
    declared(home).converge(other)
    assert home.drift() == set()
    assert (
        lab.sh("broker1", f"ls {ETC}")
        == "clients\ncurve.key\ncurve.key_secret\nendpoints.json\nenvironment\npeers\n"
    )


@both_engines
@pytest.mark.parametrize("what", ["file", "credential"])
def test_a_change_restarts_that_service_on_the_hosts_that_it_concerns(
    home: Lab, engine: str, what: str
) -> None:
    declared(home, **GIVEN).converge(engine)
    before = started(home)
    if what == "file":
        template = home.project / "files" / "feeder.yml.j2"
        template.write_text(TEMPLATE + "{% if rack == 'r2' %}\n# " + engine + "\n{% endif %}\n")
        lab = declared(home, **GIVEN)
    else:
        changed = {"db_password": "{{ vault_db_password }}{{ '" + engine + "' if rack == 'r2' else '' }}"}
        lab = declared(home, **{**GIVEN, "credentials": {**GIVEN["credentials"], **changed}})
    assert {host for host, _ in lab.forecast(engine)} == {"broker2"}
    lab.converge(engine)
    after = started(lab)
    assert {host for host in before if before[host] != after[host]} == {"broker2"}
    assert lab.drift() == set()


@both_engines
def test_a_directive_that_systemd_does_not_know_stops_before_anything_is_replaced(
    home: Lab, engine: str
) -> None:
    declared(home, **GIVEN).converge(engine)
    before = started(home)
    wrong = declared(home, **{**GIVEN, "unit": {"Service": {"CPUQuotas": "150%"}}})
    failed = wrong.engine(engine)
    assert failed.status != 0
    assert "feeder.service:" in failed.output
    assert "CPUQuotas" in failed.output
    assert started(home) == before
    assert home.sh("broker1", "grep -c CPUQuotas /etc/systemd/system/feeder.service; true") == "0\n"
    declared(home, **GIVEN).converge(engine)
    assert started(home) == before


@both_engines
def test_a_release_that_does_not_start_goes_back_to_its_files(home: Lab, engine: str) -> None:
    good = declared(home, **GIVEN)
    good.converge(engine)
    bad = declared(
        home,
        **{
            **GIVEN,
            "files": {"feeder.yml": "files/names.tmpl", "peers": "files/feeder.yml.j2"},
            "credentials": {"db_password": "another-" + engine},
            "unit": {"Service": {"ExecStartPre": "/bin/false"}},
        },
    )
    failed = bad.engine(engine)
    assert failed.status != 0
    assert "feeder.service: runs as before" in failed.output
    host = next(one for one in ("broker1", "broker2") if f"[{one}]" in failed.output)
    assert PASSWORD in home.sh(host, f"cat {ETC}/files/feeder.yml")
    assert home.sh(host, f"cat {ETC}/files/names.tmpl {ETC}/files/peers") == LITERAL * 2
    assert home.sh(host, "cat /run/credentials/feeder.service/db_password") == PASSWORD
    declared(home, **GIVEN).converge(engine)
    assert good.drift() == set()


def test_a_drop_in_of_others_is_followed_and_stays(home: Lab) -> None:
    lab = declared(home)
    lab.converge("pyinfra")
    directory = "/etc/systemd/system/feeder.service.d"
    for engine, nice in (("pyinfra", "3"), ("ansible", "4")):
        before = started(lab)
        lab.sh(
            "broker1", f"mkdir -p {directory}; printf '[Service]\\nNice={nice}\\n' >{directory}/50-team.conf"
        )
        assert lab.drift() == {("broker1", "unit feeder.service: runs with an earlier drop-in")}
        lab.converge(engine)
        assert lab.sh("broker1", "systemctl show -P Nice feeder") == f"{nice}\n"
        after = started(lab)
        assert {host for host in before if before[host] != after[host]} == {"broker1"}
        assert lab.drift() == set()
    lab.sh("broker1", f"rm -r {directory}")
    assert lab.drift() == {("broker1", "unit feeder.service: must be loaded again")}
    before = started(lab)
    lab.converge("ansible")
    assert lab.sh("broker1", "cut -d ' ' -f 19 /proc/$(systemctl show -P MainPID feeder)/stat") == "0\n"
    assert {host for host, one in started(lab).items() if one != before[host]} == {"broker1"}
    assert lab.drift() == set()


# starts, and fails three seconds later
FAILS = {"Service": {"ExecStartPre": "/usr/bin/timeout 3 /bin/sleep 9"}}


def test_what_a_full_disk_does_not_let_back_is_kept(home: Lab) -> None:
    declared(home).converge("pyinfra")
    peers = home.sh("broker1", f"cat {ETC}/peers")
    fills = (
        f"old=$(systemctl show -P InvocationID feeder); cp -a {ETC} /run/feeder; "
        f"mount -t tmpfs -o size=256k,mode=755 none {ETC}; cp -a /run/feeder/. {ETC}; rm -r /run/feeder; "
        "(until [ $(systemctl show -P InvocationID feeder) != $old ]; do sleep 0.2; done; "
        f"head -c 1M /dev/zero >{ETC}/fill) >/dev/null 2>&1 &"
    )
    home.sh("broker1", fills)
    try:
        failed = declared(home, unit=FAILS).engine("pyinfra")
        assert failed.status != 0
        assert "feeder.service: ./etc/zmqfleet/feeder/peers cannot be put back" in failed.output
        assert "runs as before" not in failed.output
        assert home.sh("broker1", f"cat {ETC}/.proven{ETC}/peers") == peers
        assert home.sh("broker1", f"cat {ETC}/peers") == peers
    finally:
        home.sh("broker1", f"umount -l {ETC}")
        declared(home).converge("ansible")
    assert home.drift() == set()


@both_engines
def test_a_host_goes_back_by_itself_if_the_run_is_killed(home: Lab, engine: str) -> None:
    declared(home).converge(engine)
    bad = declared(home, unit=FAILS)
    show = "systemctl show -P InvocationID feeder"
    before = home.sh("broker1", show)
    with bad.begin(engine) as process:
        home.sh("broker1", f'until [ "$({show})" != {before.strip()} ]; do sleep 0.2; done')
        os.killpg(process.pid, signal.SIGKILL)
    waits = f"for i in $(seq 60); do sleep 1; [ -e {ETC}/.proven ] || break; done; systemctl is-active feeder"
    assert home.sh("broker1", waits) == "active\n"
    assert home.sh("broker1", "grep -c timeout.3 /etc/systemd/system/feeder.service; true") == "0\n"
    declared(home).converge(engine)
    assert home.drift() == set()
