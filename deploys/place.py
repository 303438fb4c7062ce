"""pyinfra's operations: they do what zmqfleet.converge says is next.

Operations are called in one order on all hosts, whatever each of them has to do in it: pyinfra orders them by where
and how often they are called.
"""

import io
import os
import shlex
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from typing import Any

import gevent.lock
import gevent.pool
from paramiko import SSHException
from pyinfra import host, logger, state
from pyinfra.api import FileUploadCommand, StringCommand, operation
from pyinfra.api.arguments import generate_env
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.util import print_host_combined_output
from pyinfra.context import ctx_host
from pyinfra.operations import apt

from zmqfleet import locking
from zmqfleet.capabilities import ALONE, CONFIGURE, INSTALL, ORDER, RETIRE, START
from zmqfleet.converge import (
    ROLL_OUT,
    Actions,
    Answer,
    Ask,
    Attempt,
    Execute,
    Failure,
    HostError,
    HostRun,
    Install,
    Put,
    Say,
    Warn,
    batch,
    outset,
)
from zmqfleet.deploys.hosts import ENDLESS, fleet, give_up_when_cut_off, read_to_an_end, refuse_data
from zmqfleet.fleet import NO_SERVICES
from zmqfleet.resources import Inline
from zmqfleet.text import printable

_ASK_SECONDS = 120
_AT_ONCE = 64

Commands = Iterator[StringCommand | FileUploadCommand]


class _Told(StringCommand):
    """A command of which people see what they see of all that hosts say: printable, and without secrets."""

    def execute(self, state: Any, host: Any, connector_arguments: Any) -> Any:
        done, output = host.run_shell_command(
            self,
            print_output=False,
            print_input=state.print_input,
            **{**connector_arguments, **self.connector_arguments, "_timeout": locking.WORKING},
        )
        for line in output:
            line.line = _told(line.line)
        if state.print_output:
            print_host_combined_output(host, output)
        return done, output


def _told(text: str) -> str:
    return fleet().masked(printable(text))


class _ByName(set[Any]):
    """Hosts, in the order of their names: pyinfra takes them as a set does, and which one has its turn first, so also
    which one a broken release meets, would be chance."""

    def __iter__(self) -> Iterator[Any]:
        return iter(sorted(super().__iter__(), key=lambda one: one.name))


_runs: dict[str, HostRun] = {}
_foretold: dict[str, set[str]] = {}  # by host: what the run said at its start that it was going to see to
_todo: set[str] = set()
_failed: dict[str, Failure] = {}
_reading = gevent.lock.RLock()


def _ask(command: str, **arguments: Any) -> Answer:
    try:
        done, output = host.run_shell_command(
            StringCommand(command),
            print_output=False,
            print_input=False,
            _sudo=bool(host.data.get("_sudo")),
            **arguments,
        )
    except (EOFError, OSError, SSHException) as error:
        raise HostError(f"{host.name}: cannot be reached any more: {error or 'no answer in time'}") from None
    if ENDLESS in (*output.stdout_lines[-1:], *output.stderr_lines[-1:]):
        raise HostError(f"{host.name}: {ENDLESS}")
    return Answer(done, "\n".join(output.stdout_lines), "\n".join(output.stderr_lines))


def _follow(run: HostRun, actions: Actions) -> Commands:
    """Does what is next, until there is nothing; fails on this host only, which others may try then."""
    succeeded = is_counted = False
    run.done.clear()
    try:
        for command in _do(actions, run):
            is_counted = True
            if isinstance(command, FileUploadCommand):
                yield command
            else:  # pyinfra's own operations also yield text
                own = command.connector_arguments if isinstance(command, StringCommand) else {}
                yield _Told(command, **own)
        if run.done and not is_counted:
            # what was asked of the host itself, say a start, is no change to pyinfra
            yield _Told("true")
        succeeded = True
    except HostError as error:
        yield _Told(f"echo {shlex.quote(_told(str(error)))} >&2; exit 1")
    finally:
        if not succeeded:
            with suppress(HostError):  # one that cannot be reached keeps it until it lapses
                _ask(locking.release(run.holder), _timeout=_ASK_SECONDS)


def _do(actions: Actions, run: HostRun) -> Commands:
    """Does what is next by pyinfra's means, and says what follows from what this run has done before. Raises
    HostError."""
    answer: Answer | None = None
    said = 0
    try:
        while True:
            action = actions.send(answer)
            answer = None
            for line in run.done[said:]:
                if _what(line) not in _foretold.get(run.host, ()):
                    logger.info(f"{host.print_prefix}{_told(line)}")
            said = len(run.done)
            if isinstance(action, Ask):
                answer = _ask(action.command, _timeout=_ASK_SECONDS)
            elif isinstance(action, Attempt):
                env = generate_env(state.config, {locking.MARK: _holder().text})
                answer = _ask(shlex.join(action.command), _env=env, _timeout=locking.WORKING)
            elif isinstance(action, Say):
                logger.info(f"{host.print_prefix}{_told(action.message)}")
            elif isinstance(action, Warn):
                logger.warning(f"{host.print_prefix}{_told(action.message)}")
            else:
                yield from _commands(action)
    except StopIteration:
        pass
    finally:
        actions.close()


def _what(change: str) -> str:
    """The thing that a change is about, without the reason, which may be another by then."""
    return change.partition(": ")[0]


def _commands(action: Execute | Install | Put) -> Commands:
    match action:
        case Execute(command, as_root):
            yield StringCommand(shlex.join(command), **({} if as_root else {"_sudo": False}))
        case Install(packages):
            yield from apt.packages._inner(
                packages=list(packages),
                update=True,
                cache_time=86400,
                no_recommends=True,
                extra_install_args="-o DPkg::Lock::Timeout=300",
            )
        case Put():
            content = action.file.content
            source: Any = io.BytesIO(content.data) if isinstance(content, Inline) else str(content.path)
            yield FileUploadCommand(source, action.upload, _sudo=False)
            yield StringCommand(shlex.join(action.command))


def _read_all() -> None:
    """Reads all hosts of the run, once, before the first of them is planned: each may need the keys of the others."""
    with _reading:
        if _runs:
            return
        refuse_data()
        state.active_hosts = _ByName(state.active_hosts)
        active = list(state.inventory.get_active_hosts())
        bad = {one for one in gevent.pool.Pool(_AT_ONCE).imap_unordered(_read, active) if one is not None}
        for one in set(active) - bad:
            plan = _runs[one.name].plan
            for line in plan.refusals:
                logger.error(f"{one.print_prefix}{line}")
                bad.add(one)
        state.fail_hosts(bad)
        found = outset(_runs[one.name] for one in active if one not in bad)
        _todo.update(found.todo)
        for line in found.warnings:
            logger.warning(_told(line))
        if not found.todo:
            logger.info(f"    {found.words}")


def _read(one: Any) -> Any:
    """Reads a host; returns it if that failed."""
    with ctx_host.use(one):
        run = HostRun(fleet(), one.name, _holder(), _failed)
        try:
            give_up_when_cut_off(one)
            read_to_an_end(one)
            for _ in _do(run.read(), run):
                raise AssertionError("reading changes nothing")
            _runs[one.name] = run
        except Exception as error:  # whatever a host does, the others go on
            logger.error(f"{one.print_prefix}{_told(str(error))}")
            return one
    return None


def _holder() -> locking.Holder:
    return locking.Holder.of(os.getpid())


def _foreseen(todo: Iterable[Any]) -> Commands:
    """Nothing is run for a forecast: that there is a command says that there is something to do."""
    for _ in todo:
        yield StringCommand("true")


@operation()
def place(capability: str, phase: str) -> Generator[Any]:
    """What a capability amounts to on the current host in a phase."""
    run = _runs[host.name]
    if state.is_executing:
        yield from _follow(run, run.place(capability, phase))
    else:
        yield from _foreseen(run.foreseen(phase, capability))


@operation()
def look_again() -> Generator[Any]:
    """What hosts have brought about is known to all before the next phase: public keys, digests of artefacts."""
    run = _runs[host.name]
    if state.is_executing:
        yield from _follow(run, run.look_again())


@operation()
def start(rolled: bool, turn: int | None = None) -> Generator[Any]:
    """Services that do not run; or, `rolled`, those that do, in one of the fleet's turns, and what leaves."""
    run = _runs[host.name]
    if state.is_executing:
        yield from _follow(run, run.start(rolled, turn))
    else:
        yield from _foreseen(run.foreseen(ROLL_OUT if rolled else START, turn=turn))


@operation()
def settle() -> Generator[Any]:
    """The host fails if a service could not go on, under a heading that is no other service's."""
    run = _runs[host.name]
    if state.is_executing:
        yield from _follow(run, run.settle())


@operation()
def retire() -> Generator[Any]:
    """What is no longer declared goes, once all that is declared runs."""
    run = _runs[host.name]
    if state.is_executing:
        yield from _follow(run, run.retire())
    else:
        yield from _foreseen(run.foreseen(RETIRE))


@operation()
def finish() -> Generator[Any]:
    """The lock is given back."""
    run = _runs[host.name]
    if state.is_executing:
        yield from _follow(run, run.finish())


def converge(*capabilities: str) -> None:
    """Brings the current host into its desired state: all of it, or that of some capabilities."""
    chosen = capabilities or tuple(ORDER)
    if not fleet().services and not set(chosen) <= set(ALONE):
        raise PyinfraError(NO_SERVICES)
    _read_all()
    if host in state.active_hosts:
        _runs[host.name].is_whole = not capabilities
        _announce(capabilities)
    if not _todo:
        return
    mark = {locking.MARK: _holder().text}
    _place_on_all(chosen, INSTALL, mark)
    look_again(name="Collect public keys")
    _place_on_all(chosen, CONFIGURE, mark)
    if "zmq_service" in chosen:
        start(False, name="zmq_service | Start", _env=mark)
        at_once = batch(_runs.values())
        for turn, services in enumerate(fleet().turns):
            names = ", ".join(service.name for service in services)
            start(True, turn, name=f"zmq_service | Roll out {names}", _parallel=at_once, _env=mark)
        settle(name="zmq_service | Check that services run as declared", _env=mark)
    if not capabilities:
        retire(name="Retire what is no longer declared", _env=mark)
    # fewer than sshd takes at once of those that are not logged in yet (MaxStartups), where all ask one peer
    finish(name="Give the lock back", _parallel=8)


def _announce(capabilities: tuple[str, ...]) -> None:
    """Says what is going to be done on the current host."""
    plan = _runs[host.name].plan
    chosen = [one for one in plan.changes() if one.part.capability in capabilities and not one.is_consequence]
    lines = dict.fromkeys(map(str, chosen) if capabilities else plan.forecast)
    _foretold.setdefault(host.name, set()).update(map(_what, lines))
    for line in lines:
        logger.info(f"{host.print_prefix}{line}")
    for line in plan.undecided:
        logger.warning(f"{host.print_prefix}{_told(line)}")


def _place_on_all(capabilities: Iterable[str], phase: str, mark: dict[str, str]) -> None:
    used = {part.capability for run in _runs.values() for part in run.plan.parts if part.phase == phase}
    for capability in capabilities:
        if capability in used:
            place(capability, phase, name=f"{capability} | {phase.capitalize()}", _env=mark)
