"""Fixtures of the unit tests."""

from pathlib import Path

import pytest
from host_model import modelled
from team_project import Project

__all__ = ["modelled", "project"]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)
