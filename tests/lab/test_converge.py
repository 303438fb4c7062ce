"""The engines converge blank hosts, mend what has drifted, and have nothing to do afterwards."""

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
import yaml
from lab_run import ANSIBLE, INVENTORY, PYINFRA, ROOT, Lab, changes, run


def test_first_run_changes_and_second_run_does_not(lab: Lab) -> None:
    assert changes(lab.first_run)
    second = run(*PYINFRA)
    assert second.returncode == 0
    assert changes(second) == []


def test_hosts_are_as_their_views_declare(lab: Lab) -> None:
    done = run("pytest", "-q", "-p", "no:cacheprovider", "tests/infra")
    assert done.returncode == 0, done.stdout[-8000:]


def test_the_other_engine_finds_nothing_to_do(lab: Lab) -> None:
    done = run(*ANSIBLE)
    assert done.returncode == 0, done.stdout[-5000:]
    recap = done.stdout.split("PLAY RECAP")[-1]
    assert re.findall(r"^(\w+) .* changed=0 ", recap, re.MULTILINE) == re.findall(
        r"^(\w+) .* changed=", recap, re.MULTILINE
    )
    assert "broker1" in recap


@pytest.mark.parametrize(
    ("host", "damage"),
    [
        ("broker1", "echo x >>/etc/zmqfleet/quotes/environment"),
        ("broker1", "chmod 600 /etc/zmqfleet/quotes/endpoints.json"),
        ("broker1", "touch /etc/zmqfleet/quotes/clients/old.key"),
        ("broker1", "nft flush chain inet zmqfleet input"),
        ("broker1", "systemctl disable --quiet --now quotes"),
        ("builder1", "echo GOFLAGS=-x >>/usr/local/go/go.env"),
        ("gateway1", "rm /opt/zmqfleet/quotes-client/current"),
        (
            "gateway1",
            "cd /opt/zmqfleet/quotes-client/current/ && echo x >new && chmod 755 new && mv new quotes-client",
        ),
    ],
)
def test_drift_is_mended(lab: Lab, host: str, damage: str) -> None:
    lab.ssh(host, damage)
    assert changes(run(*PYINFRA))
    assert changes(run(*PYINFRA)) == []


def test_allow_list_is_kept_where_public_keys_are_unknown(lab: Lab) -> None:
    """A fresh clone that reaches only one host must not cut off that host's clients."""
    before = lab.ssh("broker1", "ls /etc/zmqfleet/quotes/clients")
    assert before.strip()
    keys = ROOT / ".zmqfleet" / INVENTORY.name / "curve"
    aside = keys.with_name("curve.aside")
    keys.rename(aside)
    try:
        run(*PYINFRA, "--limit", "broker1")
        assert lab.ssh("broker1", "ls /etc/zmqfleet/quotes/clients") == before
    finally:
        for path in sorted(keys.rglob("*.pub")):
            path.unlink()
        for path in sorted(keys.glob("*")):
            path.rmdir()
        if keys.exists():
            keys.rmdir()
        aside.rename(keys)


def test_everything_comes_back_after_a_reboot(lab: Lab) -> None:
    booted = lab.ssh("broker1", "stat -c %Y /proc/1")
    lab.ssh("broker1", "systemctl reboot", check=False)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if lab.ssh(
            "broker1", "stat -c %Y /proc/1; systemctl is-system-running --wait", check=False
        ).startswith(booted):
            time.sleep(1)
            continue
        if (
            lab.ssh("broker1", "systemctl is-active quotes zmqfleet-firewall", check=False)
            == "active\nactive\n"
        ):
            break
        time.sleep(1)
    status, report = lab.probe()
    assert status == 0, report["summary"]


@pytest.fixture
def by_url(lab: Lab, tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A project whose quotes come from a URL, and the file that is served there."""
    served = tmp_path / "served" / "quotes"
    served.parent.mkdir()
    (built,) = (ROOT / ".zmqfleet" / INVENTORY.name / "artifacts" / "quotes").glob("*/quotes")
    served.write_bytes(built.read_bytes() + b"another release")  # a binary runs with what is behind its end
    handler = functools.partial(SimpleHTTPRequestHandler, directory=served.parent)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever).start()
        variables = yaml.safe_load((ROOT / "group_vars" / "all.yml").read_text())
        service = next(one for one in variables["zmq_services"] if one["name"] == "quotes")
        del service["build"]
        service["artifact"] = {
            "url": f"http://127.0.0.1:{server.server_port}/quotes",
            "sha256": hashlib.sha256(served.read_bytes()).hexdigest(),
        }
        project = tmp_path / "project"
        (project / "group_vars").mkdir(parents=True)
        (project / "group_vars" / "all.yml").write_text(yaml.safe_dump(variables))
        (project / "examples").symlink_to(ROOT / "examples")
        try:
            yield project, served
        finally:
            server.shutdown()
            assert run(*PYINFRA).returncode == 0


def test_a_release_comes_from_a_url(lab: Lab, by_url: tuple[Path, Path]) -> None:
    project, served = by_url
    release = hashlib.sha256(served.read_bytes()).hexdigest()[:16]
    stored = project / ".zmqfleet" / INVENTORY.name / "artifacts" / "quotes" / release / "quotes"

    first = run(*PYINFRA, ZMQFLEET_PROJECT=str(project))
    assert first.returncode == 0, first.stderr[-5000:]
    assert lab.ssh("broker1", "readlink /opt/zmqfleet/quotes/current") == f"releases/{release}\n"
    assert stored.read_bytes() == served.read_bytes()
    assert changes(run(*PYINFRA, ZMQFLEET_PROJECT=str(project))) == []

    stored.unlink()
    other = run(*ANSIBLE, ZMQFLEET_PROJECT=str(project))
    assert other.returncode == 0, other.stdout[-5000:]
    assert stored.read_bytes() == served.read_bytes()


@pytest.mark.parametrize("engine", [PYINFRA, ANSIBLE], ids=["pyinfra", "ansible"])
def test_a_release_with_another_digest_is_refused(
    lab: Lab, by_url: tuple[Path, Path], engine: tuple[str, ...]
) -> None:
    project, served = by_url
    served.write_bytes(b"not what was declared")
    before = lab.ssh("broker1", "readlink /opt/zmqfleet/quotes/current")
    done = run(*engine, ZMQFLEET_PROJECT=str(project))
    assert done.returncode != 0
    assert hashlib.sha256(served.read_bytes()).hexdigest() in done.stdout + done.stderr
    assert not list((project / ".zmqfleet").rglob("quotes/*/quotes"))
    assert lab.ssh("broker1", "readlink /opt/zmqfleet/quotes/current") == before


@pytest.mark.parametrize("order", list(itertools.permutations(["feeder", "worker", "mesh"])), ids="-".join)
def test_services_may_be_declared_in_any_order(lab: Lab, tmp_path: Path, order: tuple[str, ...]) -> None:
    """One on the brokers, one on the gateways and one on both: pyinfra must find an order of operations for all."""
    (tmp_path / "program").write_bytes(b"x")
    artifact = {"path": "program", "sha256": hashlib.sha256(b"x").hexdigest()}
    endpoint = {"name": "jobs", "socket": "PUSH", "security": "curve", "allow": ["all"]}
    services = {
        "feeder": {"hosts": "brokers", "endpoints": [{**endpoint, "port": 5601}]},
        "worker": {"hosts": "gateways", "endpoints": [{**endpoint, "port": 5602, "security": "null"}]},
        "mesh": {"hosts": "all", "endpoints": [{**endpoint, "port": 5603}]},
    }
    declared = [{"name": name, "artifact": artifact, **services[name]} for name in order]
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "all.yml").write_text(yaml.safe_dump({"zmq_services": declared}))
    done = run("pyinfra", "inventory", "deploy.py", "--dry", ZMQFLEET_PROJECT=str(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize(
    ("engine", "named"),
    [(PYINFRA, r"\[broker1\] +Could not connect"), (ANSIBLE, r"broker1 .*unreachable=1 ")],
    ids=["pyinfra", "ansible"],
)
def test_a_host_that_is_down_fails_the_run_and_no_other_host(
    lab: Lab, engine: tuple[str, ...], named: str
) -> None:
    lab.ssh("gateway1", "systemctl stop quotes-client")
    with lab.down("broker1"):
        done = run(*engine)
    assert done.returncode not in (0, 2), "2 is wrong input"
    assert re.search(named, done.stdout + done.stderr)
    assert lab.ssh("gateway1", "systemctl is-active quotes-client") == "active\n"
    assert changes(run(*PYINFRA)) == []


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
    arguments: tuple[str, ...], environment: dict[str, str], message: str
) -> None:
    done = run("pyinfra", "-y", *arguments, **environment)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_no_secret_key_is_on_the_controller(lab: Lab) -> None:
    certificate = lab.ssh("broker1", "cat /etc/zmqfleet/quotes/curve.key_secret")
    (secret,) = re.findall(r'secret-key = "(.*)"', certificate)
    assert len(secret) == 40
    state = ROOT / ".zmqfleet" / INVENTORY.name
    held = [path for path in state.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert held == []
    assert secret not in lab.first_run.stdout + lab.first_run.stderr
    log = ROOT / "pyinfra-debug.log"
    assert not log.exists() or secret not in Path(log).read_text()


@pytest.mark.parametrize("engine", [PYINFRA, ANSIBLE], ids=["pyinfra", "ansible"])
def test_what_is_no_key_is_not_kept_and_fails_its_host(lab: Lab, engine: tuple[str, ...]) -> None:
    kept = ROOT / ".zmqfleet" / INVENTORY.name / "curve" / "broker1" / "quotes.pub"
    before = kept.read_text()
    certificate = "/etc/zmqfleet/quotes/curve.key"
    lab.ssh("broker1", f"cp -p {certificate} /run/aside; sed -i s/[A-Z]//g {certificate}")
    lab.ssh("gateway1", "systemctl stop quotes-client")
    try:
        done = run(*engine)
    finally:
        lab.ssh("broker1", f"mv /run/aside {certificate}")
    assert done.returncode != 0
    assert "broker1: its key quotes is" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert kept.read_text() == before
    assert lab.ssh("gateway1", "systemctl is-active quotes-client") == "active\n"
    assert run(*engine).returncode == 0


@pytest.mark.parametrize("engine", [PYINFRA, ANSIBLE], ids=["pyinfra", "ansible"])
def test_a_process_of_other_bytes_is_restarted_with_the_declared(lab: Lab, engine: tuple[str, ...]) -> None:
    binary = "/opt/zmqfleet/quotes/current/quotes"
    running = 'sha256sum /proc/$(systemctl show -P MainPID quotes)/exe | cut -d " " -f 1'
    declared = lab.ssh("broker1", running)
    # in place, so that the link is as old as before; a binary runs with what is behind its end
    lab.ssh("broker1", f"systemctl stop quotes; echo other >>{binary}; systemctl start quotes")
    assert lab.ssh("broker1", running) != declared
    done = run(*engine)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert lab.ssh("broker1", running) == declared
    assert changes(run(*PYINFRA)) == []


@pytest.fixture
def crashing(lab: Lab) -> Iterator[None]:
    """quotes of broker1 is ready at each start, and dies a second later."""
    crash = "/run/systemd/system/quotes.service.d"
    lab.ssh(
        "broker1",
        f'mkdir -p {crash}; printf "[Service]\\nRuntimeMaxSec=1\\n" >{crash}/crash.conf; '
        "systemctl daemon-reload; systemctl restart quotes; "
        "until [ $(systemctl show -P NRestarts quotes) -gt 0 ]; do sleep 0.2; done",
    )
    try:
        yield
    finally:
        lab.ssh(
            "broker1", f"rm -r {crash}; systemctl daemon-reload; systemctl reset-failed quotes", check=False
        )
        lab.ssh("broker1", "systemctl restart quotes")


@pytest.mark.parametrize("engine", [PYINFRA, ANSIBLE], ids=["pyinfra", "ansible"])
@pytest.mark.parametrize("before", ["true", "systemctl stop quotes"], ids=["restarting", "stopped"])
def test_a_unit_that_keeps_restarting_is_not_converged(
    lab: Lab, crashing: None, engine: tuple[str, ...], before: str
) -> None:
    lab.ssh("broker1", before)
    lab.ssh("gateway1", "systemctl stop quotes-client")
    done = run(*engine)
    assert done.returncode != 0
    assert "quotes.service does not stay up" in done.stdout + done.stderr
    assert lab.ssh("gateway1", "systemctl is-active quotes-client") == "active\n"


def playbook(path: Path, **keywords: object) -> tuple[str, ...]:
    """A team's own playbook: the roles as site.yml has them, in a play with these keywords."""
    (play,) = (one for one in yaml.safe_load((ROOT / "site.yml").read_text()) if one["hosts"] == "all")
    path.write_text(yaml.safe_dump([{**play, **keywords}]))
    return ("ansible-playbook", "-i", str(INVENTORY), str(path))


@pytest.mark.parametrize("serial", [1, 2])
def test_hosts_may_be_taken_a_few_at_a_time(lab: Lab, tmp_path: Path, serial: int) -> None:
    """With a key that is born meanwhile."""
    kept = ROOT / ".zmqfleet" / INVENTORY.name / "curve" / "broker1" / "quotes.pub"
    before = kept.read_text()
    lab.ssh("broker1", "rm /etc/zmqfleet/quotes/curve.key_secret")
    done = run(*playbook(tmp_path / "serial.yml", serial=serial), ZMQFLEET_PROJECT=str(ROOT))
    assert done.returncode == 0, done.stdout[-3000:]
    assert kept.read_text() != before
    assert kept.read_text().strip() in lab.ssh("gateway1", "cat /etc/zmqfleet/quotes-client/endpoints.json")
    done = run(*playbook(tmp_path / "serial.yml", serial=serial), ZMQFLEET_PROJECT=str(ROOT))
    assert done.returncode == 0, done.stdout[-3000:]
    assert not re.search("changed=[1-9]", done.stdout)
    assert changes(run(*PYINFRA)) == []


def test_a_host_that_is_down_fails_no_other_host_of_its_batch_or_the_next(lab: Lab, tmp_path: Path) -> None:
    lab.ssh("broker1", "systemctl stop quotes")
    lab.ssh("gateway1", "systemctl stop quotes-client")
    with lab.down("builder1"):
        done = run(*playbook(tmp_path / "serial.yml", serial=2), ZMQFLEET_PROJECT=str(ROOT))
    recap = done.stdout.split("PLAY RECAP")[-1]
    assert re.findall(r"^(\w+) .*unreachable=1 ", recap, re.MULTILINE) == ["builder1"]
    assert "failed=1" not in recap
    assert lab.ssh("broker1", "systemctl is-active quotes") == "active\n"
    assert lab.ssh("gateway1", "systemctl is-active quotes-client") == "active\n"


@pytest.mark.parametrize("strategy", ["free", "ansible.builtin.host_pinned"])
def test_a_strategy_that_has_no_order_between_hosts_is_refused(
    lab: Lab, tmp_path: Path, strategy: str
) -> None:
    done = run(*playbook(tmp_path / "free.yml", strategy=strategy), ZMQFLEET_PROJECT=str(ROOT))
    assert done.returncode == 2
    assert f"strategy: {strategy}: the hosts of a fleet wait for each other" in done.stdout
    assert not re.search("changed=[1-9]", done.stdout)
