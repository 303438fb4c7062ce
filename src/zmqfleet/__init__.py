"""zmqfleet: provisions, locks down and proves fleets of Linux hosts running Go + ZeroMQ services."""

import os
from pathlib import Path

__version__ = "0.1.0"

# In a wheel the roles lie inside the package; in a checkout beside src/.
_PACKAGE = Path(__file__).resolve().parent
ROLES = next(p for p in (_PACKAGE / "roles", _PACKAGE.parents[1] / "roles") if p.is_dir())


def default_project() -> Path:
    """The project directory: ZMQFLEET_PROJECT, else the working directory."""
    return Path(os.environ.get("ZMQFLEET_PROJECT", ".")).resolve()


def default_inventory(project: Path) -> Path:
    """The inventory: ZMQFLEET_INVENTORY (relative to the working directory), else the project's lab."""
    chosen = os.environ.get("ZMQFLEET_INVENTORY")
    return Path(chosen).resolve() if chosen else project / "inventories" / "lab"
