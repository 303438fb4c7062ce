"""Directories with one entry for each release, of which only the newest stay."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from zmqfleet.resources.base import Actual, Commanded


@dataclass(frozen=True)
class Generations(Commanded):
    """The entries of a directory: the `keep` newest stay, and those of `in_use` whatever their age."""

    kind: ClassVar[str] = "generations"
    name: str
    keep: int
    in_use: tuple[str, ...]

    def surplus(self, actual: Actual) -> list[str]:
        """The paths of those that are to go. What is in use and not there yet takes a place already."""
        found = actual.generations.get(self.path, [])
        others = [name for name in found if name not in self.in_use]
        return [f"{self.path}/{name}" for name in others[max(0, self.keep - len(self.in_use)) :]]

    def commands(self, actual: Actual, triggered: bool) -> list[tuple[str, ...]]:
        """What removes them."""
        return [("rm", "-rf", "--", *self.surplus(actual))]

    @property
    def owned(self) -> bool:
        return False

    def differs(self, actual: Actual) -> str:
        surplus = self.surplus(actual)
        return f"{len(surplus)} more than {self.keep}" if surplus else ""

    def is_there(self, actual: Actual) -> bool:
        return self.path in actual.generations

    @classmethod
    def read(cls, items: Sequence["Generations"]) -> str:
        # newest first; a path without an entry says that the directory is there
        return "; ".join(
            f"if [ -d {path} ]; then (echo; ls -1t {path}) | while IFS= read -r name; do "
            f"printf '%s|%s\\n' {path} \"$name\"; done; fi"
            for path in (shlex.quote(one.path) for one in items)
        )

    @classmethod
    def parse(cls, line: str, actual: Actual) -> None:
        path, name = line.split("|", 1)
        found = actual.generations.setdefault(path, [])
        if name:
            found.append(name)
