"""CURVE key pairs, which are born on a host."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from zmqfleet.resources.base import Actual, Resource
from zmqfleet.resources.stat import parse_stat, stat

_PUBLIC = r's/.*public-key = "\(.*\)"/{}|\1/p'


@dataclass(frozen=True)
class Key(Resource):
    """A CURVE key pair in a directory of its own: the secret certificate for root alone, the public one beside it."""

    kind: ClassVar[str] = "key"
    name: str
    directory: str
    tool: str

    def commands(self, actual: Actual, triggered: bool) -> list[tuple[str, ...]]:
        """What makes it; a pair that is there and only open to others is closed again."""
        return [
            (self.tool, self.directory),
            ("chown", "root:root", self.secret_file, self.public_file),
            ("chmod", "400", self.secret_file),
            ("chmod", "644", self.public_file),
        ]

    @property
    def data(self) -> dict[str, Any]:
        """What a manifest has to know of it."""
        return {"directory": self.directory}

    @property
    def secret_file(self) -> str:
        """The secret certificate; it never leaves the host."""
        return f"{self.directory}/curve.key_secret"

    @property
    def public_file(self) -> str:
        """The public certificate."""
        return f"{self.directory}/curve.key"

    def differs(self, actual: Actual) -> str:
        return "" if self.name in actual.keys else "missing, or not root's alone"

    def is_there(self, actual: Actual) -> bool:
        return self.name in actual.keys

    @classmethod
    def remove(cls, entry: Mapping[str, Any]) -> list[tuple[str, ...]]:
        return [
            ("rm", "-f", "--", f"{entry['directory']}/curve.key_secret", f"{entry['directory']}/curve.key")
        ]

    @classmethod
    def read(cls, items: Sequence["Key"]) -> str:
        # a pair whose secret others may read, or whose public key they may write, does not count as one
        pairs = "; ".join(
            f'if [ "$(stat -c %a:%U:%G {shlex.join((one.secret_file, one.public_file))})" = '
            '"400:root:root\n644:root:root" ]; then '
            f"sed -n {shlex.quote(_PUBLIC.format(one.name))} {shlex.quote(one.public_file)}; fi"
            for one in items
        )
        return f"{stat([path for one in items for path in (one.secret_file, one.public_file)])}; ({pairs}) 2>/dev/null"

    @classmethod
    def parse(cls, line: str, actual: Actual) -> None:
        if line.startswith("regular "):
            parse_stat(line, actual)
        else:
            name, key = line.split("|", 1)
            actual.keys[name] = key
