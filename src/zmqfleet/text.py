"""Text that comes from hosts, made fit for terminals and messages."""

import re


def printable(text: str) -> str:
    """A text whose control characters, which a terminal would obey, are replaced; lines and tabs stay, also
    lines that end as a terminal's do."""
    text = re.sub(r"\r+(?=\n|\Z)", "", text)
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)
