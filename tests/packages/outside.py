"""Commands as a user of a package runs them, to whom this tree is not there."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_OURS = ("ANSIBLE_", "MOLECULE_", "PYTHON", "VIRTUAL_ENV", "ZMQFLEET_")


@dataclass(frozen=True)
class Environment:
    """A virtual environment, and the only directory in which Ansible looks for collections beside it."""

    venv: Path
    collections: Path

    def run(self, *command: str | Path, cwd: Path, status: int = 0, **variables: str) -> str:
        """What a command prints, on standard output and error; it must end with that status."""
        elsewhere = [one for one in os.environ["PATH"].split(":") if not Path(one).is_relative_to(ROOT)]
        done = subprocess.run(
            command,
            cwd=cwd,
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith(_OURS)},
                "PATH": ":".join([str(self.venv / "bin"), *elsewhere]),
                "ANSIBLE_COLLECTIONS_PATH": str(self.collections),
                **variables,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == status, f"{command}: {done.returncode}\n{done.stdout[-5000:]}"
        return done.stdout


def make(where: Path, python: str, *packages: str | Path, pinned: bool = True) -> Environment:
    """An environment with these packages, and what they need, at the versions that this project pins."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line.rstrip(" \\") for line in lines if pinned and "==" in line and line[0] not in " #"]
    where.mkdir()
    (where / "pins").write_text("\n".join(pins))
    subprocess.run([python, "-m", "venv", where / "venv"], check=True)
    pip = [where / "venv" / "bin" / "pip", "--quiet", "--disable-pip-version-check", "--no-input", "install"]
    subprocess.run([*pip, "--constraint", where / "pins", *packages], check=True)
    return Environment(where / "venv", where / "collections")


def newest_python() -> str:
    """The newest Python on PATH or of pyenv, on which the newest ansible-core may run; else the tests' own."""
    named = [f"python3.{minor}" for minor in range(12, 15)]
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    found = {_version(one): one for one in (*named, *map(str, pyenv.glob("versions/3.1[2-4].*/bin/python3")))}
    return max({**found, sys.version_info[:2]: sys.executable, (): ""}.items())[1]


def _version(python: str) -> tuple[int, ...]:
    """Empty if there is none, or it makes no virtual environments; pyenv's own commands are such, too."""
    asked = "import sys, venv, ensurepip; print(*sys.version_info[:2])"
    try:
        done = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ()
    return tuple(map(int, done.stdout.split())) if done.returncode == 0 else ()
