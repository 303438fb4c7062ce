"""What all kinds of resources share, and what was read of a host."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar


class ReadError(Exception):
    """What a host printed cannot be read; the message says what was wrong with it."""


@dataclass(frozen=True)
class Entry:
    """What is at a path: kind in stat's words, mode in octal, owner, group, time of the last change (seconds)."""

    kind: str
    mode: str
    owner: str
    group: str
    changed: float


@dataclass
class Actual:
    """What a host has of the resources that it was asked for; see the kinds for how it is read."""

    release: str = ""  # of the distribution, the number before the dot
    packages: set[str] = field(default_factory=set)  # also those that it does not need
    users: dict[str, str] = field(default_factory=dict)  # home:shell:groups, the first one's own
    paths: dict[str, Entry] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)  # public ones, by the name of the pair
    tables: dict[str, str] = field(default_factory=dict)  # of nftables: SHA-256 without blanks
    # whose firewalls, beside ours, drop what they do not allow, after the way (input, output) and nftables' family
    filters: set[tuple[str, str, str]] = field(default_factory=set)
    peers: dict[str, list[str]] = field(default_factory=dict)  # of units: networks that systemd lets through
    name_servers: list[str] = field(default_factory=list)  # their addresses
    units: dict[str, dict[str, str]] = field(default_factory=dict)  # systemd's properties
    profiles: dict[str, str] | None = None  # of AppArmor: name and mode; None if the kernel has it not
    denials: list[Any] = field(default_factory=list)  # what these profiles have denied, a Denial each
    steps: set[str] = field(default_factory=set)  # those whose check holds
    # by directory: its entries, and when each was last known to run (seconds since 1970, 0 never)
    generations: dict[str, dict[str, float]] = field(default_factory=dict)
    broken: dict[str, list[str]] = field(default_factory=dict)  # those that do not hold what they should
    # by TCP port: the units, or else names, of the processes that listen there, at any address
    listeners: dict[int, set[str]] = field(default_factory=dict)
    manifest: list[dict[str, Any]] = field(default_factory=list)  # what runs have placed


class Resource(ABC):
    """One thing on a host. `kind` and `name` identify it in manifests, forecasts and results."""

    kind: ClassVar[str]
    name: str

    @property
    def path(self) -> str:
        """Its name, where that is a path."""
        return self.name

    @property
    def owned(self) -> bool:
        """Whether a manifest holds it: it goes when it is no longer declared, and nobody else's is taken over."""
        return True

    @property
    def placed_with(self) -> str:
        """The path of a file with which a run places it: where that is ours, so is this; empty if there is none."""
        return ""

    @property
    def data(self) -> dict[str, Any]:
        """What a manifest has to know of it beside kind and name."""
        return {}

    @abstractmethod
    def differs(self, actual: Actual) -> str:
        """In what the host's differs from this one, in a few words; empty if in nothing."""

    @abstractmethod
    def is_there(self, actual: Actual) -> bool:
        """Whether the host has something of this kind and name, whatever it is like."""

    @abstractmethod
    def commands(self, actual: Actual, triggered: bool) -> list[tuple[str, ...]]:
        """What brings it about, beside the packages and the contents of files that engines see to: commands, each an
        argument list, run by root; `triggered`: what it depends on changes in this run."""

    @classmethod
    def remove(cls, entry: Mapping[str, Any]) -> list[tuple[str, ...]]:
        """The commands, each an argument list, that remove the one of a manifest's entry; they may be run again."""
        return []

    @classmethod
    @abstractmethod
    def read(cls, items: Sequence[Any]) -> str:
        """A shell command that prints, a line each, what the host has of these; see parse."""

    @classmethod
    @abstractmethod
    def parse(cls, line: str, actual: Actual) -> None:
        """Takes one line of what `read` has printed. Raises ValueError."""
