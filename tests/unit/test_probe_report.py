"""The probe's report: exit status, JSON, and a matrix that people can read."""

import json

import click

from zmqfleet.probe.report import Report
from zmqfleet.probe.verdict import Cell

KEYS = [
    *("source", "destination", "service", "endpoint", "socket", "mechanism", "credentials"),
    *("expected", "observed", "layer", "evidence", "milliseconds", "verdict"),
]


def cell(
    source: str = "gateway1",
    destination: str = "broker1",
    credentials: str = "right",
    expected: str = "open",
    observed: str = "open",
    verdict: str = "pass",
    evidence: str = "why",
    endpoint: str = "orders",
) -> Cell:
    return Cell(
        source, destination, "quotes", endpoint, "ROUTER", "CURVE", credentials, expected, observed,
        "round trip", evidence, 5, verdict,
    )  # fmt: skip


def text(report: Report, width: int = 100) -> str:
    return click.unstyle(report.as_text(width))


FAILED = cell(credentials="unknown", expected="closed", verdict="fail", evidence="any key is admitted")
DOUBTFUL = cell(credentials="none", expected="closed", observed="closed", verdict="unknown", evidence="dead")


def test_exit_status_says_the_worst() -> None:
    assert Report([cell()], {}).exit_status == 0
    assert Report([cell(), DOUBTFUL], {}).exit_status == 2
    assert Report([cell(), DOUBTFUL, FAILED], {}).exit_status == 1


def test_no_cells_are_no_success() -> None:
    report = Report([], {})
    assert report.exit_status == 2
    assert "no cells" in text(report)


def test_json_has_the_documented_keys_and_survives_a_round_trip() -> None:
    data = json.loads(json.dumps(Report([cell(), FAILED, DOUBTFUL], {"broker2": "timed out"}).as_json()))
    assert data["schema"] == 1
    assert data["summary"] == {
        "cells": 3,
        "pass": 1,
        "fail": 1,
        "unknown": 1,
        "hosts_unreachable": ["broker2"],
    }
    assert [list(entry) for entry in data["cells"]] == [KEYS] * 3


def test_the_matrix_shows_credentials_in_a_fixed_order() -> None:
    cells = [
        FAILED,
        DOUBTFUL,
        cell(),
        cell("stranger1", credentials="none", expected="closed", observed="closed"),
    ]
    lines = text(Report(cells, {})).splitlines()
    assert [line.split() for line in lines[:5]] == [
        ["from", "\\", "to", "broker1"], ["quotes"], ["orders"], ["gateway1", "+?O"], ["stranger1", "-"],
    ]  # fmt: skip


def test_only_what_is_not_as_expected_is_told_in_words() -> None:
    words = text(Report([cell(), FAILED, DOUBTFUL], {}))
    assert (
        "FAIL broker1 quotes.orders (ROUTER, CURVE) from gateway1 with an unknown key: "
        "expected closed, observed open at layer round trip: any key is admitted" in words
    )
    assert words.count("quotes.orders") == 2


def test_a_failure_seen_from_many_hosts_is_told_once_with_all_of_them() -> None:
    names = ("gateway10", "gateway9", "gateway1")
    cells = [cell(name, credentials="unknown", expected="closed", verdict="fail") for name in names]
    words = text(Report(cells, {}))
    assert words.count("FAIL") == 1
    assert "from gateway1, gateway9, gateway10 with an unknown key" in words


def test_an_unreachable_host_is_told_once() -> None:
    unasked = [
        cell(source="gateway2", endpoint=name, observed="unknown", verdict="unknown", evidence="timed out")
        for name in ("orders", "ticks")
    ]
    words = text(Report([cell(), *unasked], {"gateway2": "timed out"}))
    assert words.count("timed out") == 1
    assert "gateway2 could not be asked (2 cells): timed out" in words


def test_twenty_hosts_stay_within_the_width() -> None:
    names = [f"gateway{number}" for number in range(20)]
    cells = [cell(source, destination) for source in names for destination in names]
    lines = text(Report(cells, {}), 80).splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.count("+") for line in lines) == 400 + 1  # and the legend


def test_columns_stand_under_their_headings() -> None:
    cells = [
        cell(destination=name, endpoint=end) for name in ("a", "broker-with-a-long-name") for end in "xy"
    ]
    heading, row = text(Report(cells, {})).splitlines()[2:4]
    assert [i for i, char in enumerate(row) if char == "+"] == [i for i, c in enumerate(heading) if c in "xy"]
