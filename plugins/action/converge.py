"""Ansible's half: does what zmqfleet.converge says is next, by Ansible's means. See plugins/modules/converge.py."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import pickle
import resource
import shlex
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ansible import constants as C
from ansible import context
from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.vars import load_extra_vars

_ROOT = Path(__file__).resolve().parents[2]
# The package of this very tree, so that its templates and defaults are those of the roles beside it.
if "zmqfleet" not in sys.modules and (_ROOT / "src").is_dir():
    sys.path.insert(0, str(_ROOT / "src"))

from zmqfleet import locking  # noqa: E402
from zmqfleet.capabilities import ALONE, CONFIGURE, INSTALL, ORDER, START  # noqa: E402
from zmqfleet.converge import (  # noqa: E402
    ROLL_OUT,
    Action,
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
from zmqfleet.fleet import NO_SERVICES, Fleet, FleetError, load  # noqa: E402
from zmqfleet.fleet.model import without_others  # noqa: E402
from zmqfleet.fleet.schema import options  # noqa: E402
from zmqfleet.inventory import InventoryError  # noqa: E402
from zmqfleet.inventory import load as load_hosts  # noqa: E402
from zmqfleet.releases import release  # noqa: E402
from zmqfleet.resources import File, Inline  # noqa: E402
from zmqfleet.text import printable  # noqa: E402

_ASK_SECONDS = 120
_MARK = "zmqfleet-file"
_MEMORY = 512 * 1024 * 1024  # bytes
# Ansible's own module for packages is a program in it
_BRING_PYTHON = (
    "command -v python3 >/dev/null || { export DEBIAN_FRONTEND=noninteractive; set -- -o DPkg::Lock::Timeout=300; "
    'apt-get "$@" update && apt-get "$@" install --yes --no-install-recommends python3 python3-apt; }'
)
_APT = {"install_recommends": False, "update_cache": True, "cache_valid_time": 86400, "lock_timeout": 300}


class ActionModule(ActionBase):
    """One phase on one host. What a run knows lies in Ansible's own temporary directory, since each task is a process
    of its own; that directory is the run's and its user's alone, and goes with it."""

    _VALID_ARGS = frozenset({"phase", "capability", "turn"})
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """What was changed; fails if the variables are wrong, or the host cannot go on."""
        result = super().run(tmp, task_vars)
        variables = task_vars or {}
        self._diffs: list[dict[str, Any]] = []
        self._masked: Callable[[str], str] = str
        _limit_memory()
        try:
            return {**result, **self._run(variables)}
        except MemoryError:
            raise AnsibleActionFail(
                f"{variables['inventory_hostname']}: printed more than {_MEMORY // 1024**2} MiB: not read on"
            ) from None
        except (FleetError, HostError) as error:
            raise AnsibleActionFail(
                self._masked(str(error)), result={"diff": self._diffs} if self._diffs else None
            ) from None

    def _run(self, variables: dict[str, Any]) -> dict[str, Any]:
        phase, capability = self._task.args["phase"], self._task.args.get("capability", "")
        turn = None if self._task.args.get("turn", "") == "" else int(self._task.args["turn"])
        fleet, host, play = (
            _fleet(self._loader, variables),
            variables["inventory_hostname"],
            self._task.get_play()._uuid,
        )
        self._masked = fleet.masked
        if not fleet.services and capability not in ALONE:
            raise FleetError(NO_SERVICES)
        if phase == "check":
            return {"changed": False}
        if phase == "compare":
            return self._compare(fleet, play, variables["ansible_play_batch"])
        self._refuse_other_values(fleet, host, variables)
        with _kept(fleet, host, play) as run:
            if not hasattr(run, "plan"):
                self._follow(run.read(), variables)
                run.refuse()
            run.done.clear()
            run.is_whole = _is_whole(variables["ansible_play_role_names"])
            turns = _turns(phase, capability, variables["ansible_play_role_names"])
            if self._task.check_mode:
                return self._changed(
                    [line for one in turns for line in self._forecast(run, one, phase, turn)]
                )
            self._task.environment = [*(self._task.environment or []), {locking.MARK: run.holder.text}]
            try:
                for one in turns:
                    self._follow(run.phase(phase, one, turn), variables)
            except AnsibleConnectionFailure:
                raise  # it keeps the lock until that lapses
            except Exception:
                # others may try then
                with contextlib.suppress(AnsibleError, HostError):
                    self._do(Ask(locking.release(run.holder)), variables)
                raise
            return self._changed(run.done)

    def _compare(self, fleet: Fleet, play: str, hosts: list[str]) -> dict[str, Any]:
        # not kept again: where hosts do not wait for each other, these may be at work
        runs = [run for host in hosts if hasattr(run := _recalled(fleet, host, play, {}), "plan")]
        for run in runs:
            for line in run.plan.undecided:
                self._display.warning(self._masked(f"{run.host}: {line}"))
        found = outset(runs)
        for line in found.warnings:
            self._display.warning(self._masked(line))
        if not found.todo:
            self._display.display(found.words, stderr=True)
        turns = list(range(len(fleet.turns)))
        return {"changed": False, "todo": found.todo, "batch": batch(runs), "turns": turns}

    def _refuse_other_values(self, fleet: Fleet, host: str, variables: dict[str, Any]) -> None:
        """Our variables are the inventory's and the project's: a play's own would be seen by nobody else."""
        declared = fleet.hosts[host]
        ours = {name: variables[name] for name in sorted(set(options()) & set(variables))}
        others = {name: value for name, value in ours.items() if value != declared.variables.get(name)}
        if "zmq_services" in others:
            others["zmq_services"] = without_others(others["zmq_services"], declared.groups)
        others = {name: self._templar.template(value) for name, value in others.items()}
        found = declared.variables
        if others != {name: found.get(name) for name in others}:
            beside = Path(str(variables["playbook_dir"]))
            if beside.resolve() != fleet.project:
                # a playbook elsewhere has other group_vars beside it, or none
                found = _beside_playbook(beside, fleet.inventory, _vaults(self._loader))[host]
        if wrong := [name for name, value in others.items() if value != found.get(name)]:
            raise FleetError(
                f"{', '.join(wrong)}: differs for {host} in this play (by vars, vars_files, set_fact, or with a role) "
                "from what pyinfra, the probe and the tests see; set it in group_vars or host_vars"
            )

    def _follow(self, actions: Actions, variables: dict[str, Any]) -> None:
        """Does what is next by Ansible's means, until there is nothing."""
        answer: Answer | None = None
        with contextlib.closing(actions), contextlib.suppress(StopIteration):
            while True:
                action = actions.send(answer)
                answer = self._do(action, variables)

    def _do(self, action: Action, variables: dict[str, Any]) -> Answer | None:
        seconds = _ASK_SECONDS if isinstance(action, Ask) else locking.WORKING
        with _in_time(variables["inventory_hostname"], seconds):
            return self._act(action, variables)

    def _act(self, action: Action, variables: dict[str, Any]) -> Answer | None:
        match action:
            case Ask(command):
                return self._shell(command)
            case Say(message):
                # not where callbacks print what programs read
                about = f"{variables['inventory_hostname']}: {message}"
                self._display.display(self._masked(about), stderr=True)
            case Warn(message):
                self._display.warning(self._masked(message))
            case Attempt(command):
                return self._marked(command)
            case Execute(command, as_root):
                self._must(command, as_root)
            case Install(packages):
                self._must(("sh", "-c", _BRING_PYTHON))
                arguments = {"name": list(packages), **_APT}
                done = self._execute_module("ansible.builtin.apt", module_args=arguments, task_vars=variables)
                if done.get("failed"):
                    said = done.get("stderr", "").strip() or done.get("msg", "")
                    raise HostError(f"apt: {said}")
            case Put():
                self._put(action)
            case _:
                raise HostError(f"{action}: this collection is of another version than the package zmqfleet")
        return None

    def _put(self, action: Put) -> None:
        content = action.file.content
        self._compare_file(action.file)
        with tempfile.NamedTemporaryFile(dir=_directory()) as local:
            if isinstance(content, Inline):
                local.write(content.data)
                local.flush()
            source = local.name if isinstance(content, Inline) else str(content.path)
            try:
                self._connection.put_file(source, action.upload)
            except AnsibleConnectionFailure:
                raise
            except AnsibleError as error:
                raise HostError(f"{action.file.path}: {error}") from None
        self._must(action.command)

    def _compare_file(self, file: File) -> None:
        """With --diff, the difference of a file that everybody may read."""
        content = file.content
        # no archive; what a terminal would obey, the host has not the say of
        if (
            self._task.diff
            and isinstance(content, Inline)
            and not content.secret
            and b"\0" not in content.data
        ):
            # what a login prints goes before it
            there = self._shell(f"echo {_MARK}; cat {shlex.quote(file.path)} 2>/dev/null")
            self._diffs.append(
                {
                    "before": printable(there.stdout.partition(f"{_MARK}\n")[2]),
                    "after": printable(content.data.decode(errors="replace")),
                    "before_header": file.path,
                    "after_header": file.path,
                }
            )

    def _must(self, command: tuple[str, ...], as_root: bool = True) -> None:
        done = self._marked(command, as_root)
        if not done.succeeded:
            raise HostError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")

    def _marked(self, command: tuple[str, ...], as_root: bool = True) -> Answer:
        """What comes of a command that changes something: it has the environment of the task, and the run's mark."""
        return self._shell(f"{self._compute_environment_string()} {shlex.join(command)} </dev/null", as_root)

    def _shell(self, command: str, as_root: bool = True) -> Answer:
        # what is sent keeps Ansible from giving the command a terminal, which would mix errors with the rest
        done = self._low_level_execute_command(command, as_root, b"\n", executable="/bin/sh")
        return Answer(done["rc"] == 0, done["stdout"], done["stderr"])

    def _changed(self, changes: list[str]) -> dict[str, Any]:
        # shown without -v, too: what was changed is what a run is about
        shown = {"changes": list(changes), "_ansible_verbose_always": True} if changes else {}
        return {"changed": bool(changes), **shown, **({"diff": self._diffs} if self._diffs else {})}

    def _forecast(self, run: HostRun, capability: str, phase: str, turn: int | None) -> list[str]:
        """What the phase would change; and, with --diff, the differences of files that everybody may read."""
        found = run.foreseen(phase, capability, turn)
        for change in found:
            if isinstance(file := getattr(change, "resource", None), File):
                self._compare_file(file)
        return [str(change) for change in found]


def _limit_memory() -> None:
    """Whatever a host prints fills no more than this process, which is the task's alone."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
    resource.setrlimit(resource.RLIMIT_DATA, (used + _MEMORY, resource.getrlimit(resource.RLIMIT_DATA)[1]))


@contextlib.contextmanager
def _in_time(host: str, seconds: int) -> Iterator[None]:
    """A host that has not answered in time fails."""

    def give_up(*_: object) -> None:
        raise HostError(f"{host}: has not ended its answer within {seconds} s")

    earlier = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, earlier)


def _turns(phase: str, capability: str, roles: list[str]) -> list[str]:
    """The capabilities whose turn it is in a phase: the one that is named, else those that no role of the play is for,
    whose tasks may have been left out by --skip-tags or --start-at-task."""
    has_role = {role.rpartition(".")[2] for role in roles}
    if not capability and phase in (INSTALL, CONFIGURE):
        return [one for one in ORDER if one not in has_role]
    if not capability and phase in (START, ROLL_OUT) and "zmq_service" in has_role:
        return []
    return [capability]


def _is_whole(roles: list[str]) -> bool:
    """Whether role fleet is in the play, which places what no other role has, and no task is left out."""
    given = context.CLIARGS
    chosen = set(given["tags"]) != {"all"} or given["skip_tags"] or given["start_at_task"] or given["step"]
    return not chosen and any(role.rpartition(".")[2] == "fleet" for role in roles)


def _directory() -> Path:
    """The run's own directory on the controller; Ansible removes it at its end."""
    directory = Path(C.DEFAULT_LOCAL_TMP) / "zmqfleet"
    directory.mkdir(mode=0o700, exist_ok=True)
    return directory


@contextlib.contextmanager
def _alone(name: str) -> Iterator[None]:
    """No other process of this run is inside meanwhile."""
    with (_directory() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fleet(loader: Any, variables: dict[str, Any]) -> Fleet:
    """The fleet, loaded once a run, whichever host asks first. Raises FleetError."""
    project, inventory = _project(variables), _inventory(variables)
    kept = _directory() / f"fleet-{_name(f'{project} {inventory}')}"
    with _alone(kept.name):
        if kept.exists():
            return pickle.loads(kept.read_bytes())
        _refuse_extra_variables(load_extra_vars(loader))
        fleet = load(project, inventory, alone=True, vaults=_vaults(loader))
        _refuse_other_hosts(fleet, inventory, variables["groups"]["all"])
        for service in fleet.services.values():
            release(fleet, service)  # computed once, too
        kept.write_bytes(pickle.dumps(fleet))
    return fleet


def _vaults(loader: Any) -> list[tuple[str, bytes]]:
    """The passwords of vaults that this run of Ansible has, whichever way it was given them."""
    return [(name or "default", secret.bytes) for name, secret in loader._vault.secrets]


def _name(text: str) -> str:
    """A file name for it."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextlib.contextmanager
def _kept(fleet: Fleet, host: str, play: str) -> Iterator[HostRun]:
    """What the run knows of a host; it is read anew in each play, between which others may have changed it."""
    failures = _directory() / "failed"
    with _alone("failed"):
        failed = pickle.loads(failures.read_bytes()) if failures.exists() else {}
    run = _recalled(fleet, host, play, dict(failed))
    try:
        yield run
    finally:
        if hasattr(run, "plan"):
            new = _memory(host, play).with_suffix(".new")
            new.write_bytes(pickle.dumps(run.memory()))
            new.replace(_memory(host, play))
        if run.failed != failed:
            with _alone("failed"):
                others = pickle.loads(failures.read_bytes()) if failures.exists() else {}
                failures.write_bytes(pickle.dumps({**others, **run.failed}))


def _recalled(fleet: Fleet, host: str, play: str, failed: dict[str, Failure]) -> HostRun:
    run = HostRun(fleet, host, locking.Holder.of(os.getppid()), failed)
    if (kept := _memory(host, play)).exists():
        run.recall(pickle.loads(kept.read_bytes()))
    return run


def _memory(host: str, play: str) -> Path:
    return _directory() / f"host-{_name(f'{play} {host}')}"


def _refuse_extra_variables(extra: dict[str, Any]) -> None:
    if ours := sorted(set(extra) & set(options())):
        raise FleetError(
            f"{', '.join(ours)}: given with --extra-vars, which pyinfra, the probe and the tests would not see; "
            "set it in group_vars or host_vars"
        )


def _beside_playbook(
    directory: Path, inventory: Path, vaults: list[tuple[str, bytes]]
) -> dict[str, dict[str, Any]]:
    """Each host's variables as Ansible gives them to a playbook in a directory, before the play's own."""
    kept = _directory() / f"beside-{_name(f'{directory} {inventory}')}"
    with _alone(kept.name):
        if not kept.exists():
            try:
                found = load_hosts(directory, inventory, vaults)
            except InventoryError as error:
                raise FleetError(str(error)) from None
            kept.write_bytes(pickle.dumps({name: one.variables for name, one in found.items()}))
        return pickle.loads(kept.read_bytes())


def _project(variables: dict[str, Any]) -> Path:
    if given := os.environ.get("ZMQFLEET_PROJECT"):
        return Path(given).resolve()
    playbooks = Path(str(variables["playbook_dir"])).resolve()
    for path in (playbooks, Path.cwd()):
        if (path / "group_vars").is_dir() or (path / "inventories").is_dir():
            return path
    return playbooks


def _inventory(variables: dict[str, Any]) -> Path:
    """The fleet's inventory: Ansible's only source, else the one that ZMQFLEET_INVENTORY names among several."""
    sources = {Path(str(source)).resolve() for source in variables.get("ansible_inventory_sources") or []}
    chosen = os.environ.get("ZMQFLEET_INVENTORY")
    inventory = Path(chosen).resolve() if chosen else next(iter(sources), None)
    given = ", ".join(map(str, sorted(sources))) or "none"
    if inventory not in sources:
        raise FleetError(
            f"ZMQFLEET_INVENTORY is {chosen}, but Ansible's inventory is {given}: give it the same with -i"
        )
    if len(sources) > 1 and not chosen:
        raise FleetError(
            f"one inventory makes a fleet, but -i gives {given}: name that one in ZMQFLEET_INVENTORY"
        )
    return inventory


def _refuse_other_hosts(fleet: Fleet, inventory: Path, hosts: list[str]) -> None:
    if others := sorted(set(hosts) - set(fleet.hosts)):
        raise FleetError(f"{', '.join(others)}: in a source of Ansible's other than {inventory}, the fleet's")
