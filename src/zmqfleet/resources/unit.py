"""Units of systemd."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from zmqfleet.resources.base import Actual, Resource
from zmqfleet.resources.profile import ENABLED
from zmqfleet.resources.stat import parse_stat, stat

_PROPERTIES = (
    "Id,LoadState,UnitFileState,ActiveState,SubState,NeedDaemonReload,FragmentPath,NRestarts,InactiveExitTimestamp,"
    "ExecMainStartTimestamp,MainPID,ExecMainStatus,Result,DropInPaths"
)
# a unit that was started again by systemd within this time (seconds) before the read may be in a loop
_RESTARTED_LATELY = 30
_STOP = (
    'systemctl --quiet disable "$0" 2>/dev/null; systemctl stop "$0" 2>/dev/null; '
    # what is masked is not disabled
    'rm -f /etc/systemd/system/*.wants/"$0"; '
    'systemctl reset-failed "$0" 2>/dev/null; ! systemctl --quiet is-active "$0"'
)


@dataclass(frozen=True)
class Unit(Resource):
    """A systemd unit, enabled and active; `start` is the command that starts it, or starts it anew, and proves that it
    runs. It is to be started anew if one of `restarted_by`, paths, is newer than its process, if that process runs
    another file than `program`, or as another than `user`, or if `unproven`, a path, is there: that follows from the
    host alone, so a run that was killed half-way is made good by the next. So it is if one of its drop-ins, which are
    others', has changed, or is gone without systemd having been told; and if AppArmor, where the kernel has it, labels
    the process with something else than `confined`."""

    kind: ClassVar[str] = "unit"
    name: str
    start: tuple[str, ...]
    restarted_by: tuple[str, ...] = ()
    program: str = ""
    unproven: str = ""
    user: str = ""
    confined: str = ""

    @property
    def path(self) -> str:
        """The path of its file."""
        return f"/etc/systemd/system/{self.name}"

    def differs(self, actual: Actual) -> str:
        found = actual.units.get(self.name, {})
        if found.get("LoadState") != "loaded":
            return "missing"
        if found.get("FragmentPath") != self.path:
            return f"is that of {found.get('FragmentPath')}"
        if found.get("UnitFileState") != "enabled":
            return f"is {found.get('UnitFileState') or 'not enabled'}"
        return self.restart(actual)

    def restart(self, actual: Actual) -> str:
        """Why it must be started, or started anew; empty if it need not."""
        found = actual.units.get(self.name, {})
        if found.get("ActiveState") != "active":
            return f"is {found.get('ActiveState') or 'missing'}"
        started = seconds(found.get("ExecMainStartTimestamp", ""))
        for path in self.restarted_by:
            # what is from the future was written before the clock was set right
            if path in actual.paths and float(found["now"]) >= actual.paths[path].changed > started:
                return f"runs with an earlier {path}"
        if float(found["now"]) >= float(found.get("dropin", 0)) > started:
            return "runs with an earlier drop-in"
        if found.get("NeedDaemonReload") == "yes":  # also of a drop-in that is gone
            return "must be loaded again"
        if self.user and found.get("user") != self.user:
            return f"runs as {found.get('user') or 'nobody known'}"
        if self.confined and found.get("label", self.confined) != self.confined:
            return f"is {found['label']} to AppArmor, not {self.confined}"
        if self.program and found.get("exe") != self.program:
            return f"runs {found.get('exe') or 'nothing'}"
        if self.unproven and self.unproven in actual.paths:
            return "was not proven to run"
        if int(found.get("NRestarts") or 0) and float(found["now"]) - started < _RESTARTED_LATELY:
            return f"keeps restarting ({found['NRestarts']} times, status {found.get('ExecMainStatus')})"
        return ""

    def commands(self, actual: Actual, triggered: bool) -> list[tuple[str, ...]]:
        """What makes it as it is to be; `triggered`: what it runs with has changed since it was read."""
        if triggered or self.restart(actual):
            return [self.start]
        return [("systemctl", "daemon-reload"), ("systemctl", "--quiet", "enable", self.name)]

    def is_there(self, actual: Actual) -> bool:
        return actual.units.get(self.name, {}).get("LoadState", "not-found") != "not-found"

    @classmethod
    def remove(cls, entry: Mapping[str, Any]) -> list[tuple[str, ...]]:
        return [("sh", "-c", _STOP, entry["name"])]

    @classmethod
    def read(cls, items: Sequence["Unit"]) -> str:
        names = shlex.join([one.name for one in items])
        # systemd prints a block a unit; the empty line at the end closes the last one
        return (
            f"{stat([one.unproven for one in items if one.unproven])}; "
            f"if {ENABLED}; then apparmor=yes; else apparmor=; fi; "
            f"(systemctl show --timestamp=us+utc -p {_PROPERTIES} {names} 2>/dev/null; echo) | "
            'while IFS= read -r line; do printf "%s\\n" "$line"; case $line in '
            'MainPID=[1-9]*) process=/proc/${line#MainPID=}; uid=; echo "exe=$(readlink "$process/exe")"; '
            'while read -r key uid _ && [ "$key" != Uid: ]; do :; done 2>/dev/null <"$process/status"; '
            'user=$(getent passwd "$uid"); echo "user=${user%%:*}"; '
            '[ -z "$apparmor" ] || echo "label=$(cat "$process/attr/current")";; '
            # those of system.control are properties, which hold as soon as they are set
            'DropInPaths=*) for one in "/etc/systemd/system/$id.d" ${line#DropInPaths=}; do '
            'case $one in */system.control/*) ;; *) [ ! -e "$one" ] || stat -c dropin=%.9Z "$one" ;; esac; done;; '
            'Id=*) id=${line#Id=}; echo "now=$(date +%s.%N)";; esac; done'
        )

    @classmethod
    def parse(cls, line: str, actual: Actual) -> None:
        if line.count("|") == 5:
            parse_stat(line, actual)
            return
        # the block's own name is not its first line, so it is collected under no name
        block = actual.units.setdefault("", {})
        if line:
            key, value = line.split("=", 1)
            # of several the latest one counts
            block[key] = value if key != "dropin" else str(max(float(value), float(block.get(key, 0))))
        else:
            del actual.units[""]
            if "Id" in block:
                # read where hosts are compared; what is no number must end this host's read, and nobody else's
                float(block.get("now", "")), int(block.get("NRestarts") or 0)
                actual.units[block["Id"]] = block


def seconds(timestamp: str) -> float:
    """A time of systemd's, `Sat 2026-11-21 13:53:10.123456 UTC`, in seconds; 0 if there is none."""
    try:
        return datetime.strptime(timestamp + "+0000", "%a %Y-%m-%d %H:%M:%S.%f UTC%z").timestamp()
    except ValueError:
        return 0.0
