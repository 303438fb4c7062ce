"""Commands that bring about what no other kind can say."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from zmqfleet.resources.base import Actual, Resource


@dataclass(frozen=True)
class Step(Resource):
    """A named command that is run by root unless `check`, a shell command, succeeds; and if one of `after`, names of
    other resources, changes in the same run. A step without a command is a condition: where its check fails, so does
    the host, with `cause`."""

    kind: ClassVar[str] = "step"
    name: str
    check: str
    command: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    cause: str = ""

    def commands(self, actual: Actual, triggered: bool) -> list[tuple[str, ...]]:
        """What brings it about; a condition is looked at once more."""
        if not self.command:
            return [
                ("sh", "-c", f'({self.check}) >/dev/null 2>&1 || {{ echo "$0" >&2; exit 1; }}', self.cause)
            ]
        return [self.command]

    @property
    def owned(self) -> bool:
        return False

    def differs(self, actual: Actual) -> str:
        return "" if self.name in actual.steps else self.cause or "to be done"

    def is_there(self, actual: Actual) -> bool:
        return self.name in actual.steps

    @classmethod
    def read(cls, items: Sequence["Step"]) -> str:
        return "; ".join(
            f"if ({one.check}) >/dev/null 2>&1 </dev/null; then printf '%s\\n' {shlex.quote(one.name)}; fi"
            for one in items
        )

    @classmethod
    def parse(cls, line: str, actual: Actual) -> None:
        actual.steps.add(line)
