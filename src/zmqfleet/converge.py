"""The course of a run on one host, said once for both engines.

A run is a series of generators, one for each phase, which yield what is to be done next; an engine does that by its own
means and sends back what is asked for. So engines know nothing of order, locks and manifests, and this module nothing
of engines. Whatever ends a generator early, a command that failed or a killed run, the next run finds out from the
host.
"""

from collections.abc import Container, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import file_digest, sha256
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any

from zmqfleet import locking, releases
from zmqfleet.capabilities import CONFIGURE, INSTALL, RETIRE, START
from zmqfleet.capabilities.zmq_service import UNIT_START
from zmqfleet.desired import MANIFEST, UNTRIED, Change, Plan, Removal, learn, reading
from zmqfleet.fleet.model import ETC, Fleet, FleetError, Service
from zmqfleet.probe.through import kept_out
from zmqfleet.resources import (
    Artefact,
    Directory,
    File,
    Inline,
    Key,
    Link,
    Made,
    Package,
    Peers,
    Pending,
    ReadError,
    Resource,
    Step,
    Unit,
    parse,
)
from zmqfleet.text import counted, printable

# steps of an engine beside the phases of parts: services that run are replaced, a host where one could not go on fails,
# the lock is given back
ROLL_OUT, SETTLE, FINISH = "roll_out", "settle", "finish"
_FOR_BUILDS = ("golang", "zmq_build")  # capabilities that no service runs with

# Contents of files pass through this directory in the ssh user's home, which nobody else can enter: /tmp is predictable
# and readable by all (pyinfra #1085).
UPLOADS = ".zmqfleet-uploads"
_MAKE_UPLOADS = (
    'if mkdir -p -m 700 "$0" && [ ! -L "$0" ] && [ -O "$0" ]; then exec chmod 700 "$0"; fi; '
    'echo "~/$0: is no directory of this user alone; remove it" >&2; exit 1'
)
MAKE_UPLOADS = ("sh", "-c", _MAKE_UPLOADS, UPLOADS)
# whatever happened to an upload, what is placed is what was sent
_PUT = (
    """set -e; trap 'rm -f "$4" "$5"' EXIT; install -m "$1" -o "$2" -g "$3" -T "$4" "$5"; """
    'if [ "$(sha256sum <"$5" | cut -c -64)" = "$7" ]; then mv -fT "$5" "$6"; '
    'else echo "$6: its upload is not what was sent" >&2; exit 1; fi'
)

_TOLD = 5  # connections that do not come about, in one message

# what a killed run left where it was replacing a file, and where uploads pass
_SWEEP = (
    "find /etc/zmqfleet /opt/zmqfleet /usr/local/lib/zmqfleet /etc/systemd/system -maxdepth 4 "
    r"\( -name '.*.new' -o -path '*/zmqfleet/*.new' \) -exec rm -rf {} + 2>/dev/null; "
    # whose directory it is may put anything into it meanwhile: only its own files go, by find itself
    f"find {UPLOADS} /root/{UPLOADS} /home/*/{UPLOADS} -maxdepth 1 -type f -delete 2>/dev/null; true"
)


# what a host that died while packages were installed wants first; others' installations are waited for
_FINISH_PACKAGES = (
    'for _ in 1 2 3 4 5 6; do set -- /var/lib/dpkg/updates/[0-9]*; [ -e "$1" ] || exit 0; '
    "DEBIAN_FRONTEND=noninteractive dpkg --force-confdef --force-confold --configure -a && exit 0; "
    "sleep 10; done; exit 1"
)


class HostError(Exception):
    """This host cannot go on; the message says why. Others do."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class _ServiceError(HostError):
    """A service cannot go on; the message says why. Others of its host do."""


@dataclass(frozen=True)
class Failure:
    """A service that did not start, or stayed as it is, and where, in words; `moved` if its endpoints.json was to
    change, so that those who connect to it would have been told something that is not so."""

    words: str
    moved: bool


@dataclass(frozen=True)
class Ask:
    """Run a shell command as root, and send back whether it succeeded and what it printed: an Answer."""

    command: str


@dataclass(frozen=True)
class Answer:
    """What came of an Ask."""

    succeeded: bool
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Execute:
    """Run a command, an argument list, as root or as the ssh user; its failure is the host's."""

    command: tuple[str, ...]
    as_root: bool = True


@dataclass(frozen=True)
class Attempt:
    """Run a command as root, an argument list, and send back what came of it: an Answer."""

    command: tuple[str, ...]


@dataclass(frozen=True)
class Install:
    """Install packages, reading the package lists again if they are older than a day."""

    packages: tuple[str, ...]


@dataclass(frozen=True)
class Put:
    """Place a file, atomically; its content is Inline, or an Artefact that is there. Copy the content to `upload`
    as the ssh user; then run `command` as root, an argument list; its failure is the host's."""

    file: File

    @property
    def upload(self) -> str:
        """A path in the ssh user's home."""
        return f"{UPLOADS}/{sha256(self.file.path.encode()).hexdigest()[:16]}"

    @property
    def command(self) -> tuple[str, ...]:
        """What makes the file of it."""
        path = PurePosixPath(self.file.path)
        # a hidden name: services read whole directories (an allow-list), and skip these
        new = str(path.with_name(f".{path.name}.new"))
        how = (self.file.mode, self.file.owner, self.file.group)
        return ("sh", "-c", _PUT, "sh", *how, self.upload, new, str(path), self._sha256)

    @property
    def _sha256(self) -> str:
        content = self.file.content
        if isinstance(content, Artefact) and content.sha256 is None:
            with content.path.open("rb") as file:
                return file_digest(file, "sha256").hexdigest()
        assert content.sha256
        return content.sha256


@dataclass(frozen=True)
class Say:
    """Tell people what is next, as that may take minutes."""

    message: str


@dataclass(frozen=True)
class Warn:
    """Tell people what they should see to."""

    message: str


Action = Ask | Attempt | Execute | Install | Put | Say | Warn
Actions = Generator[Action, Answer | None, None]


@dataclass
class HostRun:
    """What a run knows of one host, which may be one that leaves the fleet; `done` are the changes it has begun to make
    there, in words. In `failed`, which all hosts of a run share, are the services that did not start, or stayed as they
    are because of others. `is_whole` says that all capabilities have their turn in this run."""

    fleet: Fleet
    host: str
    holder: locking.Holder
    failed: dict[str, Failure] = field(default_factory=dict)
    leaves: bool = False
    is_whole: bool = False
    done: list[str] = field(default_factory=list)
    plan: Plan = field(init=False)
    _is_locked: bool = False  # the lock was taken
    _has_begun: bool = False  # nobody has had it since; the manifest holds what will be placed
    _touched: bool = False  # something was placed since the host was read
    _errors: dict[str, str] = field(default_factory=dict)  # of services that cannot go on here
    _placed: set[tuple[str, str]] = field(default_factory=set)  # since then, in any capability
    _ended: set[str] = field(default_factory=set)  # units that are no longer declared
    _phase: str = ""  # of all that was placed since then; empty if it was not one alone

    def memory(self) -> Any:
        """What `recall` needs in another process."""
        begun = self._is_locked, self._has_begun
        return self.plan.actual, begun, self._touched, self._errors, self._placed, self._ended, self._phase

    def recall(self, memory: Any) -> None:
        """Goes on where another process of this run was."""
        actual, begun, self._touched, self._errors, self._placed, self._ended, self._phase = memory
        self._is_locked, self._has_begun = begun
        self.plan = Plan(self.fleet, self.host, actual)

    def phase(self, name: str, capability: str = "", turn: int | None = None) -> Actions:
        """What is next in a phase, of those that engines have steps for; in one of the fleet's turns, or in all."""
        found: Actions = {
            "read": self.look_again,
            INSTALL: lambda: self.place(capability, INSTALL),
            CONFIGURE: lambda: self.place(capability, CONFIGURE),
            START: lambda: self.start(rolled=False),
            ROLL_OUT: lambda: self.start(rolled=True, turn=turn),
            SETTLE: self.settle,
            RETIRE: self.retire,
            FINISH: self.finish,
        }[name]()
        return found

    def foreseen(self, name: str, capability: str = "", turn: int | None = None) -> list[Change | Removal]:
        """What a phase would do, as far as can be known before the phases before it."""
        if name in (INSTALL, CONFIGURE):
            return [one for one in self.plan.changes(capability, name) if not one.is_consequence]
        if name in (START, ROLL_OUT):
            rolled = name == ROLL_OUT
            waiting = self._of_turn(self.to_start(rolled), turn)
            changes = [one for every in waiting.values() for one in every if not one.is_consequence]
            return [*changes, *(self.plan.removals(START) if rolled and self._is_last(turn) else [])]
        return self.plan.retirement if name == RETIRE else []

    def read(self) -> Actions:
        """The host as it is, also for the others, which may need its keys."""
        answer = yield Ask(reading(self.fleet, self.host))
        assert answer
        if not answer.succeeded:
            said = self.fleet.masked(answer.stderr.strip())[-300:]
            raise HostError(f"{self.host}: cannot be read: {said or 'no answer'}")
        try:
            actual = parse(answer.stdout.split("\n"))
            # a host that leaves has nothing more to tell, and must be able to whatever it shows
            made = {name for kind, name in self._placed if kind == Key.kind}
            news = [] if self.leaves else learn(self.fleet, self.host, actual, made)
        except ReadError as error:
            raise HostError(f"{self.host}: {error}") from None
        except FleetError as error:
            raise HostError(str(error)) from None
        for line in news:
            yield Warn(line)
        self.plan = Plan(self.fleet, self.host, actual, self.leaves)
        self._touched = False
        self._placed = set()

    def refuse(self) -> None:
        """Raises HostError if the host has what this tool must not touch."""
        if self.plan.refusals:
            raise HostError("\n".join(f"{self.host}: {line}" for line in self.plan.refusals))

    def look_again(self) -> Actions:
        """What was read holds no longer if something was placed since, or if other hosts have shown something new."""
        self._phase = ""
        if self._touched:
            yield from self.read()
        else:
            self.plan = Plan(self.fleet, self.host, self.plan.actual, self.leaves)

    def place(self, capability: str, phase: str) -> Actions:
        """What a capability amounts to in a phase. What others have placed in the same one is no reason to read again:
        what several have is placed once."""
        if phase != self._phase:
            yield from self.look_again()
            self._phase = phase
        if self.plan.changes(capability, phase) or (not self._has_begun and self._packages_first()):
            yield from self._begin()
            parts = groupby(self.plan.changes(capability, phase), key=lambda one: one.part)
            for number, (part, changes) in enumerate(parts):
                if number:  # each may take as long as the lock holds
                    yield from self._lock()
                    if not self._has_begun:
                        raise HostError(f"{self.host}: somebody else was at work there meanwhile; run again")
                try:
                    yield from self._place(changes)
                except _ServiceError as error:
                    self._errors.setdefault(part.service, str(error))
                    # others have to know before the first of them starts
                    waiting = self._waiting(rolled=True, turn=None)
                    if part.service in waiting:
                        self._stays(part.service, waiting[part.service])
                    why = f"{capability} failed for {part.service}: see why at the end"
                    yield Warn(f"{self.host}: {why}; other services go on")
            if not self.is_whole:
                self._fail()
            # where a capability is used by itself nothing comes after it
            yield from self._pause() if self.fleet.services else self.finish()

    def _packages_first(self) -> list[Change]:
        """What a whole run installs before all else: at once, as each call of a package manager takes its time, and on
        all hosts at the same time, whichever capability wants it there."""
        every = self._left(self.plan.changes()) if self.is_whole else []
        return [one for one in every if isinstance(one.resource, Package)]

    def _left(self, changes: Iterable[Change]) -> list[Change]:
        """Those of which the resource was not placed since the host was read."""
        return [one for one in changes if (one.resource.kind, one.resource.name) not in self._placed]

    def to_start(self, rolled: bool) -> dict[str, list[Change]]:
        """The changes of each service whose turn it is, in the order of their start: those that do not run, or,
        `rolled`, those that do, of which hosts take turns."""
        found: dict[str, list[Change]] = {}
        for change in self.plan.changes(phase=START):
            if self._is_rolled(change.part.service) == rolled:
                found.setdefault(change.part.service, []).append(change)
        return found

    def _waiting(self, rolled: bool, turn: int | None) -> dict[str, list[Change]]:
        """The roll-out takes all that are left: one that keeps restarting runs at one moment, and not at the next."""
        if not rolled:
            return self.to_start(rolled)
        return self._of_turn({**self.to_start(rolled=False), **self.to_start(rolled=True)}, turn)

    def _of_turn(self, waiting: dict[str, list[Change]], turn: int | None) -> dict[str, list[Change]]:
        """Those whose turn it is. Those that hand ports to each other go together, with the last one of them."""
        if turn is None or not self.fleet.turns:
            return waiting
        turns = {one.name: number for number, every in enumerate(self.fleet.turns) for one in every}
        return {
            service: changes
            for service, changes in waiting.items()
            if max(turns[one] for one in self._together(service)) == turn
        }

    def _together(self, service: str) -> set[str]:
        """A service, and those of the host that have its ports or get them, or that replace the same one."""
        groups = [{one, *others} for one, others in self.plan.handed_over.items()]
        groups += [self._successors(unit) for units in self.plan.succeeded.values() for unit in units]
        found = {service}
        for _ in groups:
            for group in groups:
                if not found.isdisjoint(group):
                    found |= group
        return found

    def _successors(self, unit: str) -> set[str]:
        """The services that get ports of a unit that is no longer declared."""
        return {service for service, units in self.plan.succeeded.items() if unit in units}

    def _held_back(self, service: str) -> str:
        """Why a service stays as it is: it, or one that has or gets its port, did not start elsewhere, or one that it
        connects to is not where it was to be; empty if none of that."""
        together = self._together(service)
        servers = {
            other.name for one in together for other, _ in self.fleet.connects(self.fleet.services[one])
        }
        for name in (service, *sorted(together | servers)):
            failure = self.failed.get(name)
            if failure and (failure.moved or name in together):
                return f"{'it' if name == service else name} {failure.words}"
        return ""

    def _is_rolled(self, service: str) -> bool:
        unit = self.plan.actual.units.get(f"{service}.service", {})
        moves = self.plan.removals(START) or self.plan.handed_over
        return bool(moves) or unit.get("ActiveState") == "active"

    def _is_last(self, turn: int | None) -> bool:
        return turn is None or turn >= len(self.fleet.turns) - 1

    def start(self, rolled: bool, turn: int | None = None) -> Actions:
        """Services, each proven to run; what does not goes back to what ran before, and no other host is touched, nor
        those that connect to it where it was to be. The host's other services go on; `settle` says what did not.
        What is no longer declared ends with the last turn, or before that for one that gets its port. Turns are the
        fleet's; without one, all have theirs at once."""
        yield from self.look_again()
        ends = rolled and self._is_last(turn)
        if self._waiting(rolled, turn) or (ends and self.plan.removals(START)):
            yield from self._start(rolled, turn, ends)

    def settle(self) -> Actions:
        """The host fails if a service could not go on; all that could has, by then."""
        self._fail()
        yield from ()

    def _fail(self) -> None:
        """Raises HostError if a service could not go on."""
        if self._errors:
            raise HostError("\n".join(f"{self.host}: {error}" for error in self._errors.values()))

    def _start(self, rolled: bool, turn: int | None, ends: bool) -> Actions:
        yield from self._begin()
        waiting = self._waiting(rolled, turn)
        leaving = {one.name: one for one in self.plan.removals(START) if one.name not in self._ended}
        if rolled and not turn and leaving and self._errors:
            # what does not come must not cost what it may replace
            for service, changes in self._waiting(rolled, None).items():
                self._stays(service, changes)
            self._fail()
        started: set[str] = set()
        for service, changes in waiting.items():
            if service in self._errors:
                self._stays(service, changes)
                continue
            if rolled and (why := self._held_back(service)):
                yield Warn(f"{service} stays as it is on {self.host}: {why}")
                self._stays(service, changes)
                continue
            before = [one for one in leaving.values() if one.name in self.plan.succeeded.get(service, ())]
            runs = False
            try:
                started.add(service)
                self._check(changes)
                others = (
                    one for one in self.plan.handed_over.get(service, ()) if one in waiting.keys() - started
                )
                units = [*(f"{one}.service" for one in others), *(removal.name for removal in before)]
                yield from self._replace(service, changes, units)
                for removal in before:
                    if self._successors(removal.name) <= started:
                        del leaving[removal.name]
                        yield from self._end(removal)
                runs = True
            except _ServiceError as error:
                self._errors[service] = str(error)
                yield Warn(
                    f"{service} did not start as declared on {self.host}: see why at the end; others go on"
                )
                for removal in before:
                    yield from self._bring_back(removal, service, started)
            finally:
                if not runs:
                    self.failed[service] = Failure(f"did not start on {self.host}", _moves(service, changes))
        for removal in leaving.values() if ends else ():
            if why := self._needed(removal):
                yield Warn(f"{removal.name} stays on {self.host}, though no longer declared: {why}")
            else:
                yield from self._end(removal)
        yield from self._pause()

    def _replace(self, service: str, changes: list[Change], units: Sequence[str]) -> Actions:
        """Places what a service is to have; units that have its ports are stopped for it once all is there that it
        starts with, and started again if it goes back."""
        starts = [isinstance(change.resource, Unit) for change in changes]
        at = starts.index(True) if any(starts) else len(changes)
        yield from self._place(changes[:at])
        if units and changes[at:]:
            yield Execute((UNIT_START, "--yield", f"{service}.service", *units))
        yield from self._place(changes[at:])

    def _bring_back(self, removal: Removal, service: str, started: Container[str]) -> Actions:
        """A unit is started again where another service, which was started already, replaces it together with this one,
        which did not start: that one is stopped."""
        others = [one for one in sorted(self._successors(removal.name) - {service}) if one in started]
        for one in others:
            self._errors[one] = f"{one} is stopped again, for what it replaces together with {service}"
            words = f"was stopped on {self.host} for {service}, which did not start"
            self.failed[one] = Failure(words, moved=True)
            for command in Unit.remove({"name": f"{one}.service"}):
                yield Attempt(command)
        if others:
            yield Attempt(("systemctl", "start", removal.name))

    def _end(self, removal: Removal) -> Actions:
        self._ended.add(removal.name)
        yield from self._remove(removal)

    def _remove(self, removal: Removal) -> Actions:
        self._note(str(removal))
        for command in removal.commands:
            yield Execute(command)

    def _needed(self, removal: Removal) -> str:
        """Why a unit that is no longer declared stays: it has moved to where it does not run, or what is declared here
        does not, and may be what it is to be replaced by; empty if it need not stay."""
        here = [service.name for service in self.fleet.services_of(self.host)]
        for name in (removal.name.removesuffix(".service"), *here):
            if name in self._errors:
                return f"{name} did not start here"
            unit = self.plan.actual.units.get(f"{name}.service", {})
            if name in self.failed and unit.get("ActiveState") != "active":
                return f"{name} {self.failed[name].words}"
        return ""

    def _stays(self, service: str, changes: list[Change]) -> None:
        words = f"stays as it is on {self.host}"
        self.failed.setdefault(service, Failure(words, _moves(service, changes)))

    def releases(self, service: Service) -> dict[str, float]:
        """The releases of a service that the host has, those that ran last first, and when each was last replaced
        (seconds since 1970); 0 if it was not, because it runs or never did."""
        found = self.plan.actual.generations.get(f"{service.opt}/releases", {})
        running = self.running(service)
        return {running: found[running], **found} if running else found

    def current(self, service: Service) -> str:
        """The release that a service's next start runs; empty if there is none."""
        return self.plan.actual.links.get(f"{service.opt}/current", "").removeprefix("releases/")

    def running(self, service: Service) -> str:
        """The release whose program the service's process runs; empty if it does not run, or runs something else."""
        program = self.plan.actual.units.get(f"{service.name}.service", {}).get("exe", "")
        found = self.plan.actual.generations.get(f"{service.opt}/releases", {})
        return next((one for one in found if program == service.program(one)), "")

    def start_anew(self, service: Service, release: str = "") -> Actions:
        """A service is started anew, and proven; with a release, that one, unless it runs already. If it does not run,
        it goes back to what ran before."""
        yield from self._lock()
        yield from self._wait_for_others()
        yield from self.read()
        self.refuse()
        if release and release not in self.releases(service):
            raise HostError(f"{service.name} has no release {release} here any more")
        (part,) = (one for one in self.plan.parts if one.service == service.name and one.phase == START)
        (unit,) = (one for one in part.resources if isinstance(one, Unit))
        ours = (unit.path, f"{service.etc}/endpoints.json")
        if any(one.resource.name in ours for one in self.plan.changes(phase=START)):
            raise HostError(
                f"{self.host}: the unit or the endpoints of {service.name} are not those that are declared, so that "
                "nobody could tell whether it runs: converge it first"
            )
        for change in self.plan.changes():
            others = change.part.service not in ("", service.name) or change.part.capability in _FOR_BUILDS
            is_release = isinstance(change.resource, Link) or getattr(change.resource, "released", False)
            if change.why.startswith("missing") and not others and not is_release:
                why = f"{service.name} may not start without it: converge it first"
                raise HostError(f"{self.host}: {change}: {why}")
        yield _starts(unit)
        for one in part.resources:
            if isinstance(one, Step):
                yield from self._execute(one)
            if isinstance(one, Link) and release:
                self.done.append(f"link {one.name}: releases/{release}")
                yield from self._execute(Link(one.name, f"releases/{release}"))
            if isinstance(one, Unit):
                self.done.append(f"unit {one.name}: started anew")
                answer = yield Attempt(one.start)
                assert answer
                if not answer.succeeded:
                    raise HostError(answer.stderr.strip() or f"{one.name} does not start")

    def retire(self) -> Actions:
        """What is no longer declared goes, once all that is declared runs; until then what is closed stays closed."""
        self._fail()
        yield from self.look_again()
        left = [one for one in self.plan.changes(phase=START) if one.part.service not in self.failed]
        if self.is_whole and left:
            raise HostError(f"{self.host}: {left[0]}: that is left to be done; run again")
        unfinished = self.plan.leaving or self.plan.is_lost or self.plan.is_provisional
        if not unfinished and not self.plan.changes(phase=RETIRE):
            return
        if self.plan.changes(phase=START) or any(map(self._needed, self.plan.removals(START))):
            yield Warn(f"what is no longer declared stays on {self.host}: not all that is declared runs")
            return
        if self.plan.still_listening:
            raise HostError(f"{self.host}: {self.plan.still_listening}")
        yield from self._begin()
        for removal in self.plan.removals(RETIRE):
            yield from self._remove(removal)
        if self.leaves:
            return
        if self.plan.leaving or self.plan.is_provisional:
            if not self.plan.leaving:
                self._note(f"file {MANIFEST}: content")
            yield Put(File(MANIFEST, Inline.text(self.plan.final_manifest)))
            yield from self.read()
        # with the firewall's table, which kept rules for processes that are gone now
        yield from self._place(self.plan.changes())
        yield from self._pause()

    def finish(self) -> Actions:
        """The lock is given back; where peers may not get through another's firewall, the probe decides."""
        if self._is_locked:
            yield Ask(locking.release(self.holder))
            self._is_locked = self._has_begun = False
        self._fail()
        if self.plan.barred:
            yield from self.look_again()
            all_runs = not self.plan.changes(phase=START)
            lines = kept_out(self.fleet, _ways([self]))[self.host] if all_runs else None
            if lines:
                raise HostError(_barred(self, lines))
            if lines is None:
                yield Warn(_barred(self, None))

    def _begin(self) -> Actions:
        """The lock, then a look that nobody else's run can make untrue, then the manifest."""
        yield from self._lock()
        if self._has_begun:
            return
        yield from self._wait_for_others()
        yield from self.read()
        if self.plan.is_lost:
            self._note(f"file {MANIFEST}: missing")
        self.refuse()
        if not self.leaves:
            yield Execute(MAKE_UPLOADS, as_root=False)
        if self.plan.manifest is not None:
            yield from self._execute(Directory(MANIFEST.rpartition("/")[0]))
            yield Put(File(MANIFEST, Inline.text(self.plan.manifest)))
        yield Execute(("sh", "-c", _SWEEP))
        self._has_begun = True
        yield from self._place(self._packages_first())

    def _lock(self) -> Actions:
        answer = yield Ask(locking.acquire(self.holder, locking.WORKING))
        assert answer
        if not answer.succeeded and (held := locking.held_by(answer.stdout)):
            if not held[0].is_gone:
                raise HostError(locking.refusal(self.host, *held))
            answer = yield Ask(locking.acquire(self.holder, locking.WORKING, held[0].text))
            assert answer
        if not answer.succeeded:
            raise HostError(
                f"{self.host}: cannot take the lock {locking.PATH}: {answer.stderr or answer.stdout}"
            )
        self._is_locked = True
        self._note_others(answer)

    def _note_others(self, answer: Answer) -> None:
        """If others may have had the lock, what was read holds no longer."""
        if locking.RENEWED not in answer.stdout.splitlines():
            self._has_begun = False

    def _wait_for_others(self) -> Actions:
        """What a killed run has started may still be at work, and would undo what this one does."""
        answer = yield Ask(locking.wait_for_others(self.holder))
        assert answer
        if not answer.succeeded:
            raise HostError(
                f"{self.host}: commands of a run that was killed are still at work there (processes "
                f"{answer.stdout.strip()}): wait for them, or end them"
            )

    def _pause(self) -> Actions:
        """Other hosts may be long at work before this one is needed again."""
        answer = yield Ask(locking.acquire(self.holder, locking.PAUSE))
        assert answer
        self._note_others(answer)

    def _note(self, what: str) -> None:
        self._touched = True
        self.done.append(what)

    def _place(self, changes: Iterable[Change]) -> Actions:
        todo = self._left(changes)
        self._check(todo)
        if packages := [change.resource for change in todo if isinstance(change.resource, Package)]:
            names = tuple(self._package(one) for one in packages)
            yield Say(f"installs {', '.join(names)}")
            yield Execute(("sh", "-c", _FINISH_PACKAGES))
            yield Install(names)
        for change in todo:
            resource = change.resource
            self._placed.add((resource.kind, resource.name))
            if isinstance(resource, File) and isinstance(resource.content, Pending):
                yield Warn(f"{self.host}: {resource.path}: {resource.content.why}")
                continue
            if not change.is_consequence:
                self.done.append(str(change))
            self._touched = True
            yield from self._place_one(change)

    def _package(self, one: Package) -> str:
        name = one.on(self.plan.actual.release)
        if name is None:
            raise HostError(
                f"{self.host}: {one.name}: no package is known for release {self.plan.actual.release!r}; add one to "
                "the variable that names it"
            )
        return name

    def _place_one(self, change: Change) -> Actions:
        resource = change.resource
        if isinstance(resource, Step) and resource.command and not change.is_consequence:
            yield Say(resource.name)
        if isinstance(resource, Step | Unit | Peers) and change.part.service:
            for command in resource.commands(self.plan.actual, change.triggered):
                if isinstance(resource, Unit) and command == resource.start:
                    yield _starts(resource)
                answer = yield Attempt(command)
                assert answer
                if not answer.succeeded:
                    what = f"{resource.name}: " if isinstance(resource, Step) else ""
                    said = answer.stderr.strip() or ("failed" if what else f"{resource.name} does not start")
                    raise _ServiceError(what + said)
        else:
            yield from self._execute(resource, change.triggered)
        if isinstance(resource, File) and not isinstance(resource.content, Made):
            yield Put(resource)

    def _execute(self, resource: Resource, triggered: bool = False) -> Actions:
        for command in resource.commands(self.plan.actual, triggered):
            yield Execute(command)

    def _check(self, changes: Iterable[Change]) -> None:
        """Sees that all files can be placed, before anything is placed beside them."""
        for file in (change.resource for change in changes if isinstance(change.resource, File)):
            if isinstance(file.content, Pending) and file.content.blocks:
                raise _ServiceError(f"{file.path}: {file.content.why}")
            if isinstance(file.content, Artefact):
                try:
                    releases.ensure_at(self.fleet, file.content.path)
                except FleetError as error:
                    raise _ServiceError(str(error)) from None


def _starts(unit: Unit) -> Say:
    return Say(f"starts {unit.name}, and waits until it runs")


def _moves(service: str, changes: list[Change]) -> bool:
    return any(change.resource.name == f"{ETC}/{service}/endpoints.json" for change in changes)


@dataclass(frozen=True)
class Outset:
    """What is known once all hosts are read: those that have their turn in the run, what people should know of these,
    and what the run says if there are none."""

    todo: list[str]
    warnings: list[str]
    words: str


def outset(runs: Iterable[HostRun]) -> Outset:
    """How a run begins. All hosts have their turn if a key is to be made that others may need. Where peers may not get
    through another's firewall, that is tried at the end of the run, or now if there is nothing else to do."""
    every = list(runs)
    barred = {run.host: run for run in every if run.plan.barred}
    makes_key = any(isinstance(change.resource, Key) for run in every for change in run.plan.changes())
    if todo := [run.host for run in every if makes_key or run.plan.forecast]:
        todo = [run.host for run in every if run.host in {*todo, *barred}]
        return Outset(todo, [_barred(run, None) for run in barred.values()], "")
    tried = kept_out(every[0].fleet, _ways(barred.values())) if barred else {}
    warnings = [_barred(barred[host], lines) for host, lines in tried.items() if lines != []]
    words = f"Nothing to do: {counted(len(every), 'host')} {'is' if len(every) == 1 else 'are'} as declared"
    return Outset([host for host, lines in tried.items() if lines], warnings, words)


def _ways(runs: Iterable[HostRun]) -> dict[str, set[str]]:
    """By host, the ways on which others' firewalls may let nothing through."""
    return {run.host: {one.way for one in run.plan.barred} for run in runs}


def _barred(run: HostRun, kept_out: list[str] | None) -> str:
    """Whose firewalls peers may not get through on a host, or what they keep out; None if that is not known."""
    who = f"{run.host}: {'; '.join(one.words for one in run.plan.barred)}"
    if kept_out is None:
        return f"{who}: {UNTRIED}"
    more = f"; and {len(kept_out) - _TOLD} more" if len(kept_out) > _TOLD else ""
    return f"{who}: does not get through: {'; '.join(kept_out[:_TOLD])}{more}"


def batch(runs: Iterable[HostRun]) -> int:
    """How many hosts may be without a service at a time: the least that one of those concerned allows."""
    services = {change.part.service: run.fleet for run in runs for change in run.plan.changes(phase=START)}
    return min((fleet.services[name].batch for name, fleet in services.items()), default=1)
