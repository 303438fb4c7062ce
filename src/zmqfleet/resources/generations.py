"""Directories with one entry for each release, of which only the newest stay."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from zmqfleet.resources.base import Actual, Resource

RAN = ".ran"  # a file that an entry gets when what ran of it is replaced


@dataclass(frozen=True)
class Generations(Resource):
    """The entries of a directory: `keep` of them stay, and those of `in_use` whatever their age: those that hold RAN
    first, the latest to get it before others, then the newest. If `holds` is given, those that hold no file of that
    name are what is left of a run that failed, and go."""

    kind: ClassVar[str] = "generations"
    name: str
    keep: int
    in_use: tuple[str, ...]
    holds: str = ""

    def surplus(self, actual: Actual) -> list[str]:
        """The paths of those that are to go. What is in use and not there yet takes a place already."""
        found = actual.generations.get(self.path, {})
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
                f"{whole} && whole=yes || whole=no; "
                f'ran=$(stat -c %.9Y {path}/"$name"/{RAN} 2>/dev/null); '
                f'printf \'%s|%s|%s|%s\\n\' {path} $whole "$ran" "$name"; done; fi'
            )

        return "; ".join(map(look, items))

    @classmethod
    def parse(cls, line: str, actual: Actual) -> None:
        path, whole, ran, name = line.split("|", 3)
        found = actual.generations.setdefault(path, {})
        if name and whole == "yes":
            found[name] = float(ran or 0)
            # those of one time stay in their order
            actual.generations[path] = dict(sorted(found.items(), key=lambda one: -one[1]))
        elif name:
            actual.broken.setdefault(path, []).append(name)
