"""Hosts and variables as ansible-inventory reads them, whatever else Ansible is told to do."""

import os
import subprocess
from pathlib import Path

import pytest
from team_project import Project

from zmqfleet.inventory import InventoryError, load

SECRET = "plain-as-day-4711"


@pytest.fixture
def vaulted(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project with a whole vaulted file of variables, whose password ansible.cfg knows."""
    for name in [name for name in os.environ if name.startswith("ANSIBLE_")]:
        monkeypatch.delenv(name)
    password = tmp_path / "password"
    password.write_text("open sesame\n")
    (project.root / "ansible.cfg").write_text(f"[defaults]\nvault_password_file = {password}\n")
    variables = project.root / "group_vars" / "brokers.yml"
    variables.write_text(f"vault_db_password: {SECRET}\n")
    subprocess.run(
        ["ansible-vault", "encrypt", "--vault-password-file", password, variables],
        check=True,
        capture_output=True,
    )
    return project


def holding(root: Path, text: str) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def read(project: Project) -> object:
    return load(project.root, project.inventory)["broker1"].variables["vault_db_password"]


def test_a_vaulted_value_is_read_and_lands_in_no_log_of_the_environment(
    vaulted: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANSIBLE_LOG_PATH", str(tmp_path / "ansible.log"))
    assert read(vaulted) == SECRET
    assert holding(tmp_path, SECRET) == []


def test_a_vaulted_value_is_read_and_lands_in_no_log_of_an_ansible_cfg(
    vaulted: Project, tmp_path: Path
) -> None:
    with (vaulted.root / "ansible.cfg").open("a") as file:
        file.write(f"log_path = {tmp_path / 'ansible.log'}\n")
    assert read(vaulted) == SECRET
    assert holding(tmp_path, SECRET) == []


@pytest.mark.parametrize("name", ["ANSIBLE_DEBUG", "ANSIBLE_INVENTORY_EXPORT", "ANSIBLE_VERBOSITY"])
def test_the_inventory_is_read_however_much_ansible_is_to_print(
    vaulted: Project, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "4" if name == "ANSIBLE_VERBOSITY" else "true")
    assert read(vaulted) == SECRET


def test_an_error_is_told_without_a_traceback(vaulted: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSIBLE_DISPLAY_TRACEBACK", "always")
    (vaulted.root / "ansible.cfg").unlink()
    with pytest.raises(InventoryError) as refused:
        load(vaulted.root, vaulted.inventory)
    assert "no vault secrets" in str(refused.value)
    assert "plugins.py" not in str(refused.value)
