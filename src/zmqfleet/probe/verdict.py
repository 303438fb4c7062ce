"""From what was met to a verdict on every cell."""

from collections.abc import Sequence
from dataclasses import dataclass

from zmqfleet.probe.plan import RIGHT, UNKNOWN_KEY, Planned

OPEN, CLOSED, UNKNOWN = "open", "closed", "unknown"
PASS, FAIL = "pass", "fail"


@dataclass(frozen=True)
class Outcome:
    """What a host met when it tried a cell: `layer` decided, `connected` is whether TCP connected."""

    observed: str
    layer: str | None
    evidence: str
    milliseconds: int = 0
    connected: bool = False


@dataclass(frozen=True)
class Cell:
    """One cell of the report. The fields are those of the JSON."""

    source: str
    destination: str
    service: str
    endpoint: str
    socket: str
    mechanism: str
    credentials: str
    expected: str
    observed: str
    layer: str | None
    evidence: str
    milliseconds: int
    verdict: str


def judge(planned: Sequence[Planned], outcomes: Sequence[Outcome]) -> list[Cell]:
    """A verdict for every planned cell, given its outcome.

    A cell that must be closed passes only if its endpoint was seen open from somewhere, and if what closed it
    is what had to: otherwise a dead server or a missing route would pass for security.
    """
    seen = [_seen(plan, outcome) for plan, outcome in zip(planned, outcomes, strict=True)]
    # an open TCP port proves no service, so it is no control
    alive = {
        plan.where
        for plan, outcome in zip(planned, seen, strict=True)
        if outcome.observed == OPEN and outcome.layer != "tcp"
    }
    return [_cell(plan, outcome, plan.where in alive) for plan, outcome in zip(planned, seen, strict=True)]


def _seen(plan: Planned, outcome: Outcome) -> Outcome:
    """Where TCP itself must be shut, a TCP connection is an open cell, whatever the layers above said."""
    if not plan.shut_at_tcp or not outcome.connected or outcome.observed == OPEN:
        return outcome
    said = f"TCP connected: neither firewall nor bind address stopped it; above TCP: {outcome.evidence}"
    return Outcome(OPEN, "tcp", said, outcome.milliseconds, True)


def _cell(plan: Planned, outcome: Outcome, alive: bool) -> Cell:
    verdict, evidence = FAIL, outcome.evidence
    if outcome.observed == UNKNOWN:
        verdict = UNKNOWN
    elif outcome.observed == plan.expected == OPEN:
        verdict = PASS
    elif outcome.observed == plan.expected:
        doubt = _doubt(plan, outcome, alive)
        verdict, evidence = (UNKNOWN, f"{evidence}; {doubt}") if doubt else (PASS, evidence)
    elif outcome.observed == OPEN and plan.credentials == UNKNOWN_KEY:
        evidence += "; the service admits any key: its ZAP handler is missing or allows all"
    elif outcome.layer == "zap" and plan.credentials == RIGHT:
        evidence += "; the server does not have this client's public key: converge both hosts"
    return Cell(
        source=plan.source,
        destination=plan.destination,
        service=plan.service,
        endpoint=plan.endpoint,
        socket=plan.socket,
        mechanism=plan.mechanism,
        credentials=plan.credentials,
        expected=plan.expected,
        observed=outcome.observed,
        layer=outcome.layer,
        evidence=evidence,
        milliseconds=outcome.milliseconds,
        verdict=verdict,
    )


def _doubt(plan: Planned, outcome: Outcome, alive: bool) -> str:
    """Why a closed cell proves nothing, or "" if it does."""
    if outcome.layer == "name":
        return "nothing proven: no connection was tried"
    if not alive:
        return "nothing proven: this endpoint was seen open from nowhere"
    if not plan.shut_at_tcp and outcome.layer == "tcp":
        return "nothing proven: it did not get as far as the handshake"
    return ""
