"""Fixtures of the unit tests."""

from pathlib import Path

import pytest
from host_model import modelled
from hypothesis import HealthCheck, settings
from team_project import Project

__all__ = ["modelled", "project"]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


# the same examples each time; the tier with hosts tries more, by --hypothesis-profile=thorough
settings.register_profile(
    "usual",
    max_examples=300,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
settings.register_profile("thorough", parent=settings.get_profile("usual"), max_examples=10_000)
settings.load_profile("usual")
