"""The wheel: each file once, of a kind that belongs there; and projects that it writes."""

import hashlib
import re
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import pytest
import yaml
from outside import ROOT, Environment

from zmqfleet import __version__, project

CORE = "ansible_collections/zmqfleet/core"
SHARED = "zmqfleet/project/shared"
KINDS = (
    r"zmqfleet/(\w+/)?\w+\.py",
    r"zmqfleet/py\.typed",
    r"zmqfleet/lab/cgroup2-only",
    r"zmqfleet/project/own/(README\.md|gitignore)",
    rf"{SHARED}/(ansible\.cfg|config\.py|deploy\.py|inventory|site\.yml)",
    rf"{SHARED}/(group_vars/all|inventories/example/hosts)\.yml",
    rf"{SHARED}/examples/quotes/(go\.mod|go\.sum|(cmd|internal)/(\w+(-\w+)?/)+\w+\.go)",
    rf"{CORE}/(galaxy|meta/runtime|playbooks/site)\.yml",
    rf"{CORE}/plugins/(action|modules)/converge\.py",
    rf"{CORE}/roles/\w+/README\.md",
    rf"{CORE}/roles/\w+/(defaults|meta|tasks)/\w+\.yml",
    rf"{CORE}/roles/\w+/files/[a-z-]+",
    rf"{CORE}/roles/\w+/templates/[a-z.-]+\.j2",
    rf"zmqfleet-{re.escape(__version__)}\.dist-info/(METADATA|RECORD|WHEEL|entry_points\.txt|licenses/LICENSE)",
)


def files(wheel: Path) -> dict[str, bytes]:
    """What a wheel holds; no name twice."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert [name for name, count in Counter(names).items() if count > 1] == []
        return {name: archive.read(name) for name in names}


def test_it_holds_what_both_engines_need_and_nothing_else(wheel: Path) -> None:
    names = set(files(wheel))
    kinds = {kind: {name for name in names if re.fullmatch(kind, name)} for kind in KINDS}
    assert names - set().union(*kinds.values()) == set()
    assert [kind for kind, found in kinds.items() if not found] == []
    here = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("deploys/*.py")}
    assert {f"zmqfleet/{path}" for path in here} <= names
    roles = {path.name for path in ROOT.glob("roles/*")}
    assert {name.split("/")[4] for name in names if name.startswith(f"{CORE}/roles/")} == roles


def test_it_holds_no_content_twice(wheel: Path) -> None:
    digests = Counter(hashlib.sha256(data).hexdigest() for data in files(wheel).values() if data)
    assert digests.most_common(1)[0][1] == 1


def test_a_source_distribution_gives_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", tmp_path], cwd=ROOT, check=True
    )
    (source,) = tmp_path.iterdir()
    pip = [sys.executable, "-m", "pip", "--quiet", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", tmp_path / "made", source], check=True)
    (made,) = (tmp_path / "made").iterdir()
    assert files(made) == files(wheel)


def test_both_packages_have_one_version(wheel: Path) -> None:
    assert yaml.safe_load(files(wheel)[f"{CORE}/galaxy.yml"])["version"] == __version__


def test_its_projects_are_those_of_a_checkout(with_wheel: Environment, tmp_path: Path) -> None:
    project.init(tmp_path / "checkout")
    said = with_wheel.run("zmqfleet", "init", "wheel", cwd=tmp_path)
    assert said.startswith("wheel: a project with an example service; next:\n  cd wheel\n  zmqfleet lab up ")
    every = {
        where: {
            path.relative_to(tmp_path / where): path.read_bytes()
            for path in (tmp_path / where).rglob("*")
            if path.is_file()
        }
        for where in ("checkout", "wheel")
    }
    assert every["wheel"] == every["checkout"]


@pytest.mark.parametrize("command", ["zmqfleet.core.site", "site.yml"])
def test_ansible_finds_the_collection_beside_the_package(
    with_wheel: Environment, tmp_path: Path, command: str
) -> None:
    with_wheel.run("zmqfleet", "init", "fleet", cwd=tmp_path)
    inventory = ("-i", "inventories/production")
    tasks = with_wheel.run("ansible-playbook", *inventory, "--list-tasks", command, cwd=tmp_path / "fleet")
    assert "zmqfleet.core.zmq_service : Roll out" in tasks
