"""A host's desired state, and what is to be done where the actual state differs.

Both engines, `zmqfleet drift` and `zmqfleet view` go by it. What a run has placed is in a manifest on the host; what is
in it and no longer desired is retired, and what is on the host and not in it is nobody's to take over.
"""

import json
import math
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from zmqfleet import releases
from zmqfleet.capabilities import ORDER, PHASES, RETIRE, START, Part
from zmqfleet.fleet import keys
from zmqfleet.fleet.addresses import addresses
from zmqfleet.fleet.model import ETC, Fleet, FleetError
from zmqfleet.fleet.schema import nearest
from zmqfleet.resources import (
    KINDS,
    Actual,
    Directory,
    File,
    Inline,
    Link,
    Made,
    Pending,
    Profile,
    Resource,
    Rule,
    Step,
    Unit,
    User,
    read,
)
from zmqfleet.resources.profile import told
from zmqfleet.resources.rule import families
from zmqfleet.resources.unit import seconds

MANIFEST = f"{ETC}/manifest"
UNTRIED = "zmqfleet probe tells what gets through"  # in spite of whose firewall it passes

INPUT, OUTPUT = "input", "output"  # nftables' ways
_DROPS = {
    INPUT: "drops what it does not allow itself",
    OUTPUT: "drops what goes out and it does not allow itself",
}

_KINDS = {kind.kind: kind for kind in KINDS}
_Name = tuple[str, str]  # kind and name


def _last_start(unit: Mapping[str, str]) -> float:
    """When a unit began to start for the last time, in seconds since 1970; of one that does not run, a minute before
    that or before it ended, as systemd tells one as the other."""
    told = [seconds(unit.get(key, "")) for key in ("InactiveExitTimestamp", "ExecMainStartTimestamp")]
    # what is run before the program itself is confined, too
    known = min((one for one in told if one), default=math.inf)
    return known if unit.get("ActiveState") == "active" else known - 60


def parts(fleet: Fleet, host: str, leaving: tuple[Rule, ...] = ()) -> list[Part]:
    """All that a host is to have, in the order in which it is placed. Raises FleetError if there is no such host, or a
    peer's name has no address."""
    if host not in fleet.hosts:
        raise FleetError(f"{fleet.inventory}: no host {host!r}; {nearest(host, fleet.hosts)}")
    found = [part for module in ORDER.values() for part in module.parts(fleet, host, leaving)]
    return sorted(found, key=lambda part: PHASES.index(part.phase))


def reading(fleet: Fleet, host: str) -> str:
    """A shell command for root that prints what a host has; zmqfleet.resources.parse reads it."""
    return read((resource for part in parts(fleet, host) for resource in part.resources), MANIFEST)


def learn(fleet: Fleet, host: str, actual: Actual, made: Container[str] = ()) -> list[str]:
    """Keeps on the controller what other hosts need of this one: public keys, digests of what it has built; says what
    people should know of that. `made` are the names of keys that this run has made.

    Raises FleetError if it says what cannot be; nothing is kept then.
    """
    news = keys.learn(fleet, host, actual.keys, made)
    if fleet.builds(host):
        releases.learn(fleet, host, actual)
    return news


@dataclass(frozen=True)
class Change:
    """Something to do: a resource of a part, and in what the host differs from it."""

    part: Part
    resource: Resource
    why: str
    triggered: bool = False  # by another change of the same run

    @property
    def is_consequence(self) -> bool:
        """Steps that change nothing by themselves: conditions that other changes may fulfil, and keeping what runs."""
        one = self.resource
        return isinstance(one, Step) and self.triggered and (not one.command or one.check == ":")

    def __str__(self) -> str:
        return f"{self.resource.kind} {self.resource.name}: {self.why}"


@dataclass(frozen=True)
class Barrier:
    """Another's firewall on a host, on the `way` in or out, and what it may keep from getting through, in words."""

    way: str
    words: str


@dataclass(frozen=True)
class Removal:
    """Something that is no longer declared, and the commands that remove it, each an argument list."""

    kind: str
    name: str
    commands: tuple[tuple[str, ...], ...]

    @property
    def phase(self) -> str:
        """Processes end before others take their ports; the rest goes when these have been proven."""
        return START if self.kind == Unit.kind else RETIRE

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: no longer declared"


@dataclass(frozen=True)
class Plan:
    """What is to be done on a host that was read; on one that leaves the fleet, all that runs have placed goes."""

    fleet: Fleet
    host: str
    actual: Actual
    leaves: bool = False

    @cached_property
    def _manifest(self) -> dict[_Name, dict[str, Any]]:
        return {(str(entry["kind"]), str(entry["name"])): entry for entry in self.actual.manifest}

    @property
    def is_lost(self) -> bool:
        """Whether the manifest is gone, though runs have been here."""
        return not self._manifest and ETC in self.actual.paths

    @cached_property
    def parts(self) -> list[Part]:
        """All that the host is to have."""
        return [] if self.leaves else parts(self.fleet, self.host)

    @cached_property
    def _owned(self) -> dict[_Name, tuple[Part, Resource]]:
        found: dict[_Name, tuple[Part, Resource]] = {}
        for part in self.parts:
            for resource in part.resources:
                if resource.owned:
                    found.setdefault((resource.kind, resource.name), (part, resource))
        return found

    @cached_property
    def leaving(self) -> list[dict[str, Any]]:
        """The manifest's entries that are no longer desired, in the order in which they were placed; of kinds that
        nobody knows here, a newer version's, all stay."""
        return [
            entry for name, entry in self._manifest.items() if name not in self._owned and name[0] in _KINDS
        ]

    def changes(self, capability: str = "", phase: str = "") -> list[Change]:
        """What is to be placed, of one capability and phase or of all, in order. The firewall keeps what is closed now
        as it is until the processes behind it are gone."""
        return [
            change
            for change in self._union
            if capability in ("", change.part.capability) and phase in ("", change.part.phase)
        ]

    @cached_property
    def _union(self) -> list[Change]:
        rules = [entry for entry in self.leaving if entry["kind"] == Rule.kind]
        if not rules or self.leaves:
            return _changes(self.parts, self.actual)
        kept = tuple(Rule(str(e["endpoint"]), int(e["port"]), tuple(e["peers"])) for e in rules)
        return _changes(parts(self.fleet, self.host, kept), self.actual)

    def removals(self, phase: str) -> list[Removal]:
        """What is to be removed in a phase, last placed first."""
        found = [
            Removal(entry["kind"], entry["name"], tuple(_KINDS[entry["kind"]].remove(entry)))
            for entry in reversed(self.leaving)
        ]
        return [one for one in found if one.phase == phase]

    @cached_property
    def undecided(self) -> list[str]:
        """What is there, and may be what is declared or not: a line each, which says what would have to be known."""
        resources = [one for part in self.parts for one in part.resources]
        return [
            f"not compared: {one.kind} {one.name}: {one.content.why}"
            for one in resources
            if isinstance(one, File) and isinstance(one.content, Pending) and one.is_there(self.actual)
        ]

    @cached_property
    def barred(self) -> list[Barrier]:
        """Who else's firewalls may stand between endpoints and peers that the fleet's lets reach them. What they allow
        only the probe tells."""
        found = []
        for way, whose in sorted({(way, whose) for way, _, whose in self.actual.filters}):
            passed = {
                family for *other, family, name in self.actual.filters if (*other, name) == (way, whose)
            }
            shut = {
                (port, endpoint)
                for port, endpoint, beyond in (self._served if way == INPUT else self._reached)
                if not passed.isdisjoint(families(beyond))
            }
            if shut:
                ports = ", ".join(f"{port} ({endpoint})" for port, endpoint in sorted(shut))
                found.append(Barrier(way, f"{whose} there {_DROPS[way]}, perhaps tcp {ports}"))
        return found

    @property
    def _served(self) -> Iterator[tuple[int, str, set[str]]]:
        """The endpoints here: port, name, and the addresses that may connect; no firewall stands between a host and
        itself."""
        own = set(addresses(self.fleet.hosts[self.host])) if self.host in self.fleet.hosts else set()
        for _, one in self._owned.values():
            if isinstance(one, Rule):
                yield one.port, one.endpoint, set(one.peers) - own

    @property
    def _reached(self) -> Iterator[tuple[int, str, set[str]]]:
        """The same of the endpoints elsewhere to which this host may connect, with the addresses they are at."""
        for other in self.fleet.hosts.values():
            for service in self.fleet.services_of(other.name) if other.name != self.host else ():
                for one in service.endpoints:
                    if self.host in self.fleet.allowed(service, one, other.name):
                        yield one.port, f"{service.name}.{one.name}", set(addresses(other))

    @cached_property
    def denied(self) -> list[str]:
        """What AppArmor has denied the host's services since each began to start, a line for each thing."""
        found = []
        for part, resource in self._owned.values():
            if isinstance(resource, Profile):
                unit = self.actual.units.get(f"{part.service}.service", {})
                since = _last_start(unit)
                denials = [
                    one for one in self.actual.denials if one.of_profile == resource.name and one.at >= since
                ]
                found += [f"{part.service}: {line}" for line in told(denials)]
        return found

    @cached_property
    def forecast(self) -> list[str]:
        """A line for each thing that a run would do, in order; empty if it has nothing to do."""
        placed = [change for change in _changes(self.parts, self.actual) if not change.is_consequence]
        removed = [*self.removals(START), *self.removals(RETIRE)]
        return list(dict.fromkeys(map(str, [*placed, *removed, *self._written_anew])))

    @property
    def _written_anew(self) -> list[Change]:
        why = "missing" if self.is_lost else "content" if self.is_provisional else ""
        return [Change(self.parts[0], File(MANIFEST, Inline.text("")), why)] if why and self.parts else []

    @property
    def is_provisional(self) -> bool:
        """Whether all is as declared, but the manifest holds rules of a run that has not come to its end."""
        rules = {n: part for n, part in self._owned.items() if n[0] == Rule.kind and n in self._manifest}
        return not self.leaving and any(
            self._manifest[name] != _entry(*found) for name, found in rules.items()
        )

    @cached_property
    def retirement(self) -> list[Change | Removal]:
        """What the last phase does: removals, and what follows from them."""
        before = {str(change) for change in self.changes()}
        after = [change for change in _changes(self.parts, self.actual) if str(change) not in before]
        return [*self.removals(RETIRE), *self.changes(phase=RETIRE), *after, *self._written_anew]

    @cached_property
    def refusals(self) -> list[str]:
        """What is on the host under our names and is not ours, a line each; it is never touched."""
        return [*self._foreign(), *self._taken(), *self._in_the_way()]

    def _in_the_way(self) -> Iterator[str]:
        """What would be written into, or through, in place of being replaced."""
        for part in self.parts:
            for one in part.resources:
                if isinstance(one, User) and one.is_root(self.actual):
                    yield f"user {one.name} is root by its number: remove it there"
                is_ours = not one.owned or self._is_ours(one)
                found = self.actual.paths.get(one.path) if isinstance(one, Directory | File | Link) else None
                if found and is_ours and (found.kind == "directory") != isinstance(one, Directory):
                    yield f"{one.kind} {one.name} is a {found.kind}: remove it there"
                elif (
                    found
                    and found.kind == "symbolic link"
                    and isinstance(one, File)
                    and isinstance(one.content, Made)
                ):
                    # what it leads to would be given to whom the file belongs
                    yield f"{one.kind} {one.name} is a {found.kind}: remove it there"

    def _is_ours(self, one: Resource) -> bool:
        return (one.kind, one.name) in self._manifest or (File.kind, one.placed_with) in self._manifest

    def _foreign(self) -> Iterator[str]:
        for part, resource in self._owned.values():
            is_foreign = not self._is_ours(resource) and resource.is_there(self.actual)
            if is_foreign and (differs := resource.differs(self.actual)):
                advice = "remove it there"
                if part.service:
                    advice = f"give the service another name, or {advice}"
                if self.is_lost:
                    advice = (
                        f"{MANIFEST} is gone, so converge what was declared until now, and then change it"
                    )
                yield (
                    f"{resource.kind} {resource.name} is on the host, and no run of zmqfleet has placed it "
                    f"({differs}): {advice}"
                )

    def _taken(self) -> Iterator[str]:
        ours = {name for kind, name in (*self._manifest, *self._owned) if kind == Unit.kind}
        for _, resource in self._owned.values():
            if isinstance(resource, Rule):
                by = self.actual.listeners.get(resource.port, set())
                # beside ours, at another of the host's addresses, others do no harm
                if by and not by & ours:
                    yield (
                        f"port {resource.port} of {resource.endpoint} is taken by {', '.join(sorted(by))}: stop that, "
                        "or take another"
                    )

    @cached_property
    def handed_over(self) -> dict[str, list[str]]:
        """The services that are to have a port at which another one of the host's listens, and the services that do."""
        here = {part.service for part in self.parts if part.service and part.phase == START}
        units = {f"{service}.service": service for service in here}
        found: dict[str, list[str]] = {}
        for _, resource in self._owned.values():
            if isinstance(resource, Rule):
                by = {units[one] for one in self.actual.listeners.get(resource.port, ()) if one in units}
                service = resource.endpoint.partition(".")[0]
                if others := by - {service}:
                    found.setdefault(service, []).extend(sorted(others))
        return found

    @cached_property
    def succeeded(self) -> dict[str, list[str]]:
        """The services that are to have a port of one that is no longer declared here, and the units of those."""
        ports = {
            int(entry["port"]): f"{str(entry['endpoint']).partition('.')[0]}.service"
            for entry in self.leaving
            if entry["kind"] == Rule.kind
        }
        found: dict[str, list[str]] = {}
        for _, resource in self._owned.values():
            if isinstance(resource, Rule) and resource.port in ports:
                found.setdefault(resource.endpoint.partition(".")[0], []).append(ports[resource.port])
        return found

    @property
    def still_listening(self) -> str:
        """Why the rules of what is leaving must stay; empty if nothing listens there."""
        declared = {resource.port for _, resource in self._owned.values() if isinstance(resource, Rule)}
        for entry in self.leaving:
            port = entry.get("port")
            if entry["kind"] == Rule.kind and port not in declared and port in self.actual.listeners:
                by = ", ".join(sorted(self.actual.listeners[port]))
                return f"port {port} of {entry['endpoint']} is no longer declared, but {by} listens there: stop that"
        return ""

    @cached_property
    def manifest(self) -> str | None:
        """The manifest that goes to the host before anything is placed: all that was there, and all that will be; None
        if it is that already."""
        entries = {name: entry for name, entry in self._manifest.items() if name not in self._owned}
        for name, (part, resource) in self._owned.items():
            was_there = not self._is_ours(resource) and resource.is_there(self.actual)
            if not was_there or (self.is_lost and not resource.differs(self.actual)):
                entries[name] = _entry(part, self._provisional(resource))
        return None if entries == self._manifest else _text(entries)

    def _provisional(self, resource: Resource) -> Resource:
        """A rule for those peers alone that it had before, too: until the run's end nobody knows which is in force, and
        if its endpoint goes, its port must not be open to more than it was."""
        before = self._manifest.get((resource.kind, resource.name))
        if before is None or not isinstance(resource, Rule):
            return resource
        both = set(resource.peers).intersection(map(str, before["peers"]))
        return Rule(resource.endpoint, resource.port, tuple(sorted(both)))

    @cached_property
    def final_manifest(self) -> str:
        """The manifest once what is leaving is gone."""
        gone = {(entry["kind"], entry["name"]) for entry in self.leaving}
        stays = {name: entry for name, entry in self._manifest.items() if name not in gone}
        return _text(
            {name: _entry(*self._owned[name]) if name in self._owned else stays[name] for name in stays}
        )


def _entry(part: Part, resource: Resource) -> dict[str, Any]:
    return {"capability": part.capability, "kind": resource.kind, "name": resource.name, **resource.data}


def _text(entries: Mapping[_Name, dict[str, Any]]) -> str:
    return "".join(f"{json.dumps(entry)}\n" for entry in entries.values())


def _changes(found: list[Part], actual: Actual) -> list[Change]:
    every = [(part, resource) for part in found for resource in part.resources]
    differing = {resource.name: why for _, resource in every if (why := resource.differs(actual))}
    changes = []
    for part, resource in every:
        why = resource.differs(actual)
        causes = [name for name in _causes(resource) if name in differing]
        if why or causes:
            changes.append(Change(part, resource, why or f"{causes[0]} changes", bool(causes)))
    return changes


def _causes(resource: Resource) -> tuple[str, ...]:
    if isinstance(resource, Step):
        return resource.after
    return resource.restarted_by if isinstance(resource, Unit) else ()
