"""The probe's result for people and for programs."""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from zmqfleet.probe.plan import CREDENTIALS
from zmqfleet.probe.verdict import FAIL, OPEN, PASS, UNKNOWN, Cell
from zmqfleet.text import counted

_KEYS = {
    "right": "the right key",
    "none": "no key",
    "unknown": "an unknown key",
    "wrong-server-key": "a wrong server key",
}
_GAP = "  "


@dataclass(frozen=True)
class Report:
    """All cells with their verdicts; `unreachable` says why, for each host that could not be asked."""

    cells: Sequence[Cell]
    unreachable: Mapping[str, str]

    @property
    def exit_status(self) -> int:
        """0 all cells as expected, 1 a cell is not, 2 that could not be told (or there are no cells)."""
        verdicts = {cell.verdict for cell in self.cells}
        if FAIL in verdicts:
            return 1
        return 0 if verdicts == {PASS} and not self.unreachable else 2

    def as_json(self) -> dict[str, Any]:
        """The report as JSON data; docs/probe.md describes it."""
        return {
            "schema": 1,
            "summary": {
                "cells": len(self.cells),
                **{verdict: self._count(verdict) for verdict in (PASS, FAIL, UNKNOWN)},
                "hosts_unreachable": sorted(self.unreachable),
            },
            "cells": [dataclasses.asdict(cell) for cell in self.cells],
        }

    def as_text(self, width: int) -> str:
        """The matrix, a summary, and every cell that is not as expected; at most about `width` columns.

        Styled with ANSI codes, which click.echo removes where the output is no terminal.
        """
        if not self.cells:
            return "no cells: no service of this inventory has an endpoint and a host; nothing was probed"
        parts = [*self._matrix(width), self._legend(), self._summary(), *self._troubles()]
        return "\n".join(parts)

    def _count(self, verdict: str) -> int:
        return sum(cell.verdict == verdict for cell in self.cells)

    def _matrix(self, width: int) -> Iterator[str]:
        """Rows are sources; columns are endpoints under service and destination, as many as fit at a time."""
        sources = sorted({cell.source for cell in self.cells}, key=_natural)
        found: dict[tuple[str, str, str, str], list[Cell]] = {}
        for cell in self.cells:
            found.setdefault((cell.source, cell.destination, cell.service, cell.endpoint), []).append(cell)
        first = max(len(source) for source in [*sources, "from \\ to"])
        for blocks in _wrapped(_blocks(self.cells), width - first - len(_GAP)):
            for level in range(3):
                head = ["from \\ to" if level == 0 else "", *(block.heading[level] for block in blocks)]
                yield _GAP.join([head[0].ljust(first), *head[1:]]).rstrip()
            for source in sources:
                row = [source.ljust(first)]
                for block in blocks:
                    for (service, endpoint), column in block.columns:
                        here = found.get((source, block.destination, service, endpoint), [])
                        row.append(_symbols(here) + " " * (column - len(here)))
                yield _GAP.join(row).rstrip()
            yield ""

    def _legend(self) -> str:
        symbols = "+ open  - closed: as expected   O open  X closed: not as expected   ? unknown"
        if any(cell.mechanism == "CURVE" for cell in self.cells):
            symbols += "\nfour symbols: " + ", ".join(_KEYS[name] for name in CREDENTIALS)
        return symbols + "\n"

    def _summary(self) -> str:
        text = f"{counted(len(self.cells), 'cell')}: {self._count(PASS)} as expected"
        if failed := self._count(FAIL):
            text += ", " + click.style(f"{failed} not", fg="red", bold=True)
        if unknown := self._count(UNKNOWN):
            text += ", " + click.style(f"{unknown} could not be told", fg="yellow")
        return text

    def _troubles(self) -> Iterator[str]:
        """What went wrong once, however many cells show it."""
        failed: dict[tuple[object, ...], list[Cell]] = {}
        unknown: dict[tuple[object, ...], list[Cell]] = {}
        for cell in self.cells:
            where = (cell.destination, cell.service, cell.endpoint)
            if cell.verdict == FAIL:
                key = (*where, cell.credentials, cell.observed, cell.layer, cell.evidence)
                failed.setdefault(key, []).append(cell)
            elif cell.verdict == UNKNOWN and cell.source not in self.unreachable:
                # the last part says why nothing is proven
                unknown.setdefault((*where, cell.evidence.rsplit("; ", 1)[-1]), []).append(cell)
        for cells in failed.values():
            sources = ", ".join(sorted((cell.source for cell in cells), key=_natural))
            yield click.style("FAIL ", fg="red", bold=True) + _sentence(cells[0], sources)
        for host, why in sorted(self.unreachable.items()):
            count = sum(cell.source == host for cell in self.cells)
            yield (
                click.style("?    ", fg="yellow")
                + f"{host} could not be asked ({counted(count, 'cell')}): {why}"
            )
        for cells in unknown.values():
            more = f" (and {counted(len(cells) - 1, 'more cell')} for this reason)" if len(cells) > 1 else ""
            yield click.style("?    ", fg="yellow") + _sentence(cells[0], cells[0].source) + more


@dataclass(frozen=True)
class _Block:
    """The columns of one service on one destination, each ((service, endpoint), width), and their heading."""

    destination: str
    columns: list[tuple[tuple[str, str], int]]
    heading: tuple[str, str, str]

    @property
    def width(self) -> int:
        return len(self.heading[0])


def _blocks(cells: Sequence[Cell]) -> list[_Block]:
    """One block for each service of each destination, so that a host with many services wraps as well."""
    places: dict[str, dict[str, dict[str, None]]] = {}
    for cell in cells:
        places.setdefault(cell.destination, {}).setdefault(cell.service, {})[cell.endpoint] = None
    blocks = []
    for destination, services in sorted(places.items(), key=lambda place: _natural(place[0])):
        for service, endpoints in services.items():
            names = list(endpoints)
            widths = [max(len(name), len(CREDENTIALS)) for name in names]
            total = sum(widths) + len(_GAP) * (len(names) - 1)
            widths[-1] += max(0, max(len(destination), len(service)) - total)
            total = sum(widths) + len(_GAP) * (len(names) - 1)
            heading = (
                destination.ljust(total),
                service.ljust(total),
                _GAP.join(name.ljust(column) for name, column in zip(names, widths, strict=True)),
            )
            columns = [((service, name), column) for name, column in zip(names, widths, strict=True)]
            blocks.append(_Block(destination, columns, heading))
    return blocks


def _wrapped(blocks: Sequence[_Block], width: int) -> Iterator[list[_Block]]:
    line: list[_Block] = []
    for block in blocks:
        if line and sum(other.width + len(_GAP) for other in line) + block.width > width:
            yield line
            line = []
        line.append(block)
    yield line


def _symbols(cells: Sequence[Cell]) -> str:
    """One symbol a cell, in the order of CREDENTIALS."""
    ordered = sorted(cells, key=lambda cell: CREDENTIALS.index(cell.credentials))
    return "".join(_symbol(cell) for cell in ordered)


def _symbol(cell: Cell) -> str:
    if cell.verdict == UNKNOWN:
        return click.style("?", fg="yellow")
    if cell.verdict == PASS:
        return click.style("+", fg="green") if cell.observed == OPEN else "-"
    return click.style("O" if cell.observed == OPEN else "X", fg="red", bold=True)


def _sentence(cell: Cell, sources: str) -> str:
    layer = f" at layer {cell.layer}" if cell.layer else ""
    return (
        f"{cell.destination} {cell.service}.{cell.endpoint} ({cell.socket}, {cell.mechanism}) "
        f"from {sources} with {_KEYS[cell.credentials]}: "
        f"expected {cell.expected}, observed {cell.observed}{layer}: {cell.evidence}"
    )


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts gateway10 after gateway9."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]
