"""How services are: each on each of its hosts, as one command a host finds them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from zmqfleet import drift
from zmqfleet.converge import HostRun
from zmqfleet.fleet.model import Fleet, FleetError, Identity, Service
from zmqfleet.fleet.schema import nearest
from zmqfleet.releases import release
from zmqfleet.resources.unit import seconds

_WIDEST = 64  # characters of a cell: hosts have the say of some
UNKNOWN = "unknown"
_HEAD = ("SERVICE", "HOST", "STATE", "FOR", "RELEASE", "ENDPOINTS", "KEY", "APPARMOR", "DRIFT")


@dataclass(frozen=True)
class Row:
    """A service on a host: its unit's state, and since when (seconds since 1970, None if it does not run); the release
    that runs and the declared one; at which endpoints it listens; its key's age (seconds, None without one); what
    AppArmor does with its process (enforce, complain, unconfined), empty where the kernel has none; whether anything
    of it differs from what is declared, None if its host could not be asked, the state is UNKNOWN then."""

    service: str
    host: str
    state: str
    since: float | None
    now: float
    release: str
    declared: str
    endpoints: Mapping[str, bool]
    key_age: float | None
    apparmor: str
    drift: bool | None

    @property
    def is_well(self) -> bool:
        """Whether it runs as it is declared to."""
        return self.state == "active" and self.drift is False and all(self.endpoints.values())

    @property
    def cells(self) -> tuple[str, ...]:
        """It as a line of the table."""
        silent = [name for name, listens in self.endpoints.items() if not listens]
        return (
            self.service,
            self.host,
            self.state,
            _for(self.since and self.now - self.since),
            self.release if self.release in ("", self.declared) else f"{self.release}, not {self.declared}",
            f"silent: {', '.join(silent)}"
            if silent
            else f"{len(self.endpoints)} listen"
            if self.endpoints
            else "-",
            _for(self.key_age),
            self.apparmor or "-",
            {True: "yes", False: "no", None: "?"}[self.drift],
        )


@dataclass(frozen=True)
class Report:
    """The rows; `unknown` says of other hosts why they could not be asked, `warnings` what people should see to."""

    rows: Sequence[Row]
    unknown: Mapping[str, str]
    warnings: Sequence[str] = ()

    @property
    def exit_status(self) -> int:
        """0 all run as declared, 1 one does not, 2 a host could not be asked."""
        if self.unknown:
            return 2
        return 0 if all(row.is_well for row in self.rows) else 1

    def as_json(self) -> dict[str, Any]:
        """The report as JSON data."""
        rows = [asdict(row) for row in self.rows]
        return {"schema": 1, "services": rows, "unknown": dict(self.unknown), "warnings": list(self.warnings)}

    def as_text(self) -> str:
        """A table, then the hosts that could not be asked, and what else to see to."""
        unknown = [*(f"{host}: {why}" for host, why in self.unknown.items()), *self.warnings]
        if not self.rows:
            return "\n".join(["no service is declared there", *unknown])
        lines = [_HEAD, *(tuple(cell[:_WIDEST] for cell in row.cells) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        table = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
        return "\n".join([*table, *unknown])


def look(fleet: Fleet, names: Sequence[str] = ()) -> Report:
    """How services are that are named, or whose hosts are, or groups of these; all of them by default. Raises
    FleetError if a name is none of that."""
    known = (*fleet.hosts, *fleet.groups, *fleet.services)
    for name in names:
        if name not in known:
            raise FleetError(f"{fleet.inventory}: no host, group or service {name!r}; {nearest(name, known)}")
    hosts = {host for name in names or ("all",) for host in fleet.groups.get(name, [name])} & set(fleet.hosts)
    services = [fleet.services[name] for name in names if name in fleet.services]
    seen = drift.read(fleet, sorted(hosts.union(*map(fleet.instances, services))))
    rows = [row for run in seen.runs.values() for row in _rows(run)]
    rows += [
        Row(one.name, host, UNKNOWN, None, 0, "", release(fleet, one).id, {}, None, "", None)
        for host in seen.unknown
        for one in fleet.services_of(host)
    ]
    chosen = [row for row in rows if row.host in hosts or row.service in names]
    return Report(sorted(chosen, key=lambda row: (row.service, row.host)), seen.unknown, seen.findings)


def _rows(run: HostRun) -> Iterator[Row]:
    differs = {change.part.service for change in run.plan.changes() if not change.is_consequence}
    for service in run.fleet.services_of(run.host):
        yield _row(run, service, service.name in differs)


def _row(run: HostRun, service: Service, differs: bool) -> Row:
    actual, unit_name = run.plan.actual, f"{service.name}.service"
    unit = actual.units.get(unit_name, {})
    started, now = seconds(unit.get("ExecMainStartTimestamp", "")), float(unit.get("now", 0))
    state = unit.get("ActiveState", "")
    key = actual.paths.get(Identity(run.host, service.name).secret_file)
    return Row(
        service.name,
        run.host,
        state if unit.get("LoadState") == "loaded" and state else "missing",
        started if state == "active" and started else None,
        now,
        run.running(service),
        release(run.fleet, service).id,
        {e.name: unit_name in actual.listeners.get(e.port, ()) for e in service.endpoints},
        now - key.changed if key and now else None,
        unit.get("label", "").rpartition(" ")[2].strip("()"),
        differs,
    )


def _for(span: float | None) -> str:
    """A span of time (seconds) in words."""
    if span is None:
        return "-"
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if span >= size:
            return f"{span / size:.0f} {unit}"
    return f"{max(span, 0):.0f} s"
