"""Text that comes from hosts, made fit for terminals and messages."""


def printable(text: str) -> str:
    """A text whose control characters, which a terminal would obey, are replaced; lines stay."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)
