"""How entries of the file system are read."""

import shlex
from collections.abc import Sequence

from zmqfleet.resources.base import Actual, Entry

COMMAND = "stat -c '%F|%a|%U|%G|%.9Z|%n'"


def stat(paths: Sequence[str]) -> str:
    """A shell command that prints a line for each path that exists."""
    return f"{COMMAND} {shlex.join(paths)} 2>/dev/null" if paths else ":"


def parse_stat(line: str, actual: Actual) -> None:
    """Takes such a line. Raises ValueError."""
    kind, mode, owner, group, changed, path = line.split("|", 5)
    # a file is the same thing whether it holds something or not
    kind = "regular file" if kind == "regular empty file" else kind
    actual.paths[path] = Entry(kind, mode, owner, group, float(changed))
