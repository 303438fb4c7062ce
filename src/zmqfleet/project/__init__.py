"""A new project: `zmqfleet init DIR`."""

import shutil
from pathlib import Path

# Files that are zmqfleet's own project's, too, are taken from there: a wheel has a copy, a checkout is it.
_HERE = Path(__file__).resolve().parent
_SHARED = next(path for path in (_HERE / "shared", _HERE.parents[2]) if path.is_dir())
_FILES = {
    ".gitignore": _HERE / "own" / "gitignore",
    "README.md": _HERE / "own" / "README.md",
    "ansible.cfg": _SHARED / "ansible.cfg",
    "config.py": _SHARED / "config.py",
    "deploy.py": _SHARED / "deploy.py",
    "examples/quotes/cmd": _SHARED / "examples" / "quotes" / "cmd",
    "examples/quotes/go.mod": _SHARED / "examples" / "quotes" / "go.mod",
    "examples/quotes/go.sum": _SHARED / "examples" / "quotes" / "go.sum",
    "examples/quotes/internal": _SHARED / "examples" / "quotes" / "internal",
    "group_vars/all.yml": _SHARED / "group_vars" / "all.yml",
    "inventories/production/hosts.yml": _SHARED / "inventories" / "example" / "hosts.yml",
    "inventory": _SHARED / "inventory",
    "site.yml": _SHARED / "site.yml",
}


class ProjectError(Exception):
    """A project cannot be written there; the message says why and what to do."""


def init(directory: Path) -> None:
    """Writes a project that works as it is, into a directory that is empty or not there. Raises ProjectError."""
    try:
        if directory.exists() and any(directory.iterdir()):
            raise ProjectError(f"{directory}: is not empty; name a new directory, or an empty one")
        for name, source in _FILES.items():
            target = directory / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, copy_function=shutil.copyfile)
            else:
                shutil.copyfile(source, target)
    except NotADirectoryError as error:
        raise ProjectError(f"{error.filename}: is a file; name a new directory, or an empty one") from None
    except OSError as error:
        raise ProjectError(f"{error.filename}: cannot be written: {error.strerror}") from None
