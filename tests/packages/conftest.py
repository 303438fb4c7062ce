"""The packages, built from this tree once, and environments with one of them and nothing else of ours."""

import subprocess
import sys
from pathlib import Path

import outside
import pytest
from outside import ROOT, Environment


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's file."""
    where = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", where, ROOT], check=True)
    (file,) = where.iterdir()
    return file


@pytest.fixture(scope="session")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection's file."""
    where = tmp_path_factory.mktemp("collection")
    subprocess.run(["ansible-galaxy", "collection", "build", "--output-path", where, ROOT], check=True)
    (file,) = where.iterdir()
    return file


@pytest.fixture(scope="session")
def with_wheel(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The wheel, and what pip installs with it."""
    return outside.make(tmp_path_factory.mktemp("users") / "wheel", sys.executable, wheel)


@pytest.fixture(scope="session")
def with_collection(collection: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The collection, and the oldest ansible-core that it runs with; no other package of Python's."""
    made = outside.make(
        tmp_path_factory.mktemp("users") / "collection", sys.executable, "ansible-core==2.19.*"
    )
    made.run("ansible-galaxy", "collection", "install", collection, "-p", made.collections, cwd=ROOT.parent)
    return made


@pytest.fixture(scope="session")
def with_newest(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The wheel on the newest Python here, which decides what the newest ansible-core is."""
    return outside.make(tmp_path_factory.mktemp("users") / "newest", outside.newest_python(), wheel)
