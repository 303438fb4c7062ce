"""Directories, files and symbolic links."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, ClassVar

from zmqfleet.resources.base import Actual, Entry, Resource
from zmqfleet.resources.content import Content, Made, Pending
from zmqfleet.resources.stat import COMMAND, parse_stat, stat

_REMOVE_SHARED = '[ ! -d "$0" ] || rmdir --ignore-fail-on-non-empty "$0"'


def _differs(found: Entry | None, kind: str, mode: str, owner: str, group: str) -> str:
    if found is None:
        return "missing"
    if found.kind != kind:
        return f"is a {found.kind}"
    if found.mode != mode:
        return f"mode {found.mode}"
    return "" if (found.owner, found.group) == (owner, group) else f"owner {found.owner}:{found.group}"


@dataclass(frozen=True)
class Directory(Resource):
    """A directory; an exact one holds the entries of `only` and nothing else but what one of `spared`, regular
    expressions, matches. In a shared one others have files, too: where it is there it stays as it is, and it goes when
    nothing is left in it."""

    kind: ClassVar[str] = "directory"
    name: str
    mode: str = "755"
    owner: str = "root"
    group: str = "root"
    only: tuple[str, ...] | None = None
    spared: tuple[str, ...] = ()
    released: bool = False
    shared: bool = False

    @property
    def owned(self) -> bool:
        return not self.released

    @property
    def data(self) -> dict[str, Any]:
        """What a manifest has to know of it."""
        return {"shared": True} if self.shared else {}

    def differs(self, actual: Actual) -> str:
        if self.shared and self.path in actual.paths and actual.paths[self.path].kind == "directory":
            return ""
        own = _differs(actual.paths.get(self.path), "directory", self.mode, self.owner, self.group)
        surplus = self.surplus(actual)
        return own or (f"holds {', '.join(PurePosixPath(one).name for one in surplus)}" if surplus else "")

    def commands(self, actual: Actual, triggered: bool) -> list[tuple[str, ...]]:
        """What makes it, and removes what it may not hold."""
        made = ("install", "-d", "-m", self.mode, "-o", self.owner, "-g", self.group, self.path)
        surplus = self.surplus(actual)
        return [made, ("rm", "-rf", "--", *surplus)] if surplus else [made]

    def surplus(self, actual: Actual) -> list[str]:
        """The paths that an exact directory holds beside those that it may."""
        if self.only is None:
            return []
        known = {f"{self.path}/{name}" for name in self.only}
        inside = (path for path in actual.paths if path.rpartition("/")[0] == self.path)
        return sorted(
            path
            for path in inside
            if path not in known
            and not any(re.fullmatch(one, path.rpartition("/")[2]) for one in self.spared)
        )

    def is_there(self, actual: Actual) -> bool:
        return self.path in actual.paths

    @classmethod
    def remove(cls, entry: Mapping[str, Any]) -> list[tuple[str, ...]]:
        if entry.get("shared"):
            return [("sh", "-c", _REMOVE_SHARED, entry["name"])]
        return [("rm", "-rf", "--", entry["name"])]

    @classmethod
    def read(cls, items: Sequence["Directory"]) -> str:
        exact = shlex.join([one.path for one in items if one.only is not None])
        # what an exact directory holds is found there: thousands of clients would be too long a command
        inside = f"; find {exact} -mindepth 1 -maxdepth 1 -exec {COMMAND} {{}} + 2>/dev/null" if exact else ""
        return stat([one.path for one in items]) + inside

    @classmethod
    def parse(cls, line: str, actual: Actual) -> None:
        parse_stat(line, actual)


@dataclass(frozen=True)
class File(Resource):
    """A regular file."""

    kind: ClassVar[str] = "file"
    name: str
    content: Content
    mode: str = "644"
    owner: str = "root"
    group: str = "root"
    released: bool = False

    @property
    def owned(self) -> bool:
        return not self.released

    def differs(self, actual: Actual) -> str:
        found = actual.paths.get(self.path)
        if isinstance(self.content, Pending):
            # what is there stays: a client that the host admits already must not be cut off
            return "" if found is not None else self.content.why
        if isinstance(self.content, Made) and found is None:
            return ""  # the step that makes it sees to that
        if differs := _differs(found, "regular file", self.mode, self.owner, self.group):
            return differs
        return "" if self.content.sha256 in (None, actual.sha256.get(self.path)) else "content"

    def commands(self, actual: Actual, triggered: bool) -> list[tuple[str, ...]]:
        """What gives one that is made on the host its owner and mode; of any other, what clears its place."""
        if isinstance(self.content, Made):
            return [("chown", f"{self.owner}:{self.group}", self.path), ("chmod", self.mode, self.path)]
        found = actual.paths.get(self.path)
        # or what it leads to would be written
        return [("rm", "-f", "--", self.path)] if found and found.kind == "symbolic link" else []

    def is_there(self, actual: Actual) -> bool:
        return self.path in actual.paths

    @classmethod
    def remove(cls, entry: Mapping[str, Any]) -> list[tuple[str, ...]]:
        # systemd forgets a unit only when it is told that its file is gone
        reload = [("systemctl", "daemon-reload")] if entry["name"].startswith("/etc/systemd/system/") else []
        return [("rm", "-f", "--", entry["name"]), *reload]

    @classmethod
    def read(cls, items: Sequence["File"]) -> str:
        paths = [one.path for one in items]
        # also of what is not known here yet: another host's read may tell; /dev/null keeps it off standard input
        return f"{stat(paths)}; sha256sum {shlex.join(paths)} /dev/null 2>/dev/null"

    @classmethod
    def parse(cls, line: str, actual: Actual) -> None:
        if "|" in line[:64]:
            parse_stat(line, actual)
        else:
            digest, path = line.split("  ", 1)
            actual.sha256[path] = digest


@dataclass(frozen=True)
class Link(Resource):
    """A symbolic link."""

    kind: ClassVar[str] = "link"
    name: str
    target: str

    def differs(self, actual: Actual) -> str:
        found = actual.links.get(self.path)
        if found is not None:
            return "" if found == self.target else f"leads to {found}"
        return f"is a {actual.paths[self.path].kind}" if self.path in actual.paths else "missing"

    def commands(self, actual: Actual, triggered: bool) -> list[tuple[str, ...]]:
        """What makes it, atomically."""
        new = f"{self.path}.new"
        return [("ln", "-sfnT", self.target, new), ("mv", "-fT", new, self.path)]

    def is_there(self, actual: Actual) -> bool:
        return self.path in actual.paths

    @classmethod
    def remove(cls, entry: Mapping[str, Any]) -> list[tuple[str, ...]]:
        return [("rm", "-f", "--", entry["name"])]

    @classmethod
    def read(cls, items: Sequence["Link"]) -> str:
        paths = [one.path for one in items]
        links = "; ".join(
            f"printf '%s||%s\\n' \"$(readlink {path})\" {path}" for path in map(shlex.quote, paths)
        )
        return f"{stat(paths)}; {links}"

    @classmethod
    def parse(cls, line: str, actual: Actual) -> None:
        target, separator, path = line.rpartition("||")
        if not separator:
            parse_stat(line, actual)
        elif target:
            actual.links[path] = target
