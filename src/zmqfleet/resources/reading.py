"""Reads a host in one go: one shell command for all resources, and what it printed."""

import json
import shlex
from collections.abc import Iterable
from typing import Any

from zmqfleet.resources.base import Actual, ReadError, Resource
from zmqfleet.resources.generations import Generations
from zmqfleet.resources.key import Key
from zmqfleet.resources.package import Package
from zmqfleet.resources.paths import Directory, File, Link
from zmqfleet.resources.peers import Peers
from zmqfleet.resources.profile import Profile
from zmqfleet.resources.rule import Rule
from zmqfleet.resources.step import Step
from zmqfleet.resources.table import Table
from zmqfleet.resources.unit import Unit
from zmqfleet.resources.user import User
from zmqfleet.text import printable

KINDS: tuple[type[Any], ...] = (
    Package, User, Directory, File, Link, Key, Generations, Rule, Table, Step, Peers, Profile, Unit,
)  # fmt: skip

_MARK = "== zmqfleet"
# to anybody else most of what is there looks as if it were missing
_ROOT = '[ "$(id -u)" = 0 ] || { echo "$(id -un) is not root there: set ansible_become" >&2; exit 1; }'
_END = f"{_MARK} end"
# what an entry of a manifest must have, and more by kind
_ENTRY: dict[str, type] = {"kind": str, "name": str, "capability": str}
_MORE: dict[str, dict[str, type]] = {
    Key.kind: {"directory": str},
    Rule.kind: {"endpoint": str, "port": int, "peers": list},
}


def read(resources: Iterable[Resource], manifest: str) -> str:
    """A shell command for root, which changes nothing, fails for others, and prints what `parse` reads; `manifest` is
    the path of the host's manifest."""
    wanted = list(resources)
    sections = {
        "release": '. /etc/os-release; echo "${VERSION_ID%%.*}"',
        "manifest": f"cat {shlex.quote(manifest)} 2>/dev/null",
    }
    for kind in KINDS:
        items = list(dict.fromkeys(one for one in wanted if isinstance(one, kind)))
        # what listens matters most where nothing is to listen any more
        if items or kind is Rule:
            sections[kind.kind] = kind.read(items)
    printed = "; ".join(f"echo {shlex.quote(f'{_MARK} {name}')}; ({look})" for name, look in sections.items())
    return f"export LC_ALL=C; {_ROOT}; {printed}; echo; echo {shlex.quote(_END)}"


def parse(lines: Iterable[str]) -> Actual:
    """Reads what `read` printed; what login scripts print before and behind it does not count, and control characters
    are replaced, as much of it is shown to people. Raises ReadError."""
    actual = Actual()
    kinds = {kind.kind: kind for kind in KINDS}
    section = ""
    for line in map(printable, lines):
        if line == _END:
            return actual
        if line.startswith(f"{_MARK} "):
            section = line.removeprefix(f"{_MARK} ")
        elif line or section == "unit":
            try:
                _take(section, line, actual, kinds)
            except (ValueError, RecursionError) as error:
                raise ReadError(
                    f"cannot read what it printed of {section}: {line[:80]!r} ({error})"
                ) from None
    raise ReadError("what it printed breaks off; is /bin/sh there, and sudo allowed?")


def _take(section: str, line: str, actual: Actual, kinds: dict[str, type[Any]]) -> None:
    if section == "release":
        actual.release = line
    elif section == "manifest":
        entry = json.loads(line)
        wanted = (
            _ENTRY | _MORE.get(str(entry["kind"]), {})
            if isinstance(entry, dict) and "kind" in entry
            else _ENTRY
        )
        if not isinstance(entry, dict) or not all(
            isinstance(entry.get(key), kind) for key, kind in wanted.items()
        ):
            raise ValueError("no entry of a manifest")
        # as escapes of JSON, what was not to be seen in the line is in its values
        if not all(value.isprintable() for value in entry.values() if isinstance(value, str)):
            raise ValueError("not printable")
        if entry["kind"] == Rule.kind:
            Rule.check(entry)
        actual.manifest.append(entry)
    elif section:
        if section not in kinds:
            raise ValueError("nothing was asked of that")
        kinds[section].parse(line, actual)
