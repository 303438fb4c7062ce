"""System users."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from zmqfleet.resources.base import Actual, Resource

NOLOGIN = "/usr/sbin/nologin"
_GROUP = "a group without a user"
_ROOT = ":uid-0"
_REMOVE = (
    # what a service keeps its state in stays, and whoever gets the user's number must not get that, too
    'state=/var/lib/zmqfleet-state/$0; [ ! -d "$state" ] || chown root:root "$state"; '
    '! getent passwd "$0" >/dev/null || userdel "$0" && { ! getent group "$0" >/dev/null || groupdel "$0"; }'
)


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
        if found == _GROUP:
            return f"is {_GROUP}"
        return "" if found == f"{self.home}:{NOLOGIN}:{self.name}" else f"home, shell and groups {found}"

    def commands(self, actual: Actual, triggered: bool) -> list[tuple[str, ...]]:
        """What makes it, or mends it."""
        found = actual.users.get(self.name)
        if found in (None, _GROUP):
            group = ("--gid", self.name) if found else ("--user-group",)
            how = ("--system", *group, "--home-dir", self.home, "--no-create-home", "--shell", NOLOGIN)
            return [("useradd", *how, self.name)]
        own = ("--gid", self.name, "--groups", "", "--home", self.home, "--shell", NOLOGIN)
        return [("usermod", *own, self.name)]

    def is_root(self, actual: Actual) -> bool:
        """Whether the host's user of this name has root's number."""
        return actual.users.get(self.name, "").endswith(_ROOT)

    def is_there(self, actual: Actual) -> bool:
        return self.name in actual.users

    @classmethod
    def remove(cls, entry: Mapping[str, Any]) -> list[tuple[str, ...]]:
        # userdel leaves a group that has other members
        return [("sh", "-c", _REMOVE, entry["name"])]

    @classmethod
    def read(cls, items: Sequence["User"]) -> str:
        # the numbers of groups are the host's own
        return (
            f"for name in {shlex.join([one.name for one in items])}; do "
            'if found=$(getent passwd "$name"); then '
            'echo "$name:$(echo "$found" | cut -d: -f6,7):$(id -Gn "$name")'
            f'$([ "$(id -u "$name")" != 0 ] || echo {_ROOT})"; '
            f'elif getent group "$name" >/dev/null; then echo "$name:{_GROUP}"; fi; done'
        )

    @classmethod
    def parse(cls, line: str, actual: Actual) -> None:
        name, rest = line.split(":", 1)
        actual.users[name] = rest
