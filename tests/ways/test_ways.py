"""The ways in which Ansible may be used, and what of them pyinfra has, on a lab of their own."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from labs import ROOT, Changes, Lab, Run, playbook, project

# what is done to broker1, and what is to be done then, by capability and phase
DAMAGE = """
chmod 711 /opt/zmqfleet/quotes
echo x >>/etc/zmqfleet/quotes/environment
touch /etc/zmqfleet/quotes/clients/old.key
echo '# x' >>/etc/zmqfleet/firewall.nft
"""
INSTALL = {("broker1", "directory /opt/zmqfleet/quotes: mode 711")}
FIREWALL = {("broker1", "file /etc/zmqfleet/firewall.nft: content")}
CLIENTS = {("broker1", "directory /etc/zmqfleet/quotes/clients: holds old.key")}
START = {
    ("broker1", "file /etc/zmqfleet/quotes/environment: content"),
    ("broker1", "unit quotes.service: runs with an earlier /etc/zmqfleet/quotes/environment"),
}
ALL = INSTALL | FIREWALL | CLIENTS | START
# of the past once it was done, so in no forecast
KEPT = {("broker1", "step what quotes runs with, kept: /etc/zmqfleet/quotes/environment changes")}


@pytest.fixture
def drifted(ways: Lab) -> Lab:
    """The lab with damage on broker1 and nowhere else: tests leave nothing but what they do not mend of it."""
    ways.sh("broker1", DAMAGE)
    return ways


@pytest.mark.parametrize(
    ("options", "mended"),
    [
        (["--tags", "firewall"], FIREWALL),
        (["--tags", "zmq_service"], INSTALL | CLIENTS | START),
        (["--tags", "golang,zeromq"], set()),
        (["--tags", "install"], INSTALL),
        (["--tags", "configure"], FIREWALL | CLIENTS),
        (["--tags", "start"], START),
        (["--skip-tags", "firewall"], ALL - FIREWALL),
        (["--skip-tags", "start"], ALL - START),
        (["--tags", "firewall", "--skip-tags", "configure"], set()),
        (["--start-at-task", "zmqfleet.core.firewall : Configure"], ALL),
        (["--start-at-task", "zmqfleet.core.zmq_service : Configure"], CLIENTS | START),
        (["--start-at-task", "Roll out"], START),
        (["--limit", "gateways,builders"], set()),
        (["--limit", "brokers", "--tags", "firewall"], FIREWALL),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_part_of_a_run_does_its_part_only(drifted: Lab, options: list[str], mended: Changes) -> None:
    assert drifted.forecast("ansible", *options) == mended
    assert drifted.drift() == ALL, "--check has changed something"
    assert drifted.converge("ansible", *options) - KEPT == mended
    assert drifted.drift() == ALL - mended


def test_a_later_play_mends_what_changed_since_the_first(drifted: Lab, tmp_path: Path) -> None:
    own = playbook(tmp_path / "twice.yml")
    (play,) = yaml.safe_load(own.read_text())
    task = {"name": "Break", "ansible.builtin.shell": DAMAGE, "changed_when": False}
    own.write_text(yaml.safe_dump([play, {"hosts": "broker1", "gather_facts": False, "tasks": [task]}, play]))
    done = drifted.engine("ansible", playbook=own).must_succeed()
    first, second = done.stdout.split("TASK [Break]")
    assert Run(done.command, 0, first, "").changes - KEPT == ALL
    assert Run(done.command, 0, second, "").changes - KEPT == ALL
    assert drifted.drift() == set()


def own_play(**keywords: Any) -> list[dict[str, Any]]:
    return [{"name": "Own", "hosts": "all", "gather_facts": False, **keywords}]


ROLES = {
    "roles": own_play(roles=["zmqfleet.core.firewall", "zmqfleet.core.zmq_service"]),
    "include_role": own_play(
        tasks=[
            {"name": "Include", "ansible.builtin.include_role": {"name": f"zmqfleet.core.{role}"}}
            for role in ("firewall", "zmq_service")
        ]
    ),
    "import_role": own_play(
        tasks=[
            {"name": "Import", "ansible.builtin.import_role": {"name": f"zmqfleet.core.{role}"}}
            for role in ("firewall", "zmq_service")
        ]
    ),
}


@pytest.mark.parametrize("way", ROLES)
def test_roles_work_in_a_playbook_of_ones_own_anywhere(drifted: Lab, tmp_path: Path, way: str) -> None:
    """Where neither Ansible nor the shell is anywhere near the project."""
    (tmp_path / "playbooks").mkdir()
    own = tmp_path / "playbooks" / "own.yml"
    own.write_text(yaml.safe_dump(ROLES[way]))
    command = ("ansible-playbook", "-i", str(drifted.inventory), str(own))
    environment = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    forecast = drifted.run(*command, "--check", cwd=tmp_path, **environment).must_succeed()
    assert forecast.changes == ALL
    assert drifted.drift() == ALL
    done = drifted.run(*command, cwd=tmp_path, **environment).must_succeed()
    assert done.changes - KEPT == ALL
    assert drifted.drift() == set()


@pytest.mark.parametrize("strategy", ["ansible.builtin.host_pinned", "free"])
def test_hosts_need_not_wait_for_each_other(drifted: Lab, tmp_path: Path, strategy: str) -> None:
    own = playbook(tmp_path / "own.yml", strategy=strategy)
    done = drifted.engine("ansible", playbook=own).must_succeed()
    assert done.changes - KEPT == ALL
    assert drifted.drift() == set()
    assert drifted.engine("ansible", playbook=own).must_succeed().changes == set()


def test_a_host_that_does_not_wait_for_keys_keeps_what_it_has(converged: Lab, tmp_path: Path) -> None:
    """A controller that knows no key yet: who is early either waits for none, or says whose it needs."""
    before = converged.started()
    fresh = converged.of(project(tmp_path / "fresh"))
    converged.sh("gateway1", "rm /etc/zmqfleet/quotes-client/endpoints.json")
    converged.sh("broker1", "rm /etc/zmqfleet/quotes/clients/gateway1.quotes-client.key")
    done = fresh.engine("ansible", playbook=playbook(tmp_path / "own.yml", strategy="free"))
    if done.status:
        assert "which no run has seen yet: it comes once that host is converged" in done.output
        fresh.engine("ansible", playbook=playbook(tmp_path / "own.yml", strategy="free")).must_succeed()
    assert converged.drift() == set()
    assert converged.started()["broker1"] == before["broker1"]


OTHERS = {
    "vars": own_play(vars={"golang_version": "1.2.3"}, roles=["zmqfleet.core.firewall"]),
    "vars_files": own_play(vars_files=["others.yml"], roles=["zmqfleet.core.firewall"]),
    "set_fact": own_play(
        tasks=[
            {"name": "Set", "ansible.builtin.set_fact": {"golang_version": "1.2.3"}},
            {"name": "Include", "ansible.builtin.include_role": {"name": "zmqfleet.core.firewall"}},
        ]
    ),
    "role": own_play(roles=[{"role": "zmqfleet.core.golang", "golang_version": "1.2.3"}]),
    "include_role": own_play(
        tasks=[
            {
                "name": "Include",
                "ansible.builtin.include_role": {"name": "zmqfleet.core.firewall"},
                "vars": {"golang_version": "1.2.3"},
            }
        ]
    ),
}


@pytest.mark.parametrize("where", ["beside group_vars", "elsewhere"])
@pytest.mark.parametrize("way", OTHERS)
def test_variables_that_nobody_else_sees_are_refused(
    drifted: Lab, tmp_path: Path, way: str, where: str
) -> None:
    own = tmp_path / "own" / "own.yml"
    lab = drifted
    if where == "beside group_vars":
        lab = drifted.of(project(own.parent))
    else:
        own.parent.mkdir()
    (own.parent / "others.yml").write_text("golang_version: 1.2.3\n")
    own.write_text(yaml.safe_dump(OTHERS[way]))
    done = lab.engine("ansible", playbook=own)
    assert done.status == 2
    assert "golang_version: differs for broker1 in this play" in done.output
    assert drifted.drift() == ALL


@pytest.mark.parametrize(
    ("engine", "options"),
    [("ansible", ["--extra-vars", "golang_version=1.2.3"]), ("pyinfra", ["--data", "golang_version=1.2.3"])],
)
def test_variables_of_a_command_line_are_refused(drifted: Lab, engine: str, options: list[str]) -> None:
    done = drifted.engine(engine, *options)
    assert done.status not in (0, None)
    assert "golang_version: given with --" in done.output
    assert "Traceback" not in done.output
    assert drifted.drift() == ALL


def test_variables_that_are_the_same_are_none_of_a_plays_own(drifted: Lab, tmp_path: Path) -> None:
    own = tmp_path / "own.yml"
    variables = {"golang_version": "1.25.4", "region": "a team's own"}
    own.write_text(yaml.safe_dump(own_play(vars=variables, roles=["zmqfleet.core.firewall"])))
    assert drifted.engine("ansible", playbook=own).must_succeed().changes == FIREWALL


@pytest.fixture
def no_services(converged: Lab, tmp_path: Path) -> Lab:
    """The hosts for a project that has none of the fleet's variables."""
    return converged.of(project(tmp_path / "alone", {"region": "a team's own"}))


GOFMT = {
    ("builder1", "link /usr/local/bin/gofmt: missing"),
    ("builder1", "step Go toolchain 1.25.4: to be done"),
}


def test_a_role_is_of_use_without_a_fleet(converged: Lab, no_services: Lab, tmp_path: Path) -> None:
    own = tmp_path / "own.yml"
    own.write_text(yaml.safe_dump(own_play(roles=["zmqfleet.core.zeromq"])))
    expected = {
        (host, f"package {name}: missing")
        for host in ("broker1", "gateway1")
        for name in ("libzmq3-dev", "libczmq-dev", "libsodium-dev", "pkg-config", "gcc", "libc6-dev")
    }
    assert no_services.engine("ansible", "--check", playbook=own).must_succeed().changes == expected
    own.write_text(yaml.safe_dump(own_play(roles=["zmqfleet.core.golang"], hosts="builders")))
    converged.sh("builder1", "rm /usr/local/bin/gofmt")
    changes = no_services.engine("ansible", playbook=own).must_succeed().changes
    assert changes == GOFMT
    assert converged.drift() == set()
    own.write_text(yaml.safe_dump(own_play(roles=["zmqfleet.core.firewall"])))
    done = no_services.engine("ansible", playbook=own)
    assert done.status == 2
    assert "zmq_services: is missing" in done.output


def test_a_deploy_is_of_use_without_a_fleet(converged: Lab, no_services: Lab, tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text("from zmqfleet.deploys.golang import deploy_golang\n\ndeploy_golang()\n")
    converged.sh("builder1", "rm /usr/local/bin/gofmt")
    done = no_services.run("pyinfra", "-y", "inventory", str(own), "--limit", "builder1").must_succeed()
    assert done.changes == GOFMT
    assert converged.drift() == set()
    own.write_text("from zmqfleet.deploys.firewall import deploy_firewall\n\ndeploy_firewall()\n")
    done = no_services.run("pyinfra", "-y", "inventory", str(own))
    assert done.status != 0
    assert "zmq_services: is missing" in done.output
