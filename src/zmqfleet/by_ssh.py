"""Does what zmqfleet.converge says is next by ssh alone: what needs no engine, since nothing has to be copied."""

import shlex
from collections.abc import Callable
from contextlib import suppress

from zmqfleet import locking, remote
from zmqfleet.converge import Actions, Answer, Ask, Attempt, Execute, HostError, HostRun, Say, Warn

_ASK_SECONDS = 120


def follow(run: HostRun, actions: Actions, say: Callable[[str], None]) -> None:
    """Does all that is next. Raises HostError if a command fails, RemoteError if the host cannot be reached."""
    answer: Answer | None = None
    while True:
        try:
            action = actions.send(answer)
        except StopIteration:
            return
        answer = None
        match action:
            case Ask(command):
                answer = ask(run, command)
            case Attempt(command):
                answer = _marked(run, command)
            case Execute(command):
                done = _marked(run, command)
                if not done.succeeded:
                    raise HostError(f"{shlex.join(command)}: {done.stderr.strip()}")
            case Say(message) | Warn(message):
                about = f"{run.host}: {message}" if isinstance(action, Say) else message
                # whether anybody reads it decides nothing on the host, which may be half-way
                with suppress(OSError):
                    say(run.fleet.masked(about))
            case _:
                raise AssertionError(f"{action}: nothing is copied here")


def ask(run: HostRun, command: str, seconds: float = _ASK_SECONDS) -> Answer:
    """What comes of a shell command that root runs. Raises RemoteError."""
    found = remote.run(run.fleet.hosts[run.host], "sh", "-c", shlex.quote(command), seconds=seconds)
    if found.status == 255:
        raise remote.RemoteError(found.stderr.strip() or "ssh failed")
    return Answer(found.status == 0, found.stdout, found.stderr)


def _marked(run: HostRun, command: tuple[str, ...]) -> Answer:
    return ask(run, shlex.join(("env", f"{locking.MARK}={run.holder.text}", *command)), locking.WORKING)
