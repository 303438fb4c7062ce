"""zmqfleet: provisions, locks down and proves fleets of Linux hosts running Go + ZeroMQ services."""

import os
import sys
from pathlib import Path

__version__ = "0.1.0"

# A wheel has the roles in its collection, beside the package; a checkout, and the collection alone, beside src/.
_BESIDE = Path(__file__).resolve().parents[1]
_COLLECTIONS = (_BESIDE / "ansible_collections" / "zmqfleet" / "core", _BESIDE.parent)
ROLES = next(path / "roles" for path in _COLLECTIONS if (path / "roles").is_dir())


def python(module: str) -> tuple[str, ...]:
    """The command that runs main() of a module: this very package's, and nothing that lies in the working directory."""
    program = f"import sys; sys.path.insert(0, sys.argv.pop(1)); from {module} import main; main()"
    return sys.executable, "-P", "-c", program, str(_BESIDE)


def default_project() -> Path:
    """The project directory: ZMQFLEET_PROJECT, else the working directory."""
    return Path(os.environ.get("ZMQFLEET_PROJECT", ".")).resolve()


def default_inventory(project: Path) -> Path:
    """The inventory: ZMQFLEET_INVENTORY (relative to the working directory), else the project's lab."""
    chosen = os.environ.get("ZMQFLEET_INVENTORY")
    return Path(chosen).resolve() if chosen else project / "inventories" / "lab"
