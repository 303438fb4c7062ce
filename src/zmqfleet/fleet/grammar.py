"""What the values of variables may be, beside the types that the roles' argument_specs give.

Values become arguments of commands, paths, lines of files and words on a terminal: what could be taken for anything
else there is refused before any host is touched.
"""

import re
from dataclasses import dataclass

_NUMBER_OF_FILES = 1_073_741_816  # Linux: the most that fs.nr_open may be


@dataclass(frozen=True)
class Grammar:
    """What all of a text must match, and that in words; what may hold a password is not shown."""

    pattern: str
    words: str
    secret: bool = False

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
LOGIN = Grammar(r"[A-Za-z0-9_][A-Za-z0-9_.@\\+-]{0,99}", "name of a user")
_PACKAGE = Grammar(
    r"[a-z0-9][a-z0-9+.-]{0,99}", "name of a Debian package (lower case, digits, '+', '-' and '.')"
)
_MODULES = Grammar(r"[!-~]*", "list without blanks")
_ENVIRONMENT = Grammar(r"[A-Za-z_][A-Za-z0-9_]{0,199}", "name of an environment variable")
_INSIDE = Grammar(rf"\.|(\./)?{_PATH}(/{_PATH})*/?", "path inside the project (relative, without '..')")
_ENDPOINT = r"[a-z][a-z0-9_-]{0,30}"
# a name becomes a unit, a user (32 characters at most) and a directory
_SERVICE = r"[a-z][a-z0-9-]{0,30}"

# by the path of the variable; `.*` are the keys and `.=` the values of a mapping whose keys are free
GRAMMARS: dict[str, Grammar | Span] = {
    "golang_bootstrap_packages.*": Grammar(r"[0-9]{1,4}", "number of a Debian release"),
    "golang_bootstrap_packages.=": _PACKAGE,
    "golang_env.*": Grammar(r"[A-Z][A-Z0-9_]{0,99}", "name of a setting of Go's (upper case)"),
    "golang_nosumdb": _MODULES,
    "golang_private": _MODULES,
    "golang_proxy": Grammar(r"[!-~]*", "list of URLs without blanks", secret=True),
    "golang_sumdb": Grammar(r"[ -~]*", "name, or name and key, in ASCII"),
    "golang_version": Grammar(
        r"[0-9]{1,3}\.[0-9]{1,3}(\.[0-9]{1,3}|(rc|beta)[0-9]{1,3})?", "version of Go's, such as 1.25.4"
    ),
    "zeromq_build_packages": _PACKAGE,
    "zeromq_packages": _PACKAGE,
    "zmq_build_hosts": GROUP,
    "zmq_probe_packages": _PACKAGE,
    "zmq_service_releases_kept": Span(1, 1000),
    "zmq_services.artifact.path": _INSIDE,
    "zmq_services.artifact.sha256": Grammar(r"[0-9a-f]{64}", "SHA-256: 64 hexadecimal digits, lower case"),
    "zmq_services.artifact.url": Grammar(r"https?://[!-.0-~]+/[!-~]*", "http or https URL", secret=True),
    "zmq_services.build.package": Grammar(
        r"\.(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*",
        "package of the source; write '.' or a path such as './cmd/quotes'",
    ),
    "zmq_services.build.source": _INSIDE,
    "zmq_services.connects": Grammar(
        rf"{_SERVICE}\.{_ENDPOINT}", "endpoint of a service, such as quotes.orders"
    ),
    "zmq_services.endpoints.allow": GROUP,
    "zmq_services.endpoints.name": Grammar(
        _ENDPOINT, "safe name (a letter, then letters, digits, '-' and '_', lower case, 31 at most)"
    ),
    "zmq_services.env.*": _ENVIRONMENT,
    "zmq_services.hosts": GROUP,
    "zmq_services.limits.max_sockets": Span(1, 65535),
    "zmq_services.limits.memory": Span(1, 16_777_216),
    "zmq_services.limits.nofile": Span(1, _NUMBER_OF_FILES),
    "zmq_services.name": Grammar(
        _SERVICE, "safe unit and user name (a letter, then letters, digits and '-', lower case, 31 at most)"
    ),
    "zmq_services.requires_env": _ENVIRONMENT,
    "zmq_services.unsafe_env": _ENVIRONMENT,
    "zmq_services.rollout.batch": Span(1, 1_000_000),
}
