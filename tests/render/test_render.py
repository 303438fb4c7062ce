"""The renderer's text equals that of Ansible's template module, byte for byte."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from zmqfleet import ROLES, render

CASES: dict[str, str] = {
    "plain": "a\n",
    "no final newline": "a",
    "final blank lines": "a\n\n",
    "none": "x={{ nothing }}\n",
    "block on its own line": "{% if yes %}\nyes\n{% endif %}\nend\n",
    "indented block": "  {% for i in numbers %}\n  - {{ i }}\n  {% endfor %}\n",
    "inline block on the last line": "{% if yes %}yes{% endif %}",
    "json": "{{ mapping | to_nice_json }}\n",
    "boolean": "x={{ yes }}\n",
    "unicode": "{{ text }} ä\n",
}
VARIABLES = {
    "nothing": None,
    "yes": True,
    "numbers": [1, 2],
    "text": "ü \\ \" '",
    "mapping": {"b": [1, {"c": None}], "a": "é", "empty": {}, "none": []},
}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All cases, rendered by Ansible in one run."""
    work = tmp_path_factory.mktemp("ansible")
    tasks = []
    for index, template in enumerate(CASES.values()):
        (work / f"{index}.j2").write_text(template)
        tasks.append(
            {
                "ansible.builtin.template": {
                    "src": f"{index}.j2",
                    "dest": str(work / f"{index}.out"),
                    "mode": "0644",
                }
            }
        )
    play = [
        {
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": False,
            "vars": VARIABLES,
            "tasks": tasks,
        }
    ]
    (work / "play.yml").write_text(json.dumps(play))
    environment = {**os.environ, "ANSIBLE_LOCALHOST_WARNING": "false"}
    subprocess.run(
        ["ansible-playbook", "play.yml"], cwd=work, env=environment, check=True, capture_output=True
    )
    return work


@pytest.mark.parametrize("case", CASES)
def test_equal_to_ansible(rendered: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    index = list(CASES).index(case)
    monkeypatch.setattr(render, "template_path", lambda role, name: rendered / f"{index}.j2")
    assert render.render("any", "any", VARIABLES).encode() == (rendered / f"{index}.out").read_bytes()


def test_undefined_variable_is_an_error(rendered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "template_path", lambda role, name: rendered / "3.j2")
    with pytest.raises(Exception, match="'nothing' is undefined"):
        render.render("any", "any", {})


def test_there_are_templates() -> None:
    assert list(ROLES.glob("*/templates/*.j2"))
