"""What `zmqfleet init` writes, and where it refuses to."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from zmqfleet import fleet
from zmqfleet.cli import main
from zmqfleet.fleet.validate import unresolved


def init(directory: Path) -> Result:
    return CliRunner().invoke(main, ["init", str(directory)])


def test_it_writes_a_project_and_says_what_to_do_next(tmp_path: Path) -> None:
    where = tmp_path / "new" / "my fleet"
    done = init(where)
    assert done.exit_code == 0
    assert f"  cd '{where}'\n  zmqfleet lab up " in done.output
    assert {path.name for path in where.iterdir()} == {
        ".gitignore",
        "README.md",
        "ansible.cfg",
        "config.py",
        "deploy.py",
        "examples",
        "group_vars",
        "inventories",
        "inventory",
        "site.yml",
    }
    assert {path.name for path in (where / "examples" / "quotes").iterdir()} == {
        "cmd",
        "go.mod",
        "go.sum",
        "internal",
    }


def test_the_project_is_a_valid_fleet_at_addresses_that_nobody_has(tmp_path: Path) -> None:
    init(tmp_path)
    found = fleet.load(tmp_path, tmp_path / "inventories" / "production")
    assert unresolved(found) == []
    assert list(found.services) == ["quotes", "quotes-client"]
    assert {host.address.rpartition(".")[0] for host in found.hosts.values()} == {"192.0.2"}


def test_links_of_its_readme_lead_somewhere(tmp_path: Path) -> None:
    init(tmp_path)
    targets = re.findall(r"\]\(([^)]+)\)", (tmp_path / "README.md").read_text())
    assert len(targets) == 8
    assert [target for target in targets if not (tmp_path / target).exists()] == []


def test_git_leaves_out_labs_and_state_and_takes_the_rest(tmp_path: Path) -> None:
    init(tmp_path)
    ignored = (tmp_path / ".gitignore").read_text().splitlines()
    assert {"/.zmqfleet/", "/inventories/lab/"} <= set(ignored)
    assert not any("production" in line for line in ignored)


def test_a_directory_that_is_not_empty_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    done = init(tmp_path)
    assert done.exit_code == 2
    assert done.output == f"zmqfleet: {tmp_path}: is not empty; name a new directory, or an empty one\n"
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]


@pytest.mark.parametrize("below", ["", "fleet"])
def test_a_file_is_no_directory(tmp_path: Path, below: str) -> None:
    (tmp_path / "notes").write_text("mine")
    done = init(tmp_path / "notes" / below)
    assert done.exit_code == 2
    assert re.fullmatch(
        r"zmqfleet: .*/notes\S*: is a file; name a new directory, or an empty one\n", done.output
    )
    assert (tmp_path / "notes").read_text() == "mine"
