"""Tables of nftables."""

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from zmqfleet.resources.base import Actual, Resource

_REMOVE = "nft list table $0 >/dev/null 2>&1 || exit 0; nft delete table $0"


@dataclass(frozen=True)
class Table(Resource):
    """A table in the kernel: `name` with its family, `text` in the words in which `nft --stateless list table` prints
    it, and `file`, which replaces it in one transaction."""

    kind: ClassVar[str] = "table"
    name: str
    text: str
    file: str

    @property
    def placed_with(self) -> str:
        return self.file

    def commands(self, actual: Actual, triggered: bool) -> list[tuple[str, ...]]:
        return [("nft", "-f", self.file)]

    def differs(self, actual: Actual) -> str:
        found = actual.tables.get(self.name)
        return "missing" if found is None else "" if found == self._digest else "content"

    def is_there(self, actual: Actual) -> bool:
        return self.name in actual.tables

    @property
    def _digest(self) -> str:
        return hashlib.sha256("".join(self.text.split()).encode()).hexdigest()

    @classmethod
    def remove(cls, entry: Mapping[str, str]) -> list[tuple[str, ...]]:
        return [("sh", "-c", _REMOVE, entry["name"])]

    @classmethod
    def read(cls, items: Sequence["Table"]) -> str:
        # nft breaks long sets into lines, so blanks do not count
        return "; ".join(
            f"if found=$(nft --stateless list table {one.name} 2>/dev/null); then printf '%s|%s\\n' "
            f'"$(printf %s "$found" | tr -d \' \\t\\n\' | sha256sum | cut -c-64)" {shlex.quote(one.name)}; fi'
            for one in items
        )

    @classmethod
    def parse(cls, line: str, actual: Actual) -> None:
        digest, name = line.split("|", 1)
        actual.tables[name] = digest
