"""What the packages do to hosts, in a lab of three that they share.

Each package alone brings them from any state to the declared one, and then nothing is left to do for another.
"""

import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from outside import ROOT, Environment

# the tutorial's blocks: the file that the line before one names, its language, its text
BLOCKS = re.findall(
    r"(?:`([\w./]+)`:\n\n)?```(\w+)\n(.*?)```", (ROOT / "docs" / "tutorial.md").read_text(), re.DOTALL
)


@pytest.fixture(scope="module")
def project(with_wheel: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project of the wheel's, with a lab, as the tutorial begins; progress goes to the terminal."""
    where = tmp_path_factory.mktemp("fleet")
    init, cd, up = (shlex.split(line) for line in BLOCKS[0][2].splitlines())
    with_wheel.run(*init, cwd=where)
    where /= cd[1]
    try:
        print(with_wheel.run(*up, cwd=where), file=sys.stderr)
        yield where
    finally:
        with_wheel.run("zmqfleet", "lab", "down", cwd=where)


def ansible_changed(said: str) -> list[str]:
    """The lines of Ansible's recap with a change; the recap must be of three hosts and the controller."""
    recap = said.split("PLAY RECAP")[-1]
    assert len(re.findall(r"unreachable=0 +failed=0", recap)) == 4, said[-3000:]
    return re.findall(r"^.* changed=[1-9].*$", recap, re.MULTILINE)


def nothing_to_do(said: str) -> bool:
    return "Nothing to do: 3 hosts are as declared" in said


def test_the_collection_alone_converges(with_collection: Environment, project: Path, tmp_path: Path) -> None:
    """From blank, in a directory with variables, inventory and sources only; with ansible-core 2.19 only."""
    fleet = tmp_path / "fleet"
    for name in ("group_vars", "examples", "inventories/lab"):
        shutil.copytree(project / name, fleet / name)
    with (fleet / "group_vars" / "all.yml").open("a") as variables:
        variables.write(
            "zmq_service_releases_kept: 2\n"
        )  # not the default: the collection's playbook is not beside it
    site = ("ansible-playbook", "-i", "inventories/lab", "zmqfleet.core.site")
    assert "[core 2.19." in with_collection.run("ansible", "--version", cwd=fleet)
    assert len(ansible_changed(with_collection.run(*site, cwd=fleet))) == 3
    again = with_collection.run(*site, cwd=fleet)
    assert ansible_changed(again) == []
    assert nothing_to_do(again)


def test_the_wheel_alone_does_what_a_projects_readme_says(with_wheel: Environment, project: Path) -> None:
    """After a change of variables: pyinfra makes it, Ansible finds nothing to do, all sockets are as expected."""
    variables = project / "group_vars" / "all.yml"
    variables.write_text(variables.read_text().replace("QUOTES_REGION: eu-1", "QUOTES_REGION: eu-2"))
    section = (project / "README.md").read_text().split("## In a lab")[1].split("```")[1]
    commands = [tuple(line.split("#")[0].split()) for line in section.strip().splitlines()]
    up, pyinfra, ansible, probe, drift, status, down = commands
    assert (up, down) == (("zmqfleet", "lab", "up"), ("zmqfleet", "lab", "down"))
    with_wheel.run(*up, "--hosts", "3", cwd=project)
    assert not nothing_to_do(with_wheel.run(*pyinfra, cwd=project))
    assert ansible_changed(with_wheel.run(*ansible, cwd=project)) == []
    assert "16 cells: 16 as expected" in with_wheel.run(*probe, cwd=project)
    assert "3 hosts: 3 as declared, 0 not" in with_wheel.run(*drift, cwd=project)
    assert with_wheel.run(*status, cwd=project).split()[:2] == ["SERVICE", "HOST"]
    assert nothing_to_do(with_wheel.run(*pyinfra, cwd=project))


def test_the_tutorial_is_what_happens(with_wheel: Environment, project: Path) -> None:
    said = ""
    for file, language, text in BLOCKS[1:]:
        if file:
            (project / file).parent.mkdir(parents=True, exist_ok=True)
            (project / file).write_text(text)
        elif language == "yaml":
            with (project / "group_vars" / "all.yml").open("a") as variables:
                variables.write(text)
        elif language == "sh":
            ends = [re.search(r"# .*ends with (\d)|$", line)[1] for line in text.splitlines()]
            said = "".join(
                with_wheel.run("bash", "-c", line, cwd=project, status=int(end or 0))
                for line, end in zip(text.splitlines(), ends, strict=True)
            )
        else:
            assert language == "text"
            assert [line for line in text.splitlines() if line not in said] == [], said


def test_the_newest_ansible_core_that_runs_here_does_the_same(
    with_wheel: Environment, with_newest: Environment, project: Path
) -> None:
    """2.21 needs Python 3.12; where there is 3.11 alone, this is 2.19 once more."""
    with_wheel.run("pyinfra", "-y", "inventory", "deploy.py", cwd=project)
    with_newest.run("ansible-playbook", "site.yml", "--syntax-check", cwd=project)
    said = with_newest.run("ansible-playbook", "site.yml", cwd=project)
    assert ansible_changed(said) == []
    assert "[DEPRECATION" not in said
    (project / "group_vars" / "all.yml").write_text(
        (project / "group_vars" / "all.yml").read_text().replace("QUOTES_REGION: eu-", "QUOTES_REGION: us-")
    )
    assert len(ansible_changed(with_newest.run("ansible-playbook", "site.yml", cwd=project))) == 1
    assert ansible_changed(with_newest.run("ansible-playbook", "site.yml", cwd=project)) == []
    assert "3 hosts: 3 as declared, 0 not" in with_newest.run("zmqfleet", "drift", cwd=project)


def test_templates_are_the_same_with_the_newest(with_newest: Environment, tmp_path: Path) -> None:
    with_newest.run("pip", "--quiet", "install", "pytest", cwd=tmp_path)
    with_newest.run("python", "-m", "pytest", "-p", "no:cacheprovider", "tests/render", cwd=ROOT)
