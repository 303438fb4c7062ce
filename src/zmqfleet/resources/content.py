"""Where the content of a file comes from."""

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Inline:
    """Content that the controller has at hand; a secret one is shown nowhere."""

    data: bytes
    secret: bool = False

    @classmethod
    def text(cls, text: str, secret: bool = False) -> "Inline":
        """Content from text, in UTF-8."""
        return cls(text.encode(), secret)

    @functools.cached_property
    def sha256(self) -> str:
        """Its digest in hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True)
class Artefact:
    """A file of the controller's, which may come into being during a run; the digest is None while nobody knows it."""

    path: Path
    sha256: str | None


@dataclass(frozen=True)
class Made:
    """Content that a step makes on the host."""

    sha256: None = None


@dataclass(frozen=True)
class Pending:
    """Content that cannot be known yet, and why; what is on the host stays. Where nothing is, what comes after may have
    to wait for it."""

    why: str
    blocks: bool = True
    sha256: None = None


Content = Inline | Artefact | Made | Pending
