"""Text for people: what comes from hosts, made fit for terminals and messages, and numbers of things."""

import re


def printable(text: str) -> str:
    """A text whose control characters, which a terminal would obey, are replaced; lines and tabs stay, also
    lines that end as a terminal's do."""
    text = re.sub(r"\r+(?=\n|\Z)", "", text)
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def counted(number: int, noun: str) -> str:
    """So many things: 1 host, 2 hosts."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
