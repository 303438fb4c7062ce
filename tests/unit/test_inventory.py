"""Hosts and variables as Ansible reads and renders them, whatever else it is told to do."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from team_project import CLIENT, SERVICE, Project

from zmqfleet import fleet
from zmqfleet.fleet import FleetError
from zmqfleet.inventory import InventoryError, load

SECRET = "plain-as-day-4711"


@pytest.fixture
def vaulted(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project with a whole vaulted file of variables, whose password ansible.cfg knows; a service gets one."""
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
    project.write(zmq_services=[{**SERVICE, "env": {"REGION": "{{ vault_db_password }}"}}, CLIENT])
    return project


def holding(root: Path, text: str) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def environment(project: Project, host: str = "broker1", **options: Any) -> Any:
    """What the first service gets on a host."""
    return load(project.root, project.inventory, **options)[host].variables["zmq_services"][0].get("env")


def read(project: Project) -> object:
    return environment(project)["REGION"]


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
    said = str(refused.value)
    assert "no vault secrets" in said
    assert f"vaulted are: {vaulted.root}/group_vars/" in said
    assert "ANSIBLE_VAULT_PASSWORD_FILE" in said
    assert "plugins.py" not in said


def test_a_vault_is_opened_with_a_password_that_is_given(vaulted: Project) -> None:
    (vaulted.root / "ansible.cfg").unlink()
    found = environment(vaulted, vaults=[("default", b"wrong"), ("other", b"open sesame")])
    assert found == {"REGION": SECRET}


@pytest.mark.parametrize("option", ["--vault-password-file", "--vault-id"])
def test_ansible_playbook_hands_on_the_password_that_it_was_given(
    vaulted: Project, tmp_path: Path, option: str
) -> None:
    (vaulted.root / "ansible.cfg").unlink()
    check = {"zmqfleet.core.converge": {"phase": "check"}}
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [check]}
    (vaulted.root / "check.yml").write_text(yaml.safe_dump([play]))
    done = subprocess.run(
        ["ansible-playbook", "-i", vaulted.inventory, option, tmp_path / "password", "check.yml"],
        cwd=vaulted.root,
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_single_vaulted_value_is_read(vaulted: Project) -> None:
    done = subprocess.run(
        ["ansible-vault", "encrypt_string", "--name", "REGION", SECRET],
        cwd=vaulted.root,
        check=True,
        capture_output=True,
        text=True,
    )
    entry = yaml.safe_dump([{**SERVICE, "env": {}}]).replace("env: {}", "env:")
    value = "\n".join(f"    {line}" for line in done.stdout.splitlines())
    vaulted.variables.write_text("zmq_services:\n" + entry.replace("  env:", f"  env:\n{value}"))
    assert read(vaulted) == SECRET


@pytest.mark.parametrize("password", ["", "wrong"])
def test_a_single_vaulted_value_that_nothing_opens_is_named(
    vaulted: Project, tmp_path: Path, password: str
) -> None:
    test_a_single_vaulted_value_is_read(vaulted)
    (vaulted.root / "group_vars" / "brokers.yml").unlink()
    (vaulted.root / "ansible.cfg").unlink()
    if password:
        (tmp_path / "password").write_text(password)
        (vaulted.root / "ansible.cfg").write_text(
            f"[defaults]\nvault_password_file = {tmp_path / 'password'}\n"
        )
    with pytest.raises(FleetError) as refused:
        fleet.load(vaulted.root, vaulted.inventory)
    (line,) = str(refused.value).splitlines()
    assert line.startswith(f"{vaulted.variables}: zmq_services[0].env.REGION: is vaulted, and no password")


def rendered(project: Project, **variables: str) -> Any:
    """The environment of the first service on broker1, if it is to be this."""
    project.write(rack="r1", zmq_services=[{**SERVICE, "env": variables}, CLIENT])
    return environment(project)


def test_values_are_rendered_as_ansible_renders_them(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEAM", "blue")
    (project.root / "files").mkdir()
    (project.root / "files" / "motto").write_text("on time\n")
    declared = {
        "PLAIN": "{{ rack }}",
        "FILTER": "{{ rack | upper }}-{{ 1 + 1 }}",
        "NUMBER": "{{ 40 + 2 }}",
        "DEFAULT": "{{ shelf | default('none') }}",
        "OMITTED": "{{ shelf | default(omit) }}",
        "WHO": "{{ inventory_hostname }} of {{ groups.brokers | join(' ') }}",
        "OTHER": "{{ hostvars['gateway1'].ansible_host }}",
        "ENV": "{{ lookup('env', 'TEAM') }}",
        "FILE": "{{ lookup('file', 'motto') }}",
        "ROLE": "{{ zmq_build_hosts }}",
        "LITERAL": "{% raw %}{{ .Name }}{% endraw %}",
    }
    assert rendered(project, **declared) == {
        "PLAIN": "r1",
        "FILTER": "R1-2",
        "NUMBER": 42,
        "DEFAULT": "none",
        "WHO": "broker1 of broker1 broker2",
        "OTHER": "192.0.2.4",
        "ENV": "blue",
        "FILE": "on time",
        "ROLE": "builders",
        "LITERAL": "{{ .Name }}",
    }
    ansible = subprocess.run(
        [
            *("ansible", "-i", project.inventory, "broker1", "-e", "zmq_build_hosts=builders"),
            *("-m", "debug", "-a", "var=zmq_services[0].env"),
        ],
        cwd=project.root,
        env={**os.environ, "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert json.loads(ansible.stdout.partition("=> ")[2])["zmq_services[0].env"] == environment(project)


def test_each_host_gets_its_own_and_needs_nothing_for_what_it_does_not_run(project: Project) -> None:
    (project.root / "group_vars" / "brokers.yml").write_text("rack: '{{ inventory_hostname[-1] }}'\n")
    project.write(zmq_services=[{**SERVICE, "env": {"REGION": "rack {{ rack }}"}}, CLIENT])
    found = fleet.load(project.root, project.inventory)
    quotes = found.services["quotes"]
    assert {host: found.instance(host, quotes).env for host in ("broker1", "broker2")} == {
        "broker1": {"REGION": "rack 1"},
        "broker2": {"REGION": "rack 2"},
    }
    assert environment(project, "gateway1") is None


def test_the_address_of_a_host_is_rendered(project: Project) -> None:
    hosts = yaml.safe_load(project.hosts.read_text())
    hosts["all"]["children"]["brokers"]["hosts"]["broker1"] = {"ansible_host": "192.0.{{ net }}.9", "net": 2}
    project.hosts.write_text(yaml.safe_dump(hosts))
    assert load(project.root, project.inventory)["broker1"].address == "192.0.2.9"


def refusal(project: Project, services: list[Any]) -> list[str]:
    project.write(zmq_services=services)
    with pytest.raises(FleetError) as refused:
        fleet.load(project.root, project.inventory)
    return str(refused.value).splitlines()


def test_a_service_of_no_group_is_told_for_that_and_not_for_what_other_hosts_lack(project: Project) -> None:
    wrong = {**SERVICE, "hosts": ["brokers", "gateways"], "env": {"REGION": "{{ nowhere }}"}}
    said = f"{project.variables}: zmq_services[0].hosts: must be text, not a list"
    assert refusal(project, [wrong, CLIENT]) == [said]


def test_all_that_is_undefined_is_named_with_file_and_key(project: Project) -> None:
    env = {"REGION": "{{ nowhere }}", "ZONE": "{{ rack.none }}", "GOOD": "{{ 1 }}"}
    about = "variables come from the inventory, group_vars and host_vars (facts and plays are not read)"
    assert refusal(project, [{**SERVICE, "env": env}, {**CLIENT, "args": ["{{ nowhere }}"]}]) == [
        f"{project.variables}: zmq_services[0].env.REGION: 'nowhere' is undefined: {about}, for broker1 and 1 more",
        f"{project.variables}: zmq_services[0].env.ZONE: 'rack' is undefined: {about}, for broker1 and 1 more",
        f"{project.variables}: zmq_services[1].args[0]: 'nowhere' is undefined: {about}, for gateway1",
    ]


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{{ vault_db_password | from_json }}", "cannot be rendered"),
        ("{{ {}[vault_db_password] }}", "something in it is undefined"),
        ("{{ undef(hint=vault_db_password) }}", "something in it is undefined"),
        (f"{{%{SECRET}%}}", "Syntax error in template"),
    ],
)
def test_a_template_that_fails_does_not_tell_a_value(vaulted: Project, template: str, why: str) -> None:
    (line,) = refusal(vaulted, [{**SERVICE, "env": {"REGION": template}}, CLIENT])
    assert f"zmq_services[0].env.REGION: {why}" in line
    assert SECRET not in line
    assert SECRET.partition("-")[0] not in line


def test_a_template_that_is_no_text_is_refused(project: Project) -> None:
    (project.root / "odd.j2").write_bytes(b"caf\xe9 {{ inventory_hostname }}\n")
    (line,) = refusal(project, [{**SERVICE, "files": {"odd": "odd.j2"}}, CLIENT])
    assert line == (
        f"{project.variables}: zmq_services[0].files.odd: odd.j2: is no text in UTF-8, for broker1 and 1 more"
    )


def test_a_vaulted_file_is_not_placed_as_it_is(vaulted: Project) -> None:
    line, *_ = refusal(vaulted, [{**SERVICE, "files": {"odd": "group_vars/brokers.yml"}}, CLIENT])
    assert "zmq_services[0].files.odd: 'group_vars/brokers.yml' is vaulted" in line


def test_an_inventory_of_another_form_is_ansibles_to_read(project: Project) -> None:
    project.hosts.unlink()
    lines = "\n".join(f"{name} ansible_host={name}.example.com" for name in ("b1", "g1", "m1"))
    groups = "[builders]\nm1\n[brokers]\nb1\n[gateways]\ng1\n[strangers]\n"
    (project.inventory / "hosts").write_text(f"{lines}\n{groups}")
    project.write(zmq_services=[SERVICE, CLIENT])
    assert set(fleet.load(project.root, project.inventory).hosts) == {"b1", "g1", "m1"}
    ini = project.root / "hosts.ini"
    (project.inventory / "hosts").rename(ini)
    assert set(fleet.load(project.root, ini).hosts) == {"b1", "g1", "m1"}
    ini.write_text(f"{lines} ansible_port=abc\n{groups}")
    with pytest.raises(fleet.FleetError) as error:
        fleet.load(project.root, ini)
    assert str(error.value) == f"{ini}: ansible_port: is 'abc' for m1: no TCP port (1 to 65535)"


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"hosts": "{{ 'brokers' if inventory_hostname == 'broker1' else 'gateways' }}"}, "hosts"),
        (
            {"endpoints": [{**SERVICE["endpoints"][0], "port": "{{ 5000 + inventory_hostname[-1] | int }}"}]},
            "endpoints[0].port",
        ),
        ({"start_timeout": "{{ 9 if inventory_hostname == 'broker1' else 8 }}"}, "start_timeout"),
    ],
)
def test_what_describes_the_fleet_is_the_same_everywhere(
    project: Project, change: dict[str, Any], key: str
) -> None:
    lines = refusal(project, [{**SERVICE, **change}, CLIENT])
    assert any(f"zmq_services[0].{key}: differs between broker1 and " in line for line in lines)


def test_what_is_wrong_on_one_host_alone_is_told_with_its_name(project: Project) -> None:
    wrong = "{{ {} if inventory_hostname == 'broker2' else {'REGION': 'eu'} }}"
    (line,) = refusal(project, [{**SERVICE, "env": wrong}, CLIENT])
    assert line == (
        f"{project.variables}: zmq_services[0].requires_env[0]: 'REGION' has no value: set it in "
        "zmq_services[0].env, for broker2"
    )
