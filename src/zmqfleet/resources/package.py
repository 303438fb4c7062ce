"""Packages of the distribution."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from zmqfleet.resources.base import Actual, Resource


@dataclass(frozen=True)
class Package(Resource):
    """An installed package; `by_release` names it where releases of the distribution call it differently, `where`, a
    shell command, holds on the hosts that need it."""

    kind: ClassVar[str] = "package"
    name: str
    by_release: tuple[tuple[str, str], ...] = ()
    where: str = ""

    def on(self, release: str) -> str | None:
        """Its name on a release (the number before the dot); None if that is not known."""
        return dict(self.by_release).get(release) if self.by_release else self.name

    @property
    def owned(self) -> bool:
        return False

    def differs(self, actual: Actual) -> str:
        return "" if self.on(actual.release) in actual.packages else "missing"

    def commands(self, actual: Actual, triggered: bool) -> list[tuple[str, ...]]:
        """None: an engine installs it."""
        return []

    def is_there(self, actual: Actual) -> bool:
        return not self.differs(actual)

    @classmethod
    def read(cls, items: Sequence["Package"]) -> str:
        names = [name for one in items for name in (dict(one.by_release).values() or [one.name])]
        needless = "".join(
            f"{{ {one.where}; }} || printf '%s\\n' {shlex.quote(f'needless|{one.name}')}; "
            for one in items
            if one.where
        )
        return f"{needless}dpkg-query -Wf '${{db:Status-Status}}|${{Package}}\\n' {shlex.join(names)} 2>/dev/null"

    @classmethod
    def parse(cls, line: str, actual: Actual) -> None:
        status, name = line.split("|", 1)
        if status in ("installed", "needless"):
            actual.packages.add(name)
