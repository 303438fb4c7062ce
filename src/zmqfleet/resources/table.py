"""Tables of nftables."""

import hashlib
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from zmqfleet.resources.base import Actual, Resource

_WHOSE = re.compile(r"ufw|firewalld|table [a-z0-9]{1,8} [\w./\\-]{1,256}", re.ASCII)
# base chains of others for what comes in that end in a drop, by policy or by a rule without a condition; what is in
# "drops|" lines is whose they are
_FILTERS = r"""
$1 == "table" { table = $2 " " $3; next }
$1 == "chain" { chain = $2; comes_in = 0; next }
/hook (ingress|prerouting|input)/ { comes_in = 1; who = "table " table; if (table ~ / firewalld$/) who = "firewalld" }
comes_in && /jump ufw6?-/ { who = "ufw" }
comes_in && /policy drop|^[ \t]*(counter )?(drop|reject( with .*)?)$/ { drops[table " " chain] = 1 }
comes_in { whose[table " " chain] = who }
END { for (one in drops) print "drops|" whose[one] }
"""
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
        ours = " ".join(f"-e {shlex.quote(one.name)}" for one in items)
        drops = f"awk {shlex.quote(_FILTERS)} | grep -vwF {ours} | sort -u"
        return f"nft --stateless --terse list ruleset 2>/dev/null | {drops}; " + "; ".join(
            f"if found=$(nft --stateless list table {one.name} 2>/dev/null); then printf '%s|%s\\n' "
            f'"$(printf %s "$found" | tr -d \' \\t\\n\' | sha256sum | cut -c-64)" {shlex.quote(one.name)}; fi'
            for one in items
        )

    @classmethod
    def parse(cls, line: str, actual: Actual) -> None:
        digest, name = line.split("|", 1)
        if digest == "drops":
            if not _WHOSE.fullmatch(name):
                raise ValueError("no firewall")
            actual.filters.add(name)
        else:
            actual.tables[name] = digest
