"""What a capability contributes to a host, and when."""

import functools
from dataclasses import dataclass

from zmqfleet import ROLES
from zmqfleet.fleet.model import LIB
from zmqfleet.resources import File, Inline, Resource

# Parts are placed phase by phase; all hosts are through one before the first begins the next. What a phase needs of
# other hosts (artefacts, public keys) the phases before it have brought about.
INSTALL, CONFIGURE, START, RETIRE = PHASES = ("install", "configure", "start", "retire")


@dataclass(frozen=True)
class Part:
    """Resources of one capability, in the order in which they are placed; `service` is whose, if they are one's."""

    capability: str
    phase: str
    resources: tuple[Resource, ...]
    service: str = ""


@functools.cache
def script(role: str, name: str) -> File:
    """A program of a role's that runs on hosts."""
    return File(f"{LIB}/{name}", Inline((ROLES / role / "files" / name).read_bytes()), "755")
