"""Which verdict an outcome gets: no pass without proof."""

from zmqfleet.probe.plan import Planned
from zmqfleet.probe.verdict import Cell, Outcome, judge

OPEN = Outcome("open", "round trip", "answered", 900, True)
REFUSED = Outcome("closed", "tcp", "TCP connect: ECONNREFUSED", 1)
REJECTED = Outcome("closed", "tcp", "TCP connect: EHOSTUNREACH", 1)
ZAP = Outcome("closed", "zap", "ZAP refused this key with status 400", 10, True)
MISMATCH = Outcome("closed", "zmtp", "mechanism mismatch", 10, True)
UNASKED = Outcome("unknown", None, "ssh: timed out")


def cell(credentials: str, expected: str, source: str = "gateway1", shut_at_tcp: bool = False) -> Planned:
    return Planned(
        source,
        "broker1",
        "quotes",
        "orders",
        "ROUTER",
        "CURVE",
        credentials,
        expected,
        "h",
        5555,
        shut_at_tcp,
    )


RIGHT = cell("right", "open")
UNKNOWN_KEY = cell("unknown", "closed")
STRANGER = cell("none", "closed", "stranger1", shut_at_tcp=True)


def verdicts(*pairs: tuple[Planned, Outcome]) -> list[Cell]:
    return judge([plan for plan, _ in pairs], [outcome for _, outcome in pairs])


def test_all_as_it_must_be() -> None:
    cells = verdicts((RIGHT, OPEN), (UNKNOWN_KEY, ZAP), (STRANGER, REJECTED))
    assert [c.verdict for c in cells] == ["pass", "pass", "pass"]


def test_a_dead_server_does_not_pass_for_a_locked_one() -> None:
    right, unknown, stranger = verdicts((RIGHT, REFUSED), (UNKNOWN_KEY, REFUSED), (STRANGER, REFUSED))
    assert (right.verdict, unknown.verdict, stranger.verdict) == ("fail", "unknown", "unknown")
    assert "seen open from nowhere" in stranger.evidence


def test_an_open_cell_of_another_endpoint_is_no_control() -> None:
    other = Planned("gateway1", "broker2", "quotes", "orders", "ROUTER", "CURVE", "right", "open", "h", 1)
    assert verdicts((other, OPEN), (UNKNOWN_KEY, ZAP))[1].verdict == "unknown"


def test_a_missing_zap_handler_fails_the_unknown_key_only() -> None:
    none = cell("none", "closed")
    cells = verdicts((RIGHT, OPEN), (UNKNOWN_KEY, OPEN), (none, MISMATCH), (STRANGER, REJECTED))
    assert [c.verdict for c in cells] == ["pass", "fail", "pass", "pass"]
    assert "ZAP handler is missing" in cells[1].evidence


def test_a_key_that_the_server_does_not_know_fails_at_zap() -> None:
    (right,) = verdicts((RIGHT, ZAP))
    assert (right.verdict, right.layer) == ("fail", "zap")
    assert "converge" in right.evidence


def test_a_firewall_that_lets_tcp_through_fails_though_curve_refuses() -> None:
    _, stranger = verdicts((RIGHT, OPEN), (STRANGER, MISMATCH))
    assert (stranger.verdict, stranger.observed, stranger.layer) == ("fail", "open", "tcp")
    assert "mechanism mismatch" in stranger.evidence


def test_a_tcp_connection_alone_is_no_control() -> None:
    cells = verdicts((RIGHT, MISMATCH), (UNKNOWN_KEY, MISMATCH), (STRANGER, MISMATCH))
    assert [c.verdict for c in cells] == ["fail", "unknown", "fail"]


def test_a_firewall_in_the_way_proves_nothing_about_keys() -> None:
    elsewhere = cell("right", "open", "gateway2")
    cells = verdicts((elsewhere, OPEN), (RIGHT, REJECTED), (UNKNOWN_KEY, REJECTED))
    assert [c.verdict for c in cells] == ["pass", "fail", "unknown"]


def test_a_name_that_does_not_resolve_proves_nothing() -> None:
    unresolved = Outcome("closed", "name", "h: Name or service not known")
    assert [c.verdict for c in verdicts((RIGHT, OPEN), (STRANGER, unresolved))] == ["pass", "unknown"]


def test_what_was_not_asked_is_unknown() -> None:
    assert [c.verdict for c in verdicts((RIGHT, UNASKED), (STRANGER, UNASKED))] == ["unknown", "unknown"]
