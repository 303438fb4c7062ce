"""The documentation holds: variables are current, shown commands exist, links lead somewhere."""

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from zmqfleet import docs
from zmqfleet.cli import main

ROOT = Path(__file__).parents[2]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("examples/*/README.md")),
    *sorted(ROOT.glob("roles/*/README.md")),
    ROOT / "inventories" / "example" / "README.md",
]
# In a block at the start of a line, perhaps after a prompt; or a code span of its own.
COMMAND = re.compile(r"^ *(?:\$ )?(zmqfleet [^#\n]+)|(?<!`)`(zmqfleet [^`\n]+)`(?!`)", re.MULTILINE)


def every(group: click.Group) -> Iterator[click.Command]:
    """Each command of a group, and those of groups in it."""
    for command in group.commands.values():
        yield from every(command) if isinstance(command, click.Group) else [command]


def commands() -> Iterator[tuple[str, str]]:
    for command in every(main):
        yield "--help", (command.epilog or "").removeprefix("Example: ")
    for page in PAGES:
        for block, span in COMMAND.findall(page.read_text()):
            if not block.startswith("zmqfleet: "):
                yield page.relative_to(ROOT).as_posix(), (block or span).strip()


def test_variables_page_is_current() -> None:
    page = (ROOT / "docs" / "variables.md").read_text()
    assert page == docs.page(), "run `python -m zmqfleet.docs >docs/variables.md`"


def undescribed(options: dict[str, Any], where: str) -> list[str]:
    return [
        f"{where}.{name}"
        for name, option in options.items()
        if not "".join(option.get("description", [])).strip()
    ] + [
        name
        for key, option in options.items()
        for name in undescribed(option.get("options", {}), f"{where}.{key}")
    ]


def test_ansible_doc_shows_every_variable_described() -> None:
    defaults = {
        path.parents[1].name: yaml.safe_load(path.read_text()) or {}
        for path in ROOT.glob("roles/*/defaults/main.yml")
    }
    assert len(defaults) == 6
    done = subprocess.run(
        ["ansible-doc", "-t", "role", "-r", "roles", "-j", *defaults],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    shown = {role: doc["entry_points"]["main"] for role, doc in json.loads(done.stdout).items()}
    for role, declared in defaults.items():
        options = shown[role]["options"]
        assert shown[role]["description"]
        assert undescribed(options, role) == []
        assert {key: option["default"] for key, option in options.items() if "default" in option} == declared


def test_page_shows_nested_options_markup_and_defaults() -> None:
    page = docs.page()
    assert "### `zmq_services[].endpoints[]`" in page
    assert "| `bind` | str | `*` | Address to bind; `*` is every address. |" in page
    assert not re.search(r"\bC\(", page)


def test_commands_are_found() -> None:
    assert {"README.md", "docs/lab.md", "docs/probe.md"} <= {page for page, _ in commands()}
    assert len([line for page, line in commands() if page == "--help"]) == 15


@pytest.mark.parametrize(("page", "line"), sorted(set(commands())))
def test_shown_command_parses(page: str, line: str) -> None:
    command: click.Command = main
    name, *arguments = shlex.split(line)
    assert name == "zmqfleet"
    while isinstance(command, click.Group) and arguments:
        name, *arguments = arguments
        assert name in command.commands, f"{page}: {line}"
        command = command.commands[name]
    if not isinstance(command, click.Group):
        command.make_context(name, arguments)  # raises click.UsageError; runs nothing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target
