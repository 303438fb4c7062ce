"""Tables of nftables."""

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from zmqfleet.resources.base import Actual, Resource

# Others' tables in which what comes in or goes out passes a filter. Of all that is loaded, chains alone are listed for
# that: those of containers' networks may have tens of thousands of rules.
_FILTERING = r"""
$1 == "table" { table = $2 " " $3; passed = table ~ /^(ip|ip6|inet) / && !index(ours, ";" table ";") }
/^\t\ttype filter hook (input|prerouting|output|postrouting) / && passed { print table }
"""
# Whether such a table drops what nobody has allowed, on which way: by policy, or by a rule that is for all that is
# left, or for all but some ports or peers, in a chain to which all is sent. Rules for some packets are no such thing.
_DROPS = r"""
BEGIN {
  some = "[sd]addr|[sd]port|@|flags|icmp|udp|limit|mark|sk[ug]id|fib|invalid|established|\"lo\"|map|match|pkttype|type"
}
/^\tflags .*dormant/ { asleep = 1 }
/^\t}/ { chain = "" }
$1 == "chain" { chain = $2; if (chain ~ /^ufw6?-/) who = "ufw"; next }
chain == "" { next }
/^\t\ttype filter hook (input|prerouting|output|postrouting) / {
  way = /hook (in|pre)/ ? "input" : "output"
  todo[way, ++count[way]] = chain
  if (/ policy drop;/) drops[chain] = 1
  next
}
{
  gsub(/(comment|prefix) "([^"\\]|\\.)*"/, ""); gsub(/[io]if(name)? != "lo"/, "")
  gsub(/((tcp|th) dport|ip6? [sd]addr) != (\{[^}]*\}|[^ ]+)/, ""); sub(/[ \t]+$/, "")
  if (match($0, /[ \t](drop|reject|reject with .*)$/)) { if (substr($0, 1, RSTART) !~ some) drops[chain] = 1 }
  else if (match($0, /[ \t](jump|goto) [^ ]+$/) && substr($0, 1, RSTART) !~ some) leads[chain] = leads[chain] " " $NF
}
function look(way,   i, j, n, others, seen) {
  if (!who) who = name == "firewalld" ? name : "table " name
  for (i = 1; i <= count[way]; i++) {
    chain = todo[way, i]
    if (chain in drops) { print "drops|" way "|" family "|" who; return }
    if (seen[chain]++) continue
    n = split(leads[chain], others, " ")
    for (j = 1; j <= n; j++) todo[way, ++count[way]] = others[j]
  }
}
END { if (!asleep) { look("input"); look("output") } }
"""
_LONGEST = 80  # characters of a name
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
        ours = shlex.quote("".join(f";{one.name}" for one in items) + ";")
        tables = (
            f"timeout 10 nft list chains 2>/dev/null | awk -v ours={ours} {shlex.quote(_FILTERING)} | sort -u"
        )
        listed = 'timeout 10 nft --stateless --terse list table "$family" "$name" 2>/dev/null'
        drops = f'awk -v family="$family" -v name="$name" {shlex.quote(_DROPS)}'
        return f"{tables} | while read -r family name; do {listed} | {drops}; done; " + "; ".join(
            f"if found=$(nft --stateless list table {one.name} 2>/dev/null); then printf '%s|%s\\n' "
            f'"$(printf %s "$found" | tr -d \' \\t\\n\' | sha256sum | cut -c-64)" {shlex.quote(one.name)}; fi'
            for one in items
        )

    @classmethod
    def parse(cls, line: str, actual: Actual) -> None:
        digest, name = line.split("|", 1)
        if digest == "drops":
            way, family, whose = name.split("|", 2)
            actual.filters.add((way, family, whose[:_LONGEST]))
        else:
            actual.tables[name] = digest
