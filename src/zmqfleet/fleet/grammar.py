"""What the values of variables may be, beside the types that the roles' argument_specs give.

A role's own forms are in its meta/grammar.yml, by the path of the variable, where `.*` are the keys and `.=` the values
of a mapping whose keys are free. Values become arguments of commands, paths, lines of files and words on a terminal:
what could be taken for anything else there is refused before any host is touched.
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zmqfleet import ROLES
from zmqfleet.inventory import read_yaml


@dataclass(frozen=True)
class Grammar:
    """What all of a text must match, and that in words; what may hold a password is not shown; `lines`: it may have
    several."""

    pattern: str
    words: str
    secret: bool = False
    lines: bool = False

    def problem(self, value: str) -> str:
        """What is wrong with a text; empty if nothing is."""
        if re.fullmatch(self.pattern, value):
            return ""
        return f"{'what is given' if self.secret else shown(value)} is no {self.words}"


@dataclass(frozen=True)
class Span:
    """The least and the greatest that a whole number may be."""

    least: int
    greatest: int

    @property
    def words(self) -> str:
        """What it may be, in words."""
        return f"{self.least} to {self.greatest}"

    def problem(self, value: int) -> str:
        """What is wrong with a number; empty if nothing is."""
        return "" if self.least <= value <= self.greatest else f"must be {self.words}, not {shown(value)}"


def shown(value: object) -> str:
    """A value as it may be shown on a terminal, cut where it is long."""
    text = repr(value) if isinstance(value, str) else str(value)
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return text if len(text) <= 80 else f"{text[:76]} …"


_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_PATH = r"(?!\.\.?(/|$))[A-Za-z0-9_.@+][A-Za-z0-9_.@+ -]*"

GROUP = Grammar(
    r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", "name of a group (letters, digits, '_', '-' and '.', 100 at most)"
)
# part of file names beside a service's, and often the address
HOST = Grammar(
    rf"(?=.{{1,200}}\Z){_LABEL}(\.{_LABEL})*",
    "name of a host (letters, digits, '_' and '-', 63 at most between dots, 200 in all)",
)
# a last part of digits alone makes it an address, well-formed or not
DNS_NAME = Grammar(
    rf"(?=.{{1,253}}\Z)(?!(.*\.)?[0-9]+\.?\Z){_LABEL}(\.{_LABEL})*\.?", "IP address and no name in DNS"
)
# what is no IP address either is found where addresses are compared
ADDRESS = Grammar(rf"[0-9A-Fa-f.:]{{2,45}}|{DNS_NAME.pattern}", "IP address or name in DNS")
LOGIN = Grammar(r"[A-Za-z0-9_][A-Za-z0-9_.@\\+-]{0,99}", "name of a user")
# what roles have in common, by the word for it in their files
_SHARED = {
    "address": ADDRESS,
    "group": GROUP,
    "package": Grammar(
        r"[a-z0-9][a-z0-9+.-]{0,99}", "name of a Debian package (lower case, digits, '+', '-' and '.')"
    ),
    "directive": Grammar(r"[A-Z][A-Za-z0-9]{1,99}", "name of a directive of systemd's, such as CPUQuota"),
    # one that ends in a backslash would go on in the next line
    "setting": Grammar(r"(.*[^\\])?", "value of a directive (no backslash at its end)"),
    "environment": Grammar(r"[A-Za-z_][A-Za-z0-9_]{0,199}", "name of an environment variable"),
    "modules": Grammar(r"[!-~]*", "list without blanks"),
    "path": Grammar(rf"\.|(\./)?{_PATH}(/{_PATH})*/?", "path inside the project (relative, without '..')"),
}


@functools.cache
def grammars() -> Mapping[str, Grammar | Span]:
    """All roles' forms and spans, by the path of the variable. Raises InventoryError."""
    found: dict[str, Grammar | Span] = {}
    for path in sorted(ROLES.glob("*/meta/grammar.yml")):
        found |= {name: _one(entry) for name, entry in read_yaml(path).items()}
    return found


def _one(entry: str | Mapping[str, Any]) -> Grammar | Span:
    if isinstance(entry, str):
        return _SHARED[entry]
    return Span(**entry) if "least" in entry else Grammar(**entry)
