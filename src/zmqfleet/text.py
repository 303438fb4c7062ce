"""Text that comes from hosts, made fit for terminals and messages."""

import re


def printable(text: str) -> str:
    """A text whose control characters, which a terminal would obey, are replaced; lines stay, also those that end as a
    terminal's do."""
    text = re.sub(r"\r+(?=\n|\Z)", "", text)
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)
