"""molecule passes over what it does not find: no step of ours may be such."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from molecule.config import Config

ROOT = Path(__file__).parents[2]
SCENARIOS = {path.parent.name: path for path in ROOT.glob("molecule/*/molecule.yml")}


def config(scenario: str, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("MOLECULE_PROJECT_DIRECTORY", str(ROOT))
    return Config(
        str(SCENARIOS[scenario]),
        args={"base_config": [str(ROOT / ".config/molecule/config.yml")]},
        command_args={"subcommand": "test"},
    )


def test_each_role_that_users_call_has_a_scenario() -> None:
    roles = {path.parents[1].name for path in ROOT.glob("roles/*/meta/argument_specs.yml")}
    assert set(SCENARIOS) == {"default", *roles}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_each_step_has_a_playbook(scenario: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = config(scenario, monkeypatch)
    playbooks = found.provisioner.playbooks
    steps = found.scenario.test_sequence
    assert {"create", "converge", "idempotence", "verify", "destroy"} <= set(steps)
    for step in steps:
        name, *arguments = step.split()
        key = {"syntax": "converge", "idempotence": "converge"}.get(name, name)
        assert os.path.exists(getattr(playbooks, key) or ""), step
        assert all((SCENARIOS[scenario].parent / argument).exists() for argument in arguments), step


def test_the_fleets_scenario_reboots_and_drifts() -> None:
    steps = yaml.safe_load(SCENARIOS["default"].read_text())["scenario"]["test_sequence"]
    reboot, drift = steps.index("side_effect reboot.yml"), steps.index("side_effect drift.yml")
    assert steps[reboot + 1] == "verify"
    assert steps[drift + 1 : drift + 3] == ["idempotence", "verify"]


def test_login_enters_a_host_of_the_scenarios_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = config("firewall", monkeypatch).driver
    options = driver.login_options("broker1")
    assert driver.login_cmd_template.format(**options) == (
        f'ssh -F "{ROOT}/.zmqfleet/molecule-firewall/lab/ssh_config" broker1'
    )


def test_molecule_works_by_its_path_alone() -> None:
    """Where .venv/bin is not on PATH, from which it would start ansible-config and others."""
    molecule = Path(sys.executable).with_name("molecule")
    command = [str(molecule), "list", "--scenario-name", "firewall", "--format", "plain"]
    alone = {"PATH": "/usr/bin:/bin", "HOME": os.environ["HOME"]}
    done = subprocess.run(command, cwd=ROOT, env=alone, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert {line.split()[-3] for line in done.stdout.splitlines()} == {"firewall"}
