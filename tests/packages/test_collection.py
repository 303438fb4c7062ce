"""The collection's file, as Galaxy and ansible-test judge it."""

import re
import shutil
import sys
import tarfile
from pathlib import Path

import outside
from outside import ROOT, Environment

KINDS = (
    r"(FILES|MANIFEST)\.json|(CHANGELOG|CONTRIBUTING|README)\.md|LICENSE",
    r"docs/\w+\.md",
    r"(meta/runtime|playbooks/site)\.yml",
    r"plugins/(action|modules)/converge\.py",
    r"roles/\w+/README\.md",
    r"roles/\w+/(defaults|meta|tasks)/\w+\.yml",
    r"roles/\w+/files/[a-z-]+",
    r"roles/\w+/templates/[a-z.-]+\.j2",
    r"src/zmqfleet/((capabilities|fleet|probe|resources)/)?\w+\.py|src/zmqfleet/py\.typed",
)

PYTHON = f"3.{sys.version_info.minor}"

# ansible-test installs what its tests need into environments of their own, with a pip that it downloads itself
PIP = "import ensurepip\n\nensurepip.bootstrap()\n"


def test_it_holds_what_ansible_needs_and_nothing_else(collection: Path) -> None:
    with tarfile.open(collection) as archive:
        every = [one for one in archive.getmembers() if not one.isdir()]
    assert [one.name for one in every if not one.isfile()] == []
    names = {one.name for one in every}
    kinds = {kind: {name for name in names if re.fullmatch(kind, name)} for kind in KINDS}
    assert names - set().union(*kinds.values()) == set()
    assert [kind for kind, found in kinds.items() if not found] == []
    roles = {path.name for path in ROOT.glob("roles/*")}
    assert {name.split("/")[1] for name in names if name.startswith("roles/")} == roles
    assert "src/zmqfleet/cli.py" not in names


def test_galaxy_imports_it_without_a_warning(collection: Path, tmp_path: Path) -> None:
    # neither of the test extra nor with its pins: it holds other packages back
    importer = outside.make(tmp_path / "importer", sys.executable, "galaxy-importer==0.4.44", pinned=False)
    said = importer.run("python", "-m", "galaxy_importer.main", collection, cwd=tmp_path)
    assert "Importer processing completed successfully" in said
    assert re.findall("^(?:WARNING|ERROR).*", said, re.MULTILINE) == []


def test_it_is_sane(with_collection: Environment, tmp_path: Path) -> None:
    """All of ansible-test's sanity tests but pylint with Ansible's settings, to which `_` is no name; ruff and mypy
    see to what else it finds."""
    copy = tmp_path / "ansible_collections" / "zmqfleet" / "core"
    shutil.copytree(with_collection.collections / "ansible_collections" / "zmqfleet" / "core", copy)
    shutil.copytree(ROOT / "tests" / "sanity", copy / "tests" / "sanity")
    cache = tmp_path / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True)
    (cache / "get_pip_24_2.py").write_text(PIP)
    sanity = ("ansible-test", "sanity", "--color", "no", "--python", PYTHON, "--skip-test", "pylint")
    said = with_collection.run(*sanity, cwd=copy, HOME=str(tmp_path))
    assert 'Running sanity test "validate-modules"' in said
    assert re.findall("^ERROR.*", said, re.MULTILINE) == []
