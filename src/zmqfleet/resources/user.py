"""System users."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from zmqfleet.resources.base import Actual, Resource

NOLOGIN = "/usr/sbin/nologin"


@dataclass(frozen=True)
class User(Resource):
    """A system user with a group of the same name and no login."""

    kind: ClassVar[str] = "user"
    name: str
    home: str

    def differs(self, actual: Actual) -> str:
        found = actual.users.get(self.name)
        if found is None:
            return "missing"
        return "" if found == f"{self.home}:{NOLOGIN}" else f"home and shell {found}"

    def is_there(self, actual: Actual) -> bool:
        return self.name in actual.users

    @classmethod
    def remove(cls, entry: Mapping[str, Any]) -> list[tuple[str, ...]]:
        return [("sh", "-c", '! getent passwd "$0" >/dev/null || userdel "$0"', entry["name"])]

    @classmethod
    def read(cls, items: Sequence["User"]) -> str:
        return f"getent passwd {shlex.join([one.name for one in items])} | cut -d: -f1,6,7"

    @classmethod
    def parse(cls, line: str, actual: Actual) -> None:
        name, rest = line.split(":", 1)
        actual.users[name] = rest
