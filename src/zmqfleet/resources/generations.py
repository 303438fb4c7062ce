"""Directories with one entry for each release, of which only the newest stay."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from zmqfleet.resources.base import Actual, Resource


@dataclass(frozen=True)
class Generations(Resource):
    """The entries of a directory: the `keep` newest stay, and those of `in_use` whatever their age. If `holds` is
    given, those that hold no file of that name are what is left of a run that failed, and go."""

    kind: ClassVar[str] = "generations"
    name: str
    keep: int
    in_use: tuple[str, ...]
    holds: str = ""

    def surplus(self, actual: Actual) -> list[str]:
        """The paths of those that are to go. What is in use and not there yet takes a place already."""
        found = actual.generations.get(self.path, [])
        others = [name for name in found if name not in self.in_use]
        surplus = others[max(0, self.keep - len(self.in_use)) :]
        broken = [name for name in actual.broken.get(self.path, []) if name not in self.in_use]
        return [f"{self.path}/{name}" for name in (*surplus, *broken)]

    def commands(self, actual: Actual, triggered: bool) -> list[tuple[str, ...]]:
        """What removes them."""
        return [("rm", "-rf", "--", *self.surplus(actual))]

    @property
    def owned(self) -> bool:
        return False

    def differs(self, actual: Actual) -> str:
        surplus = self.surplus(actual)
        return f"{len(surplus)} to go" if surplus else ""

    def is_there(self, actual: Actual) -> bool:
        return self.path in actual.generations

    @classmethod
    def read(cls, items: Sequence["Generations"]) -> str:
        # newest first; a path without an entry says that the directory is there
        def look(one: "Generations") -> str:
            path = shlex.quote(one.path)
            whole = f'[ -e {path}/"$name"/{shlex.quote(one.holds)} ]' if one.holds else ":"
            return (
                f"if [ -d {path} ]; then (echo; ls -1t {path}) | while IFS= read -r name; do "
                f"{whole} && whole=yes || whole=no; printf '%s|%s|%s\\n' {path} $whole \"$name\"; done; fi"
            )

        return "; ".join(map(look, items))

    @classmethod
    def parse(cls, line: str, actual: Actual) -> None:
        path, whole, name = line.split("|", 2)
        found = actual.generations.setdefault(path, [])
        if name:
            (found if whole == "yes" else actual.broken.setdefault(path, [])).append(name)
