"""The engines converge hosts, refuse what they must, and prove that what they have placed runs."""

import functools
import hashlib
import itertools
import re
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from labs import ENGINES, ROOT, Lab, command, playbook, project, run, variables

both_engines = pytest.mark.parametrize("engine", ENGINES)


def test_hosts_are_as_their_views_declare(lab: Lab) -> None:
    done = lab.run("pytest", "-q", "-p", "no:cacheprovider", "tests/infra")
    assert done.status == 0, done.stdout[-8000:]


def test_everything_comes_back_after_a_reboot(lab: Lab) -> None:
    booted = lab.sh("broker1", "stat -c %Y /proc/1")
    lab.sh("broker1", "systemctl reboot", check=False)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        up = lab.sh(
            "broker1", "stat -c %Y /proc/1; systemctl is-active quotes zmqfleet-firewall", check=False
        )
        if up.endswith("active\nactive\n") and not up.startswith(booted):
            break
        time.sleep(1)
    assert lab.drift() == set()
    status, report = lab.probe()
    assert status == 0, report["summary"]


@pytest.fixture
def by_url(lab: Lab, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Lab, Path]]:
    """The hosts with quotes that come from a URL, and the file that is served there."""
    served = tmp_path / "served" / "quotes"
    served.parent.mkdir()
    (built,) = (lab.state / "artifacts" / "quotes").glob("*/quotes")
    # a binary runs with what is behind its end; no host has kept this one from an earlier test
    served.write_bytes(built.read_bytes() + request.node.name.encode())
    handler = functools.partial(SimpleHTTPRequestHandler, directory=served.parent)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever).start()
        declared = variables()
        service = next(one for one in declared["zmq_services"] if one["name"] == "quotes")
        del service["build"]
        service["artifact"] = {
            "url": f"http://127.0.0.1:{server.server_port}/quotes",
            "sha256": hashlib.sha256(served.read_bytes()).hexdigest(),
        }
        try:
            yield lab.of(project(tmp_path / "project", declared)), served
        finally:
            server.shutdown()
            lab.converge("pyinfra")


@both_engines
def test_a_release_comes_from_a_url(by_url: tuple[Lab, Path], engine: str) -> None:
    lab, served = by_url
    release = hashlib.sha256(served.read_bytes()).hexdigest()[:16]
    stored = lab.state / "artifacts" / "quotes" / release / "quotes"
    changes = lab.converge(engine)
    assert ("broker1", f"file /opt/zmqfleet/quotes/releases/{release}/quotes: missing") in changes
    assert lab.sh("broker1", "readlink /opt/zmqfleet/quotes/current") == f"releases/{release}\n"
    assert lab.sh("broker1", "systemctl is-active quotes") == "active\n"
    assert stored.read_bytes() == served.read_bytes()
    stored.unlink()
    assert lab.converge(engine) == set()
    assert not stored.exists(), "was fetched again, though no host needs it"


@both_engines
def test_a_release_with_another_digest_is_refused(by_url: tuple[Lab, Path], engine: str) -> None:
    lab, served = by_url
    served.write_bytes(b"not what was declared")
    before = lab.started()
    done = lab.engine(engine)
    assert done.status != 0
    assert hashlib.sha256(served.read_bytes()).hexdigest() in done.output
    assert not list(lab.state.rglob("quotes/*/quotes"))
    assert lab.started() == before


def test_services_may_be_declared_in_any_order(lab: Lab, tmp_path: Path) -> None:
    """One on the brokers, one on the gateways and one on both: pyinfra must find an order of operations for all."""
    artifact = {"path": "program", "sha256": hashlib.sha256(b"x").hexdigest()}
    endpoint = {"name": "jobs", "socket": "PUSH", "security": "curve", "allow": ["all"]}
    services = {
        "feeder": {"hosts": "brokers", "endpoints": [{**endpoint, "port": 5601}]},
        "worker": {"hosts": "gateways", "endpoints": [{**endpoint, "port": 5602, "security": "null"}]},
        "mesh": {"hosts": "all", "endpoints": [{**endpoint, "port": 5603}]},
    }
    forecasts = []
    for order in itertools.permutations(services):
        declared = [{"name": name, "artifact": artifact, **services[name]} for name in order]
        path = project(tmp_path / "-".join(order), {"zmq_services": declared})
        (path / "program").write_bytes(b"x")
        forecasts.append(lab.of(path).forecast("pyinfra"))
    forecasts.append(lab.of(path).forecast("ansible"))
    expected = {(host, "user mesh: missing") for host in lab.fleet.hosts}
    expected |= {("gateway1", "user worker: missing"), ("broker1", "user feeder: missing")}
    assert [one - forecasts[0] | forecasts[0] - one for one in forecasts] == [set()] * 7
    assert expected <= forecasts[0]


@both_engines
def test_a_host_that_is_down_fails_the_run_and_no_other_host(lab: Lab, engine: str) -> None:
    # it may fail in stopping, if that takes it long
    lab.sh("gateway1", "systemctl stop quotes-client; systemctl reset-failed quotes-client 2>/dev/null; true")
    with lab.down("broker1"):
        done = lab.engine(engine)
    assert done.status not in (0, 2), "2 is wrong input"
    named = {"pyinfra": r"\[broker1\] +Could not connect", "ansible": r"broker1 .*unreachable=1 "}[engine]
    assert re.search(named, done.output)
    assert done.changes == {("gateway1", "unit quotes-client.service: is inactive")}
    assert lab.sh("gateway1", "systemctl is-active quotes-client") == "active\n"
    assert lab.drift() == set()


@pytest.fixture
def cut_off_when_started(lab: Lab) -> Iterator[None]:
    """broker1 hears and says nothing more from the moment in which its service is started."""
    mute = "table inet mute { chain in { type filter hook input priority -300; policy drop; }; }"
    unit = "/run/systemd/system/quotes.service.d"
    lab.sh(
        "broker1",
        f"echo '{mute}' >/run/mute.nft; systemctl stop quotes; mkdir {unit}; "
        f'printf "[Service]\\nExecStartPre=+/usr/sbin/nft -f /run/mute.nft\\n" >{unit}/mute.conf; '
        "systemctl daemon-reload",
    )
    try:
        yield
    finally:
        lab.inside("broker1", f"nft delete table inet mute; rm -r {unit}; systemctl daemon-reload")
        lab.converge("pyinfra")


@both_engines
def test_a_host_that_is_cut_off_meanwhile_fails_and_no_other_host(
    lab: Lab, cut_off_when_started: None, engine: str
) -> None:
    lab.sh("gateway1", "systemctl stop quotes-client")
    done = lab.engine(engine)
    assert done.status not in (0, 2)
    named = {"pyinfra": r"\[broker1\].*[Ee]rror", "ansible": r"broker1 .*unreachable=1 "}[engine]
    assert re.search(named, done.output)
    assert "Traceback" not in done.output
    assert lab.sh("gateway1", "systemctl is-active quotes-client") == "active\n"


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (("inventory", "deploy.py", "--limit", "brokr1"), {}, "matches no host; did you mean 'broker1'?"),
        (("inventory", "deploy.py", "--exclude", "gatewys"), {}, "matches no host; did you mean 'gateways'?"),
        (("inventroy", "deploy.py"), {}, "is not this project's inventory"),
        (("inventory", "deploy.py"), {"ZMQFLEET_INVENTORY": "inventories/tset"}, "no such inventory"),
    ],
)
def test_a_run_on_no_host_is_refused(
    lab: Lab, arguments: tuple[str, ...], environment: dict[str, str], message: str
) -> None:
    done = run("pyinfra", "-y", *arguments, **{"ZMQFLEET_INVENTORY": str(lab.inventory), **environment})
    assert done.status == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@both_engines
def test_no_secret_key_is_on_the_controller(lab: Lab, engine: str) -> None:
    """Not in the output either, in as many words as an engine has, when the key is born. What follows from it on its
    own host and on others is named all the same."""
    lab.sh("broker1", "rm /etc/zmqfleet/quotes/curve.key_secret")
    done = lab.engine(engine, "-vvv", "--diff").must_succeed()
    endpoints = "/etc/zmqfleet/quotes-client/endpoints.json"
    assert done.changes >= {
        ("broker1", "key quotes: missing, or not root's alone"),
        ("broker1", "unit quotes.service: runs with an earlier /etc/zmqfleet/quotes/curve.key_secret"),
        ("gateway1", f"file {endpoints}: content"),
        ("gateway1", f"unit quotes-client.service: {endpoints} changes"),
    }
    (secret,) = re.findall(
        r'secret-key = "(.*)"', lab.sh("broker1", "cat /etc/zmqfleet/quotes/curve.key_secret")
    )
    assert len(secret) == 40
    assert lab.sh("broker1", "stat -c %a /home/admin/.zmqfleet-uploads") == "700\n", "uploads pass through"
    assert secret not in done.output
    files = [*lab.state.rglob("*"), ROOT / "pyinfra-debug.log"]
    assert [path for path in files if path.is_file() and secret.encode() in path.read_bytes()] == []
    assert lab.probe()[0] == 0


@both_engines
def test_what_is_no_key_is_not_kept_and_fails_its_host(lab: Lab, engine: str) -> None:
    kept = lab.state / "curve" / "broker1" / "quotes.pub"
    before = kept.read_text()
    certificate = "/etc/zmqfleet/quotes/curve.key"
    lab.sh("broker1", f"cp -p {certificate} /run/aside; sed -i s/[A-Z]//g {certificate}")
    lab.sh("gateway1", "systemctl stop quotes-client")
    try:
        done = lab.engine(engine)
    finally:
        lab.sh("broker1", f"mv /run/aside {certificate}")
    assert done.status != 0
    assert "broker1: its key quotes is" in done.output
    assert "Traceback" not in done.output
    assert kept.read_text() == before
    assert lab.sh("gateway1", "systemctl is-active quotes-client") == "active\n"
    assert lab.drift() == set()


@both_engines
def test_a_process_of_other_bytes_is_restarted_with_the_declared(lab: Lab, engine: str) -> None:
    binary = "/opt/zmqfleet/quotes/current/quotes"
    running = 'sha256sum /proc/$(systemctl show -P MainPID quotes)/exe | cut -d " " -f 1'
    declared = lab.sh("broker1", running)
    # in place, so that the link is as old as before; a binary runs with what is behind its end
    lab.sh("broker1", f"systemctl stop quotes; echo other >>{binary}; systemctl start quotes")
    assert lab.sh("broker1", running) != declared
    lab.converge(engine)
    assert lab.sh("broker1", running) == declared
    assert lab.drift() == set()


@both_engines
def test_a_controller_needs_no_root(lab: Lab, engine: str) -> None:
    lab.sh("broker1", "chmod 600 /etc/zmqfleet/quotes/endpoints.json")
    # files stay root's there, as whom it runs is a user without any right
    somebody = ("unshare", "--user", "--map-user=1", "--map-group=1")
    lab.run(*somebody, *command(engine, lab.inventory)).must_succeed()
    assert lab.drift() == set()


@both_engines
def test_a_host_without_python_is_brought_it(lab: Lab, engine: str) -> None:
    lab.sh("stranger1", "apt-get purge -qq -y python3-minimal && ! command -v python3")
    assert ("stranger1", "package python3-zmq: missing") in lab.drift()
    lab.converge(engine)
    assert lab.drift() == set()
    assert lab.probe()[0] == 0


@both_engines
def test_what_is_odd_on_a_host_is_mended_in_one_run(lab: Lab, engine: str) -> None:
    """A user in others' groups, a link to a directory where a file was, packages of which the host died."""
    environment, elsewhere = "/etc/zmqfleet/quotes/environment", "/srv/elsewhere"
    lab.sh(
        "broker1",
        f"usermod -g nogroup -aG sudo quotes; mkdir {elsewhere}; ln -sfn {elsewhere} {environment}; "
        "dpkg --purge --force-depends python3-zmq; dpkg-query -s hostname >/var/lib/dpkg/updates/0001; "
        "chmod 666 /etc/zmqfleet/quotes/curve.key; mkdir -p /srv/kept /home/x /home/admin/.zmqfleet-uploads; "
        "touch /srv/kept/file /home/admin/.zmqfleet-uploads/left; ln -sfn /srv/kept /home/x/.zmqfleet-uploads",
    )
    lab.converge(engine)
    assert lab.drift() == set()
    assert lab.sh("broker1", "id -Gn quotes") == "quotes\n"
    # what a killed run left is swept, and nothing that somebody's link leads to
    swept = "ls -A /home/admin/.zmqfleet-uploads /srv/kept; rm -r /srv/kept /home/x"
    assert lab.sh("broker1", swept) == "/home/admin/.zmqfleet-uploads:\n\n/srv/kept:\nfile\n"
    assert (
        lab.sh("broker1", f"stat -c %F {environment}; ls {elsewhere}; rmdir {elsewhere}") == "regular file\n"
    )
    assert lab.probe()[0] == 0


def test_a_command_that_fails_says_why_whatever_ansibles_settings(lab: Lab) -> None:
    """Without pipelining Ansible gives commands a terminal by itself, where errors are lost among the rest."""
    lab.sh(
        "broker1",
        "rm /etc/zmqfleet/quotes/endpoints.json; install -m 755 /dev/stdin /usr/local/sbin/mv",
        FALSE_MV,
    )
    try:
        done = lab.run("ansible-playbook", "-i", str(lab.inventory), "site.yml", ANSIBLE_PIPELINING="0")
    finally:
        lab.sh("broker1", "rm /usr/local/sbin/mv")
    assert done.status == 2
    assert "broker1" in done.output
    assert "mv says why" in done.output
    assert lab.sh("broker1", "ls /run/zmqfleet.lock 2>&1; true").endswith("No such file or directory\n")
    lab.converge("ansible")
    assert lab.drift() == set()


FALSE_MV = """#!/bin/sh
case $* in */endpoints.json) echo mv says why >&2; exit 1 ;; esac
exec /bin/mv "$@"
"""


@pytest.mark.parametrize("check", [False, True], ids=["real", "forecast"])
def test_differences_are_shown_whatever_a_login_prints_and_nothing_that_a_terminal_obeys(
    lab: Lab, check: bool
) -> None:
    rc, environment = "/home/admin/.bashrc", "/etc/zmqfleet/quotes/environment"
    path = "/etc/zmqfleet/quotes/endpoints.json"
    lab.sh(
        "broker1",
        f"cp -p {rc} /root/rc; sed -i '1i echo Welcome' {rc}; printf '\\033[2Jodd' >>{path}; >{environment}",
    )
    try:
        done = lab.engine("ansible", "--diff", *(["--check"] if check else [])).must_succeed()
    finally:
        lab.sh("broker1", f"cp -p /root/rc {rc}")
    shown = done.stdout.replace("\n\\ No newline at end of file", "")
    assert "-\N{REPLACEMENT CHARACTER}[2Jodd" in shown
    assert f"--- before: {path}" in shown
    assert environment in shown
    assert "QUOTES_REGION" not in shown
    assert "\x1b[2J" not in done.output
    lab.converge("ansible")
    assert lab.drift() == set()


def reached_otherwise(lab: Lab, directory: Path, variable: str, value: str) -> dict[str, str]:
    """The environment that names a copy of the lab's inventory in which one variable is another."""
    inventory = directory / "inventories" / "otherwise"
    inventory.mkdir(parents=True)
    hosts = (lab.inventory / "hosts.yml").read_text()
    text = re.sub(rf"\b{variable}: .*", f"{variable}: {value}", hosts)
    assert text != hosts
    (inventory / "hosts.yml").write_text(text)
    return {"ZMQFLEET_INVENTORY": str(inventory), "ANSIBLE_INVENTORY": str(inventory)}


def test_a_host_whose_key_nobody_knows_is_not_spoken_to(lab: Lab, tmp_path: Path) -> None:
    """pyinfra alone would take whatever key a host shows first."""
    about = reached_otherwise(lab, tmp_path, "ansible_ssh_common_args", '""')
    about["HOME"] = str(tmp_path)
    done = run("pyinfra", "--dry", "inventory", "deploy.py", **about)
    assert done.status == 1
    assert done.output.count("StrictPolicy: No host key for ") == len(lab.fleet.hosts)
    assert not (tmp_path / ".ssh").exists()


def test_who_is_not_root_there_is_told_so_by_all(lab: Lab, tmp_path: Path) -> None:
    about = reached_otherwise(lab, tmp_path, "ansible_become", "false")
    for look in (
        ("zmqfleet", "drift"),
        ("pyinfra", "--dry", "inventory", "deploy.py"),
        ("ansible-playbook", "--check", "site.yml"),
    ):
        done = run(*look, **about)
        assert done.status != 0
        assert "admin is not root there: set ansible_become" in done.output
        assert "missing" not in done.output


@pytest.fixture
def crashing(lab: Lab) -> Iterator[None]:
    """quotes of broker1 is ready at each start, and dies a second later."""
    crash = "/run/systemd/system/quotes.service.d"
    lab.sh(
        "broker1",
        f'mkdir -p {crash}; printf "[Service]\\nRuntimeMaxSec=1\\n" >{crash}/crash.conf; '
        "systemctl daemon-reload; systemctl restart quotes; "
        "until [ $(systemctl show -P NRestarts quotes) -gt 0 ]; do sleep 0.2; done",
    )
    try:
        yield
    finally:
        lab.sh(
            "broker1", f"rm -r {crash}; systemctl daemon-reload; systemctl reset-failed quotes", check=False
        )
        lab.sh("broker1", "systemctl restart quotes")


@both_engines
@pytest.mark.parametrize("before", ["true", "systemctl stop quotes"], ids=["restarting", "stopped"])
def test_a_unit_that_keeps_restarting_is_not_converged(
    lab: Lab, crashing: None, engine: str, before: str
) -> None:
    lab.sh("broker1", before)
    lab.sh("gateway1", "systemctl stop quotes-client")
    done = lab.engine(engine)
    assert done.status != 0
    assert "quotes.service: does not stay up" in done.output
    assert lab.sh("gateway1", "systemctl is-active quotes-client") == "active\n"


@pytest.mark.parametrize("serial", [1, 2])
def test_hosts_may_be_taken_a_few_at_a_time(lab: Lab, tmp_path: Path, serial: int) -> None:
    """With a key that is born meanwhile."""
    kept = lab.state / "curve" / "broker1" / "quotes.pub"
    before = kept.read_text()
    lab.sh("broker1", "rm /etc/zmqfleet/quotes/curve.key_secret")
    own = playbook(tmp_path / "serial.yml", serial=serial)
    lab.engine("ansible", playbook=own).must_succeed()
    assert kept.read_text() != before
    assert kept.read_text().strip() in lab.sh("gateway1", "cat /etc/zmqfleet/quotes-client/endpoints.json")
    assert lab.drift() == set()
    assert lab.engine("ansible", playbook=own).must_succeed().changes == set()


def test_a_host_that_is_down_fails_no_other_host_of_its_batch_or_the_next(lab: Lab, tmp_path: Path) -> None:
    lab.sh("broker1", "systemctl stop quotes")
    lab.sh("gateway1", "systemctl stop quotes-client")
    with lab.down("builder1"):
        done = lab.engine("ansible", playbook=playbook(tmp_path / "serial.yml", serial=2))
    recap = done.stdout.split("PLAY RECAP")[-1]
    assert re.findall(r"^(\w+) .*unreachable=1 ", recap, re.MULTILINE) == ["builder1"]
    assert "failed=1" not in recap
    assert lab.sh("broker1", "systemctl is-active quotes") == "active\n"
    assert lab.sh("gateway1", "systemctl is-active quotes-client") == "active\n"
